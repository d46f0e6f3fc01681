"""Save and load an infill model as one safetensors file: weights, config, vocabulary hash and information about it.

The format holds no code, so files from untrusted sources are safe to load.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open

from harmonixr_model.errors import CheckpointError
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.copy_gate import CopyGate
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.nn.weights_file import write_weights
from harmonixr_model.notes.vocabulary import VOCAB

FORMAT = "harmonixr.infill.1"
_COPY_GATE = "pointer.gate"
_CONTROLS = "embedding.asked.weight"


def save_checkpoint(
    path: str | os.PathLike[str],
    model: InfillTransformer,
    *,
    info: dict[str, Any],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write the model atomically. `info` is any JSON: tokens seen, bits per note, data, licence."""
    weights = {name: weight.detach().to("cpu", dtype).contiguous() for name, weight in model.state_dict().items()}
    if model.copy_gate is not None:
        weights[_COPY_GATE] = model.copy_gate.weight_KF.float().contiguous()
    metadata = {
        "format": FORMAT,
        "config": json.dumps(model.config.to_dict()),
        "vocabulary": str(VOCAB.hash),
        "info": json.dumps(info),
    }
    write_weights(Path(path), weights, metadata)


def read_info(path: str | os.PathLike[str]) -> tuple[InfillConfig, dict[str, Any]]:
    """Return config and info without reading the weights; raises CheckpointError."""
    metadata = _metadata(Path(path))
    return InfillConfig.from_dict(json.loads(metadata["config"])), dict(json.loads(metadata["info"]))


def load_checkpoint(
    path: str | os.PathLike[str], *, device: torch.device | str = "cpu"
) -> tuple[InfillTransformer, dict[str, Any]]:
    """Return (model in fp32 and evaluation mode, info); raises CheckpointError, FileNotFoundError."""
    path = Path(path)
    config, info = read_info(path)
    model = InfillTransformer(config)
    with safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  not a dict
    gate_KF = weights.pop(_COPY_GATE, None)
    if _CONTROLS in weights:
        weights[_CONTROLS] = F.pad(weights[_CONTROLS], (0, 0, 0, config.control_values - len(weights[_CONTROLS])))
    try:
        model.load_state_dict(weights)
        model.copy_gate = None if gate_KF is None else CopyGate(gate_KF)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: the weights do not fit the config of the file: {error}") from error
    return model.to(device).eval(), info


def _metadata(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise FileNotFoundError(2, "no such checkpoint", str(path))
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not an infill checkpoint of format {FORMAT}")
    if metadata["vocabulary"] != str(VOCAB.hash):
        raise CheckpointError(
            f"{path} was trained with vocabulary {metadata['vocabulary']}, this version has {VOCAB.hash}: "
            "use the matching version of harmonixr, or train again"
        )
    return metadata
