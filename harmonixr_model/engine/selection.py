"""Which runner and which chooser a model gets: the one place that decides. Knows nothing of requests."""

from __future__ import annotations

import ctypes
import logging

from harmonixr_model.engine.batch import DecodeBatch, PythonBatch, SplitBatch
from harmonixr_model.engine.native.batch import NativeBatch
from harmonixr_model.engine.native.library import load_library
from harmonixr_model.engine.native.runner import NativeRunner, is_supported
from harmonixr_model.engine.native.sampler import NativeSampler
from harmonixr_model.engine.runner import TorchRunner
from harmonixr_model.engine.sampler import Sampler, SplitSampler, TorchSampler
from harmonixr_model.infill.copy_gate import CopyGate
from harmonixr_model.infill.model import InfillTransformer

_log = logging.getLogger(__name__)


def open_batch(
    model: InfillTransformer, *, rows: int, length: int | None = None, compiled: bool = False
) -> DecodeBatch:
    """Return an empty batch for at most `rows` rows of `length` tokens (the model's own by default).

    Compiled, a model on a processor runs in bf16 by the C++ step; the first time on a machine that takes a few seconds
    of compiling. Where there is no compiler, and uncompiled, it runs eagerly as it is. On an accelerator PyTorch runs
    the model and the compiled library chooses.
    """
    library = load_library(may_compile=True) if compiled else None
    if library is not None and model.norm.weight.device.type == "cpu" and is_supported(model.config):
        native, gate = NativeRunner(model, library), model.copy_gate
        return SplitBatch(NativeBatch(native, library, gate=gate), PythonBatch(native, _chooser(library, gate)))
    runner = TorchRunner(model, rows=rows, length=length or model.config.max_length)
    return PythonBatch(runner, _chooser(library, model.copy_gate))


def _chooser(library: ctypes.CDLL | None, gate: CopyGate | None) -> Sampler:
    plain = TorchSampler(gate=gate)
    # The compiled grammar knows no attribute-only fills; they are few and short.
    return plain if library is None else SplitSampler(NativeSampler(library, gate=gate), plain)
