"""Checkpoints while training goes on: a snapshot at once, then a thread that writes, verifies and deletes old ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import Tensor

from tintype.config import TrainConfig
from tintype.errors import NotFiniteError
from tintype.model import checkpoint
from tintype.training.checkpoints.run_folder import STATE
from tintype.training.core.weights import Parts, snapshot
from tintype.training.parallel.world import World, full_tensor, local_shard

HELD_OUT_ERROR = "held_out_error"  # in the state of a checkpoint: one number, or none


class Checkpointer:
    """Saves the checkpoints of a run, one at a time.

    What goes wrong while writing is raised by the next call of `check`, `save` or `wait`: CheckpointError if the disk
    refuses, NotFiniteError for numbers that must not be kept.

    Args:
        world: the processes that train together. If they share the model out, all of them save, at the same step;
            else the first one does.
    """

    def __init__(self, run: Path, config: TrainConfig, world: World | None = None) -> None:
        self._run = run
        self._config = config
        self._world = world or World()
        self._writing: Future[None] | None = None

    def save(self, place: Path, parts: Parts, texts: Mapping[str, str]) -> None:
        """Copy `parts`, which may change afterwards, and begin to write them to `place`."""
        self.wait()
        copy = self._own_parts(parts) if self._world.is_sharded else snapshot(parts)
        # Tensors that a thread works on bring threads of OpenMP that live as long as it does, and with more of these
        # than cores OpenMP no longer waits actively: training on two cores would be a third slower from then on.
        thread = ThreadPoolExecutor(1, thread_name_prefix="tintype-save")
        self._writing = thread.submit(self._write, place, copy, dict(texts))
        thread.shutdown(wait=False)  # the thread ends with this save

    def check(self) -> None:
        """Raise what went wrong in a save that has ended; else do nothing."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Until nothing is being written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Wait, and say nothing of what went wrong."""
        if self._writing is not None:
            self._writing.exception()
        self._writing = None

    def _own_parts(self, parts: Parts) -> dict[str, dict[str, Tensor]]:
        """A copy of what this process writes: the whole model if it is the first, and its part of all the rest.

        Raises NotFiniteError in all processes if one has a number that is not finite.
        """
        copy = snapshot({part: tensors for part, tensors in parts.items() if part != "model"})
        try:
            for part, tensors in parts.items():
                checkpoint.require_finite(part, {name: local_shard(tensor) for name, tensor in tensors.items()})
            error = None
        except NotFiniteError as found:
            error = found
        if self._world.any([error is not None])[0]:
            raise error or NotFiniteError("another process has weights that are not finite, so nothing was saved")
        gathered = ((name, full_tensor(tensor)) for name, tensor in parts["model"].items())
        copy["model"] = {name: tensor.cpu() for name, tensor in gathered if self._world.is_main}
        return copy

    def _write(self, place: Path, parts: Parts, texts: Mapping[str, str]) -> None:
        if self._world.is_sharded:
            from tintype.training.checkpoints.sharded import save_shards

            save_shards(place, parts, texts, self._world)
        else:
            checkpoint.save_parts(place, parts, texts)
        if not self._world.is_main:
            return
        checkpoint.verify(place)  # as it lies on the disk: only now may older ones go
        checkpoint.write_latest(self._run, place)
        checkpoint.prune(
            self._run, self._config.keep_last, worth_keeping(checkpoint.checkpoints(self._run), self._config)
        )


def read_parts(place: Path, weights: Mapping[str, Tensor], world: World | None) -> dict[str, dict[str, Tensor]]:
    """The parts of a checkpoint, for a trainer of these `weights`. Raises CheckpointError.

    If processes share the model out and the checkpoint too, each reads its own parts only.
    """
    if world is not None and world.is_sharded and checkpoint.is_sharded(place):
        from tintype.training.checkpoints.sharded import load_shards

        return load_shards(place, weights, world)
    return read_whole(place)


def read_whole(place: Path, names: Sequence[str] | None = None) -> dict[str, dict[str, Tensor]]:
    """The named parts of a checkpoint, or all, whole, on the CPU, however it is stored. Raises CheckpointError."""
    if not checkpoint.is_sharded(place):
        return checkpoint.load_parts(place, checkpoint.part_names(place) if names is None else names)
    from tintype.training.checkpoints.sharded import load_whole

    parts = load_whole(place)
    return parts if names is None else {name: parts[name] for name in names}


def worth_keeping(places: Iterable[Path], config: TrainConfig) -> set[Path]:
    """Of the checkpoints in `places`, those that stay however old: one every `keep_every` images, and the best."""
    states = {place: state for place in places if (state := _state(place)) is not None}
    kept: dict[int, Path] = {}
    for place, state in sorted(states.items(), key=lambda item: int(item[1]["images_seen"])):
        if config.keep_every:
            kept.setdefault(int(state["images_seen"]) // config.keep_every, place)
    measured = {place: state[HELD_OUT_ERROR] for place, state in states.items() if state.get(HELD_OUT_ERROR)}
    best = {min(measured, key=lambda place: float(measured[place]))} if measured and config.keep_best else set()
    return {place for number, place in kept.items() if number > 0} | best


def _state(place: Path) -> dict[str, Any] | None:
    try:
        state = json.loads((place / STATE).read_text(encoding="utf-8"))
        return state if isinstance(state.get("images_seen"), int) else None
    except (OSError, ValueError, AttributeError):
        return None
