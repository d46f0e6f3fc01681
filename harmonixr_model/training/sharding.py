"""Shard weights, gradients and optimizer state over workers (FSDP2), and gather them for saving.

Zhao et al. 2023, "PyTorch FSDP". All functions are collective: every worker calls them equally often. FSDP is imported
inside the functions: its import takes as long as torch's, and few runs need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.checkpoint.state_dict import StateDictOptions


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """Return the repeated layers: the members of the model's lists of modules."""
    return [block for module in model.modules() if isinstance(module, nn.ModuleList) for block in module]


def agree_on_weights(model: nn.Module) -> None:
    """Copy the first worker's weights to all workers."""
    for weight in model.parameters():
        dist.broadcast(weight.data, src=0)


def shard(model: nn.Module) -> None:
    """Shard the weights over all workers, in place: each layer is gathered while it is needed.

    Call it before creating the optimizer, which then holds shards too.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    agree_on_weights(model)
    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    for block in blocks_of(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def sums_gradients_at(model: nn.Module, is_last: bool) -> None:
    """Reduce gradients over the network only in the last backward pass of a step."""
    from torch.distributed.fsdp import FSDPModule

    assert isinstance(model, FSDPModule)
    model.set_requires_gradient_sync(is_last)


def whole(value: Tensor) -> Tensor:
    """Return the whole tensor of a shard."""
    from torch.distributed.tensor import DTensor

    gathered: Tensor = value.full_tensor() if isinstance(value, DTensor) else value
    return gathered


def whole_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both whole states on the host of the first worker; other workers get empty ones."""
    from torch.distributed.checkpoint.state_dict import get_state_dict

    weights, moments = get_state_dict(model, optimizer, options=_options(offloads=True))
    return dict(weights), dict(moments)


def load_whole_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, weights: dict[str, Any], moments: dict[str, Any]
) -> None:
    """Load this worker's shards from whole states, which every worker has."""
    from torch.distributed.checkpoint.state_dict import set_state_dict

    set_state_dict(
        model, optimizer, model_state_dict=weights, optim_state_dict=moments, options=_options(offloads=False)
    )


def _options(*, offloads: bool) -> StateDictOptions:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, cpu_offload=offloads)
