"""Checkpoints during training: a snapshot at once, then one thread that writes, verifies and deletes old ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from tintype.config import TrainConfig
from tintype.errors import CheckpointError, NotFiniteError, is_out_of_memory
from tintype.model import checkpoint
from tintype.model.file_names import STATE
from tintype.training.core.weights import Parts, snapshot
from tintype.training.parallel.world import World, full_tensor, local_shard

HELD_OUT_ERROR = "held_out_error"  # key in state.json: a number, or null
EARLY_STOPPING = "early_stopping"  # key in state.json: the state of `EarlyStopping`; and in rows of the log


class Checkpointer:
    """Saves the checkpoints of a run, one at a time, in one thread that lives as long as this object.

    The next call of `check`, `save` or `wait` raises the error of a failed write: CheckpointError if the disk refuses
    or memory runs out, NotFiniteError for NaN or infinity.

    Args:
        world: the processes that train together. All of them save a sharded model, at the same step; rank 0 alone saves
            any other.
    """

    def __init__(self, run: Path, config: TrainConfig, world: World | None = None) -> None:
        self._run = run
        self._config = config
        self._world = world or World()
        self._writing: Future[None] | None = None
        # A thread that is started when memory is short may never start, and its starter waits for ever.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tintype-save")
        self._thread.submit(int).result()

    def save(self, folder: Path, parts: Parts, texts: Mapping[str, str]) -> None:
        """Copy `parts`, which may change afterwards, and start to write them to `folder`."""
        self.wait()
        with _memory_as_error(folder):
            copy = self._local_snapshot(parts) if self._world.is_sharded else snapshot(parts)
        self._writing = self._thread.submit(self._write, folder, copy, dict(texts))

    def check(self) -> None:
        """Raise the error of a save that has ended, if it failed."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Wait for the save under way, if any, and raise its error."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Wait for the save under way, if any, drop its error, and end the thread."""
        self._writing = None
        self._thread.shutdown()

    def _local_snapshot(self, parts: Parts) -> dict[str, dict[str, Tensor]]:
        """A copy of the tensors that this process writes: its shards, and on rank 0 the whole `model`.

        Raises NotFiniteError in all processes if one of them has a number that is not finite.
        """
        copy = snapshot({part: tensors for part, tensors in parts.items() if part != "model"})
        try:
            for part, tensors in parts.items():
                checkpoint.require_finite(part, {name: local_shard(tensor) for name, tensor in tensors.items()})
            error = None
        except NotFiniteError as not_finite:
            error = not_finite
        if self._world.any([error is not None])[0]:
            raise error or NotFiniteError("another process has weights that are not finite, so nothing was saved")
        gathered = ((name, full_tensor(tensor)) for name, tensor in parts["model"].items())
        copy["model"] = {name: tensor.cpu() for name, tensor in gathered if self._world.is_main}
        return copy

    def _write(self, folder: Path, parts: Parts, texts: Mapping[str, str]) -> None:
        with _memory_as_error(folder):
            self._write_and_prune(folder, parts, texts)

    def _write_and_prune(self, folder: Path, parts: Parts, texts: Mapping[str, str]) -> None:
        """Write, verify, then delete older checkpoints.

        Nothing here may start OpenMP threads, as reductions of torch do: a thread keeps its own until it ends, and with
        more of them than cores OpenMP stops waiting actively. Training on two cores would be a third slower.
        """
        if self._world.is_sharded:
            from tintype.training.checkpoints.sharded import save_shards

            save_shards(folder, parts, texts, self._world)
        else:
            checkpoint.save_parts(folder, parts, texts)
        if not self._world.is_main:
            return
        checkpoint.verify(folder)  # as it lies on the disk, before any older one is deleted
        checkpoint.write_latest(self._run, folder)
        checkpoint.prune(
            self._run, self._config.keep_last, worth_keeping(checkpoint.checkpoints(self._run), self._config)
        )


@contextmanager
def _memory_as_error(folder: Path) -> Iterator[None]:
    """A `with` block that raises CheckpointError if memory runs out: a later save may succeed."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise CheckpointError(f"cannot write {folder}: memory ran out; close other programs") from None


def read_parts(folder: Path, weights: Mapping[str, Tensor], world: World | None) -> dict[str, dict[str, Tensor]]:
    """The parts of a checkpoint, for a trainer of these `weights`. Raises CheckpointError.

    If the model and the checkpoint are sharded, each process reads its own shards only.
    """
    if world is not None and world.is_sharded and checkpoint.is_sharded(folder):
        from tintype.training.checkpoints.sharded import load_shards

        return load_shards(folder, weights, world)
    return read_whole(folder)


def read_whole(folder: Path, names: Sequence[str] | None = None) -> dict[str, dict[str, Tensor]]:
    """The named parts of a checkpoint, or all, in full and on the CPU, sharded or not. Raises CheckpointError."""
    if not checkpoint.is_sharded(folder):
        return checkpoint.load_parts(folder, checkpoint.part_names(folder) if names is None else names)
    from tintype.training.checkpoints.sharded import load_whole

    parts = load_whole(folder)
    return parts if names is None else {name: parts[name] for name in names}


def worth_keeping(folders: Iterable[Path], config: TrainConfig) -> set[Path]:
    """The checkpoints that stay at any age: one every `keep_every` images, and the one with the lowest error."""
    states = {folder: state for folder in folders if (state := _state(folder)) is not None}
    kept: dict[int, Path] = {}
    for folder, state in sorted(states.items(), key=lambda item: int(item[1]["images_seen"])):
        if config.keep_every:
            kept.setdefault(int(state["images_seen"]) // config.keep_every, folder)
    errors = {folder: float(state[HELD_OUT_ERROR]) for folder, state in states.items() if state.get(HELD_OUT_ERROR)}
    best = {min(errors, key=errors.__getitem__)} if errors and config.keep_best else set()
    return {folder for number, folder in kept.items() if number > 0} | best


def _state(folder: Path) -> dict[str, Any] | None:
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        return state if isinstance(state.get("images_seen"), int) else None
    except (OSError, ValueError, AttributeError):
        return None
