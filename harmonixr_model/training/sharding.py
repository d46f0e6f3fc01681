"""A model's weights, gradients and optimizer spread over workers (FSDP2), and brought together again to be kept.

Zhao et al. 2023, "PyTorch FSDP". Everything here is collective: every worker calls it equally often. Its imports are
within functions: they take as long as all of torch, and few runs are sharded. Knows no task and no files.
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
    """Give every worker the first one's weights."""
    for weight in model.parameters():
        dist.broadcast(weight.data, src=0)


def shard(model: nn.Module) -> None:
    """Spread the weights over all workers, in place: each layer is gathered when it is needed, and let go after.

    Must come before the optimizer is made, which then holds shards too.
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
    """Leave the next backward's gradients here unless it is the step's last: they cross the network once a step."""
    from torch.distributed.fsdp import FSDPModule

    assert isinstance(model, FSDPModule)
    model.set_requires_gradient_sync(is_last)


def whole(value: Tensor) -> Tensor:
    """Return a tensor in one piece, whatever part of it is here."""
    from torch.distributed.tensor import DTensor

    gathered: Tensor = value.full_tensor() if isinstance(value, DTensor) else value
    return gathered


def whole_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both states in one piece, on the host of the first worker; the others get empty ones."""
    from torch.distributed.checkpoint.state_dict import get_state_dict

    weights, moments = get_state_dict(model, optimizer, options=_options(offloads=True))
    return dict(weights), dict(moments)


def load_whole_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, weights: dict[str, Any], moments: dict[str, Any]
) -> None:
    """Take this worker's shards out of states that every worker has in one piece."""
    from torch.distributed.checkpoint.state_dict import set_state_dict

    set_state_dict(
        model, optimizer, model_state_dict=weights, optim_state_dict=moments, options=_options(offloads=False)
    )


def _options(*, offloads: bool) -> StateDictOptions:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, cpu_offload=offloads)
