"""The processes of a run: their ranks, collective calls between them, and the data-parallel or sharded model.

torchrun starts them, and every process computes its share of each batch. Either all hold the whole model and
`DistributedDataParallel` sums its gradients, or each holds a shard of it (`sharding`). Rank 0 alone prints and decides,
and writes everything that is not sharded.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tintype.errors import ConfigError, TrainingError

STEP_SECONDS = 50  # timeout of collective calls within a step; a process that died is noticed at once
WAIT_SECONDS = 24 * 3600  # timeout while rank 0 prepares data, draws samples or saves
SAVE_SECONDS = 600  # timeout of the threads that write a sharded checkpoint together
BUCKET_MIB = 8  # gradients sent at once, while others are still being computed


class World:
    """The processes of a run; by default there is only this one.

    Args:
        waiting: process group with a long timeout.
        saving: process group for the threads that write checkpoints; the model is sharded if there is one.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        waiting: dist.ProcessGroup | None = None,
        saving: dist.ProcessGroup | None = None,
    ) -> None:
        self.rank = rank
        self.size = size
        self.saving = saving
        self._waiting = waiting

    @property
    def is_main(self) -> bool:
        """Whether this process is rank 0, which writes, prints and decides."""
        return self.rank == 0

    @property
    def is_sharded(self) -> bool:
        """Whether every process holds only a shard of the model."""
        return self.saving is not None

    def sum_(self, values: Tensor) -> Tensor:
        """Replace `values`, a tensor on the CPU, by their sum over all processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def min(self, value: int) -> int:
        """The smallest `value` of any process."""
        if self.size == 1:
            return value
        smallest = torch.tensor([value])
        dist.all_reduce(smallest, dist.ReduceOp.MIN)
        return int(smallest)

    def max(self, value: int) -> int:
        """The largest `value` of any process."""
        return -self.min(-value)

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """Each flag: whether it is set in at least one process."""
        if self.size == 1:
            return list(flags)
        return (self.sum_(torch.tensor(flags, dtype=torch.int64)) > 0).tolist()

    def distribute_matrices(
        self, function: Callable[[Tensor], Tensor], matrices: Tensor, call_index: int = 0
    ) -> Tensor:
        """Apply `function` to matrices [N, m, n]: every process computes its share, and all of them get all results.

        call_index: call counter; rotates which rank gets the remainder. Results are sharded if `matrices` are.
        """
        if self.size == 1:
            return function(matrices)
        if self.is_sharded:
            from tintype.training.parallel.sharding import distribute_matrices

            return distribute_matrices(function, matrices)
        num = -(-len(matrices) // self.size)
        chunk = (self.rank + call_index) % self.size
        local = function(matrices[chunk * num : (chunk + 1) * num])  # of no matrix, it still has the right dtype
        padded = local.new_zeros(num, *matrices.shape[1:])
        padded[: len(local)] = local
        results = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(results, padded)
        return torch.cat([results[(index - call_index) % self.size] for index in range(self.size)])[: len(matrices)]

    def barrier(self) -> None:
        """Wait for every process, however long rank 0 takes."""
        if self._waiting is not None:
            dist.all_reduce(torch.zeros(1), group=self._waiting)

    def broadcast(self, text: str) -> str:
        """The `text` that rank 0 passes, in all processes; the others wait for it."""
        if self._waiting is None:
            return text
        content = text.encode()
        size = torch.tensor([len(content)])
        dist.broadcast(size, 0, group=self._waiting)
        data = torch.zeros(int(size), dtype=torch.uint8)
        if self.is_main:
            data = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else data
        dist.broadcast(data, 0, group=self._waiting)
        return bytes(data.tolist()).decode()

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module to call in training steps; its gradients are the mean over all processes.

        All processes must hold equal weights. Moves the weights of `module`, or this process's shard, to `device`.
        """
        if self.is_sharded:
            from torch.distributed.device_mesh import init_device_mesh

            from tintype.training.parallel.sharding import fully_shard_

            return fully_shard_(module, init_device_mesh(device.type, (self.size,)))
        module.to(device)
        if self.size == 1:
            return module
        return DistributedDataParallel(module, gradient_as_bucket_view=True, bucket_cap_mb=BUCKET_MIB)


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor (asked without importing that class, which takes seconds)."""
    return hasattr(tensor, "to_local")


def local_shard(tensor: Tensor) -> Tensor:
    """This process's shard of a tensor, or all of an ordinary one. Shares its memory."""
    return cast(Tensor, tensor.to_local()) if hasattr(tensor, "to_local") else tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor, gathered from all processes if it is sharded."""
    return cast(Tensor, tensor.full_tensor()) if hasattr(tensor, "full_tensor") else tensor


def shard_like(tensor: Tensor, weight: Tensor) -> Tensor:
    """`tensor`, sharded as `weight` is."""
    if not is_sharded(weight) or is_sharded(tensor):
        return tensor
    from tintype.training.parallel.sharding import distribute_like

    return distribute_like(tensor, weight)


def no_sync_unless_last(module: nn.Module, is_last: bool) -> AbstractContextManager[None]:
    """A `with` block for one micro-batch: only the last one sends the gradients to the other processes."""
    if not is_last and isinstance(module, DistributedDataParallel):
        return cast("AbstractContextManager[None]", module.no_sync())
    return nullcontext()


def started_by_torchrun() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_device(name: str | None) -> str | None:
    """The name of this process's device: `name`, else a GPU of its own on a machine with GPUs."""
    if name is None and started_by_torchrun() and torch.cuda.is_available():
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    return name


@contextmanager
def init_processes(device: torch.device, *, shard: bool = False) -> Iterator[World]:
    """A `with` block that connects the processes that torchrun started; without torchrun there is only this one.

    shard: shard the model over them. Inside, a failed collective call becomes a TrainingError. Raises ConfigError if
    this build of torch lacks torch.distributed.
    """
    if not started_by_torchrun():
        yield World()
        return
    if not dist.is_available():
        raise ConfigError("this build of torch has no torch.distributed; train with one process")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        timeout = timedelta(seconds=STEP_SECONDS)
        # torchrun may keep its store over a restart, with the addresses of the processes that ended.
        store, rank, size = next(dist.rendezvous("env://", timeout=timeout))  # type: ignore[attr-defined]
        restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"start {restart}", store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
        waiting = dist.new_group(backend="gloo", timeout=timedelta(seconds=WAIT_SECONDS))
        saving = dist.new_group(backend="gloo", timeout=timedelta(seconds=SAVE_SECONDS)) if shard else None
        with warnings.catch_warnings():
            # The gradient of a 1x1 convolution may have other strides than its bucket view, at no cost here.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            yield World(dist.get_rank(), dist.get_world_size(), waiting, saving)
    except RuntimeError as error:
        if not _is_lost_process(error):
            raise
        reason = str(error).splitlines()[0]
        raise TrainingError(
            f"another process of this run ended or cannot be reached ({reason}); restart all of them, or let torchrun "
            "do so with --max-restarts"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _is_lost_process(error: RuntimeError) -> bool:
    text = str(error)
    return isinstance(error, dist.DistError) or any(word in text for word in ("gloo", "NCCL", "Connection closed"))
