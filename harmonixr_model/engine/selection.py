"""Choose the runner, the sampler and the batch for a model."""

from __future__ import annotations

import ctypes

from harmonixr_model.engine.batch import DecodeBatch, PythonBatch, SplitBatch
from harmonixr_model.engine.native.batch import NativeBatch
from harmonixr_model.engine.native.library import load_library
from harmonixr_model.engine.native.runner import NativeRunner, is_supported
from harmonixr_model.engine.native.sampler import NativeSampler
from harmonixr_model.engine.runner import TorchRunner
from harmonixr_model.engine.sampler import Sampler, SplitSampler, TorchSampler
from harmonixr_model.infill.copy_gate import CopyGate
from harmonixr_model.infill.model import InfillTransformer


def open_batch(
    model: InfillTransformer, *, rows: int, length: int | None = None, compiled: bool = False
) -> DecodeBatch:
    """Return an empty batch for at most `rows` rows of `length` tokens (the model's own length by default).

    With `compiled`, the C++ library decodes a model on a processor in bf16, and samples for a model on an accelerator.
    Its first use on a machine compiles it, which takes a few seconds. Without `compiled`, or without a C++ compiler,
    PyTorch does all of it.
    """
    library = load_library(may_compile=True) if compiled else None
    if library is not None and model.norm.weight.device.type == "cpu" and is_supported(model.config):
        runner, gate = NativeRunner(model, library), model.copy_gate
        python = PythonBatch(runner, _sampler(library, gate))
        return SplitBatch(NativeBatch(runner, library, gate=gate), python, is_native=NativeBatch.supports)
    torch_runner = TorchRunner(model, rows=rows, length=length or model.config.max_length)
    return PythonBatch(torch_runner, _sampler(library, model.copy_gate))


def _sampler(library: ctypes.CDLL | None, gate: CopyGate | None) -> Sampler:
    python = TorchSampler(gate=gate)
    return python if library is None else SplitSampler(NativeSampler(library, gate=gate), python)
