"""A sharded model (torch's FSDP2): each process holds a shard of every weight, average and moment.

A layer's weights are gathered while it computes and freed afterwards. They are `DTensor`s, split along the first axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from tintype.model.denoiser import Denoiser
from tintype.model.meta_device import meta_device


def meta_copy(denoiser: Denoiser) -> Denoiser:
    """A second denoiser, built on the meta device, that shares the weights of the first until it is sharded."""
    with meta_device():
        copy = Denoiser(denoiser.config, denoiser.tokenizer, prediction=denoiser.prediction)
    copy.load_state_dict(denoiser.state_dict(), assign=True)
    return copy


def fully_shard_(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Shard the weights of `module` over the processes of `mesh`, in place: block by block, then the rest."""
    denoisers = [part for part in module.modules() if isinstance(part, Denoiser)]
    for unit in (unit for denoiser in denoisers for unit in denoiser.shard_units()):
        fully_shard(unit, mesh=mesh)
    return cast(nn.Module, fully_shard(module, mesh=mesh))


def distribute_like(tensor: Tensor, weight: Tensor) -> Tensor:
    """Shard `tensor`, which every process has in full, as `weight` is. Sends nothing."""
    assert isinstance(weight, DTensor)
    return distribute_tensor(tensor.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None)


def distribute_matrices(function: Callable[[Tensor], Tensor], matrices: Tensor) -> Tensor:
    """Apply `function` to sharded matrices [N, m, n]; the results are sharded in the same way.

    Each process gathers its share of the matrices and computes these in full.
    """
    assert isinstance(matrices, DTensor)
    mesh = matrices.device_mesh
    gathered = matrices.redistribute(mesh, [Shard(0)])
    local = function(gathered.to_local()).contiguous()
    strides = (matrices.shape[1] * matrices.shape[2], matrices.shape[2], 1)
    results = DTensor.from_local(local, mesh, [Shard(0)], run_check=False, shape=matrices.shape, stride=strides)
    return results.redistribute(mesh, matrices.placements)
