"""The gradient of a step, of all processes together, in micro-batches that fit into memory."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tintype.data.order import shard_positions
from tintype.errors import ConfigError, is_out_of_memory
from tintype.training.core.batches import Reader
from tintype.training.core.custom_optimizer import CustomOptimizer
from tintype.training.core.objective import Objective, ShapeBatch, micro_batches
from tintype.training.core.optim import Optimizers
from tintype.training.parallel.world import World, no_sync_unless_last


class Gradient:
    """Reads the samples of a step, and accumulates the gradient of their mean loss in the weights.

    `micro_batch`: pictures computed at once, halved when memory runs out; 0: the whole batch.

    Args:
        module: the objective as engines wrap it, whose gradients are means over all processes.
    """

    def __init__(
        self,
        read: Reader,
        objective: Objective,
        module: nn.Module,
        optimizers: Optimizers | CustomOptimizer,
        world: World,
        micro_batch: int,
    ) -> None:
        self.micro_batch = micro_batch
        self.module = module
        self._read = read
        self._objective = objective
        self._optimizers = optimizers
        self._world = world
        # One process repeats a step that does not fit; with a sharded model no process can try a step alone.
        self._fits = world.size == 1 or world.is_sharded

    def __call__(self, positions: Tensor) -> Tensor:
        """Compute the gradient of the mean loss at `positions` [B]; returns the losses [B] on the CPU.

        All processes get the same values, so that they take the same decisions. Raises ConfigError if not one picture
        at a time fits into memory.
        """
        batches = self._read(shard_positions(positions, self._world.rank, self._world.size), len(positions))
        if not self._fits:  # processes cannot repeat part of a step together: find the size before the first
            while self._backward(batches, len(positions), dry_run=True) is None:
                self._halve(batches)
            smallest = self._world.min(self.micro_batch or len(positions))
            self.micro_batch = 0 if smallest == len(positions) else smallest
            self._fits = True
        while (computed := self._backward(batches, len(positions))) is None:
            self._halve(batches)
        losses = torch.zeros(len(positions))
        losses[torch.cat([batch.positions for batch in batches]) - positions[0]] = computed.float().cpu()
        return self._world.sum_(losses)

    def _backward(self, batches: Sequence[ShapeBatch], num: int, *, dry_run: bool = False) -> Tensor | None:
        """Accumulate the gradient of the sum of losses / `num`. Returns the losses, or None if memory ran out.

        dry_run: without the other processes, only to find out whether memory suffices.
        """
        self._optimizers.zero_grad()
        parts = self._micro_batches(batches)
        num_padding_batches = self._world.max(len(parts)) - len(parts) if self._world.is_sharded else 0
        module = self._objective if dry_run else self.module
        computed = []
        try:
            for index, micro_batch in enumerate(parts):
                with no_sync_unless_last(module, index == len(parts) - 1):
                    losses = module(micro_batch)
                    # The wrapped module averages gradients over processes.
                    torch.autograd.backward(losses.sum() / (num / self._world.size))
                computed.append(losses.detach())
            for _ in range(num_padding_batches):  # other processes compute more, and need these shards
                torch.autograd.backward(0.0 * module([parts[0][0].slice(0, 1)]).sum())
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if self._world.is_sharded:  # the others are in the same step
                raise ConfigError("memory ran out; train with a smaller --micro-batch, or more processes") from None
            if self._world.size > 1 and not dry_run:
                raise
            return None
        return torch.cat(computed)

    def _micro_batches(self, batches: Sequence[ShapeBatch]) -> list[list[ShapeBatch]]:
        """The micro-batches of a step. A sharded model computes one shape at a time."""
        largest = max(len(batch.positions) for batch in batches) if self._world.is_sharded else 0
        return micro_batches(batches, self.micro_batch or largest)

    def _halve(self, batches: Sequence[ShapeBatch]) -> None:
        """Halve the micro-batch. Raises ConfigError if it is already a single picture."""
        size = self.micro_batch or sum(len(batch.positions) for batch in batches)
        self.micro_batch = size // 2
        self._optimizers.zero_grad()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self.micro_batch < 1:
            raise ConfigError("not enough memory for one picture at a time; train a smaller --preset")
