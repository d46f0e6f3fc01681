"""Count the floating-point operations of a step and measure the machine's peak: model FLOPs utilisation (MFU).

As in PaLM (Chowdhery et al. 2022, appendix B), only the operations that the model needs count: no padding and no unused
positions. A backward pass counts as two forward passes.
"""

# B batch, T tokens, C width, L layers, V vocabulary

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from harmonixr_model.data.collate import Batch
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.nn.block import gated_width

# Dense bf16, from the vendors' data sheets, without the doubled numbers for sparse matrices.
_GPU_BF16 = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L4": 121e12}
_SIDE = 1024
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Peak:
    """Floating-point operations per second of one worker, and the source of the number."""

    flops: float
    source: str


def batch_flops(config: InfillConfig, batch: Batch) -> float:
    """Count a forward and a backward pass over the batch's tokens; embedding look-ups count as 0."""
    length_B, prefix_B = batch.length_B.double(), batch.prefix_length_B.double()
    if config.attending == "causal":
        prefix_B = torch.zeros_like(prefix_B)
    fill_B = length_B - prefix_B
    # Pairs of attention: the prefix attends to all of itself, each later token to earlier ones and itself.
    pairs = float((prefix_B**2 + fill_B * prefix_B + fill_B * (fill_B + 1) / 2).sum())
    layer = 4 * config.width**2 + 3 * config.width * gated_width(config.width)
    weights = config.layers * layer + config.width**2 * config.coordinates  # the projection of previous tokens
    targets = float(batch.loss_mask_BT[:, 1:].sum())
    forward = (
        2 * weights * float(length_B.sum())
        + 4 * config.layers * config.width * pairs  # queries times keys, then probabilities times values
        + 2 * config.width * config.vocabulary * targets
    )
    return 3 * forward


def peak_of(device: torch.device, *, is_bf16: bool) -> Peak:
    """Return a known GPU's peak from its data sheet; measure that of other devices now."""
    kind = "bf16" if is_bf16 else "fp32"
    if device.type == "cuda" and is_bf16:
        name = torch.cuda.get_device_name(device)
        for known, flops in _GPU_BF16.items():
            if known in name:
                return Peak(flops, f"{known} data sheet, dense bf16")
    measured = measure_peak(device, torch.bfloat16 if is_bf16 else torch.float32)
    return Peak(measured, f"best of {_TRIES} products of {_SIDE} x {_SIDE} matrices in {kind}")


def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Multiply two square matrices a few times and return the best rate; uses no random numbers."""
    one = torch.ones(_SIDE, _SIDE, dtype=dtype, device=device)
    best_s = float("inf")
    for _ in range(_TRIES + 1):  # the first one also compiles and allocates
        began = time.perf_counter()
        one @ one
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best_s = min(best_s, time.perf_counter() - began)
    return 2 * _SIDE**3 / best_s
