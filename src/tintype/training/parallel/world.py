"""Several processes as one trainer, on torch's own engine: who they are, and what they agree on.

Started by torchrun, every process computes its share of each batch. Either all hold the whole model and
`DistributedDataParallel` sums its gradients, or each holds a part of it (`sharding`). The first process alone prints
and decides, and writes all that is not shared out.
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

STEP_SECONDS = 50  # after which a process that does not answer in a step is given up; a dead one is noticed at once
WAIT_SECONDS = 24 * 3600  # for the first process, while it prepares data, draws samples or saves
SAVE_SECONDS = 600  # after which a process that is done writing gives up those that are not
BUCKET_MIB = 8  # of gradients that are sent while others are still computed


class World:
    """The processes of a run. A run of one process is a world of its own.

    Args:
        waiting: a group whose waits may be long.
        saving: another, for the threads that write checkpoints; the model is shared out if there is one.
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
        """Whether this process is the one that writes, prints and decides."""
        return self.rank == 0

    @property
    def is_sharded(self) -> bool:
        """Whether every process holds only a part of the model."""
        return self.saving is not None

    def sum_(self, values: Tensor) -> Tensor:
        """Replace `values`, on the CPU, by their sum over all processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def min(self, value: int) -> int:
        """The smallest `value` of all processes."""
        if self.size == 1:
            return value
        found = torch.tensor([value])
        dist.all_reduce(found, dist.ReduceOp.MIN)
        return int(found)

    def max(self, value: int) -> int:
        """The largest `value` of all processes."""
        return -self.min(-value)

    def any(self, wishes: Sequence[bool]) -> list[bool]:
        """Each wish that at least one process has."""
        if self.size == 1:
            return list(wishes)
        return (self.sum_(torch.tensor(wishes, dtype=torch.int64)) > 0).tolist()

    def distribute_matrices(
        self, function: Callable[[Tensor], Tensor], matrices: Tensor, call_index: int = 0
    ) -> Tensor:
        """`function` of matrices [N, m, n], each on its own: every process computes its share, and all get all results.

        call_index: call counter; rotates which rank gets the remainder. Results are sharded if `matrices` are.
        """
        if self.size == 1:
            return function(matrices)
        if self.is_sharded:
            from tintype.training.parallel.sharding import distribute_matrices

            return distribute_matrices(function, matrices)
        num = -(-len(matrices) // self.size)
        place = (self.rank + call_index) % self.size
        own = matrices[place * num : (place + 1) * num]
        answer = function(own)  # of no matrix for who has none, which still tells its type
        found = answer.new_zeros(num, *matrices.shape[1:])
        found[: len(own)] = answer
        results = [torch.empty_like(found) for _ in range(self.size)]
        dist.all_gather(results, found)
        return torch.cat([results[(number - call_index) % self.size] for number in range(self.size)])[: len(matrices)]

    def barrier(self) -> None:
        """Until every process is here, however long the first one takes."""
        if self._waiting is not None:
            dist.all_reduce(torch.zeros(1), group=self._waiting)

    def broadcast(self, text: str) -> str:
        """What the first process passes as `text`, in all of them; the others wait for it."""
        if self._waiting is None:
            return text
        content = text.encode()
        size = torch.tensor([len(content)])
        dist.broadcast(size, 0, group=self._waiting)
        letters = torch.zeros(int(size), dtype=torch.uint8)
        if self.is_main:
            letters = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else letters
        dist.broadcast(letters, 0, group=self._waiting)
        return bytes(letters.tolist()).decode()

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module to call in steps, whose gradients are the mean over all processes. All must hold equal weights.

        Afterwards the weights of `module` are on `device`, or the part of them that this process holds is.
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
    """Whether a tensor is shared out over processes: a DTensor, whose import takes seconds."""
    return hasattr(tensor, "to_local")


def local_shard(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: all of it, unless it is shared out. The same memory."""
    return cast(Tensor, tensor.to_local()) if hasattr(tensor, "to_local") else tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor, gathered from all processes if it is shared out."""
    return cast(Tensor, tensor.full_tensor()) if hasattr(tensor, "full_tensor") else tensor


def shard_like(tensor: Tensor, weight: Tensor) -> Tensor:
    """`tensor` as `weight` is held: whole, or this process's part of it."""
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
    """Whether this is one of several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_device(name: str | None) -> str | None:
    """The name of the device of this process: without a wish, each process on a machine with GPUs has its own."""
    if name is None and started_by_torchrun() and torch.cuda.is_available():
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    return name


@contextmanager
def init_processes(device: torch.device, *, shard: bool = False) -> Iterator[World]:
    """Find the other processes of a run that torchrun started; without it, there are none.

    shard: have them share out the model. Inside, an error in what they say to each other is a TrainingError. Raises
    ConfigError where torch cannot.
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
        # Where torchrun keeps its store over a restart, the addresses of the processes before are still in it.
        store, rank, size = next(dist.rendezvous("env://", timeout=timeout))  # type: ignore[attr-defined]
        start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"start {start}", store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
        waiting = dist.new_group(backend="gloo", timeout=timedelta(seconds=WAIT_SECONDS))
        saving = dist.new_group(backend="gloo", timeout=timedelta(seconds=SAVE_SECONDS)) if shard else None
        with warnings.catch_warnings():
            # The gradient of a 1x1 convolution may have other strides than its place in a bucket, at no cost here.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            yield World(dist.get_rank(), dist.get_world_size(), waiting, saving)
    except RuntimeError as error:
        if not _is_of_others(error):
            raise
        what = str(error).splitlines()[0]
        raise TrainingError(
            f"another process of this run ended or cannot be reached ({what}); start all of them again, or let "
            "torchrun do so with --max-restarts"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _is_of_others(error: RuntimeError) -> bool:
    said = str(error)
    return isinstance(error, dist.DistError) or any(word in said for word in ("gloo", "NCCL", "Connection closed"))
