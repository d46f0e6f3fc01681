"""Select the model, the task and the corpus of a training run by the names of their variants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, TypeAlias

from safetensors import safe_open
from torch import nn

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.nn.weights_file import write_weights
from harmonixr_model.training.infill_task import InfillTask
from harmonixr_model.variants.compound import CompoundTransformer
from harmonixr_model.variants.compound_task import CompoundTask
from harmonixr_model.variants.encoder_decoder import EncoderDecoder
from harmonixr_model.variants.single_key_corpus import SingleKeyCorpus

Variant: TypeAlias = Literal["decoder", "encoder_decoder", "compound"]
DEFAULT_VARIANT: Variant = "decoder"
FORMAT = "harmonixr.variant.1"

_MODELS: dict[Variant, type[InfillTransformer | EncoderDecoder | CompoundTransformer]] = {
    DEFAULT_VARIANT: InfillTransformer,
    "encoder_decoder": EncoderDecoder,
    "compound": CompoundTransformer,
}


def build_model(variant: Variant, config: InfillConfig) -> nn.Module:
    """Return an untrained model."""
    return _MODELS[variant](config)


def task_class(variant: Variant) -> type[InfillTask]:
    """Return the training task of a model."""
    return CompoundTask if variant == "compound" else InfillTask


def open_corpus(folder: Path, *, single_key: bool) -> Corpus:
    """Open a corpus, with `single_key` transposed to C major and A minor; raises CorpusError."""
    return (SingleKeyCorpus if single_key else Corpus).open(folder)


def save_variant(path: Path, model: nn.Module, variant: Variant, config: InfillConfig, *, info: dict[str, Any]) -> None:
    """Write a trained variant as safetensors. The format is its own, so that no decoder loads it."""
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    metadata = {"format": FORMAT, "variant": variant, "config": json.dumps(config.to_dict()), "info": json.dumps(info)}
    write_weights(path, weights, metadata)


def read_variant_info(path: Path) -> dict[str, Any]:
    """Return the info that `save_variant` wrote."""
    with safe_open(path, framework="pt") as file:
        return dict(json.loads(file.metadata()["info"]))
