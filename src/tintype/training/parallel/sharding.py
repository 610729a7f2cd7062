"""A model shared out over processes (torch's FSDP2): each holds a part of every weight, average and moment.

A whole layer is gathered where it computes and let go afterwards. Weights are `DTensor`s, parted along the first axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from tintype.model.denoiser import Denoiser
from tintype.model.nets.dit import Block
from tintype.model.nets.text import TextBlock


def meta_copy(denoiser: Denoiser) -> Denoiser:
    """A second denoiser, built on the meta device, that shares the weights of the first until it is sharded."""
    with torch.device("meta"):
        twin = Denoiser(denoiser.config, denoiser.tokenizer, prediction=denoiser.prediction)
    twin.load_state_dict(denoiser.state_dict(), assign=True)
    return twin


def fully_shard_(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Part the weights of `module` over the processes of `mesh`, in place: block by block, then all that is left."""
    blocks = [part for part in module.modules() if isinstance(part, Block)]
    fully_shard(cast("list[nn.Module]", [block.text for block in blocks]), mesh=mesh)  # read before their blocks are
    for part in (*blocks, *(part for part in module.modules() if isinstance(part, TextBlock))):
        fully_shard(part, mesh=mesh)
    return cast(nn.Module, fully_shard(module, mesh=mesh))


def distribute_like(whole: Tensor, weight: Tensor) -> Tensor:
    """This process's part of `whole`, which all processes have, shared out as `weight` is. Sends nothing."""
    assert isinstance(weight, DTensor)
    return distribute_tensor(whole.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None)


def distribute_matrices(function: Callable[[Tensor], Tensor], matrices: Tensor) -> Tensor:
    """`function` of matrices [N, m, n], each on its own, where processes share every matrix.

    Each process computes its share of whole matrices, and then has its part of every result.
    """
    assert isinstance(matrices, DTensor)
    mesh = matrices.device_mesh
    whole = matrices.redistribute(mesh, [Shard(0)])
    found = function(whole.to_local()).contiguous()
    strides = (matrices.shape[1] * matrices.shape[2], matrices.shape[2], 1)
    results = DTensor.from_local(found, mesh, [Shard(0)], run_check=False, shape=matrices.shape, stride=strides)
    return results.redistribute(mesh, matrices.placements)
