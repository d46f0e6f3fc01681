"""Write named tensors as one safetensors file, atomically; the same content always gives the same bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor


def write_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write contiguous CPU tensors and text metadata to `path`; creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(_canonical(save(dict(weights), dict(metadata))))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _canonical(data: bytes) -> bytes:
    """Sort the header's metadata, which safetensors writes in any order: the same model is then the same file.

    A file is the header's length (8 bytes, little-endian), the header in JSON padded with spaces, and the weights.
    """
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]
