"""The run folder: its lock, its configuration, and the checkpoint to resume from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tintype.config import Config
from tintype.errors import CheckpointError, ConfigError, TrainingError
from tintype.model import checkpoint, manifest, store
from tintype.model.custom import read_components, to_json
from tintype.model.file_names import CACHE_FOLDER, CHECKPOINTS, COMPONENTS, CONFIG, DATA, LATEST, LOG, STATE, TOKENIZER

SAMPLES = "samples"  # folder of the sample grids
START = "start.json"  # the numerics of the run, chosen before its first step
_RUN_FILES = {COMPONENTS, DATA, LOG, SAMPLES, START, TOKENIZER, CACHE_FOLDER, CHECKPOINTS, LATEST, "tensorboard"}


@dataclass(frozen=True, slots=True)
class Stored:
    """A run to resume, read from its folder or from a checkpoint that the user named."""

    config: Config
    tokenizer: str | None
    fingerprint: str | None  # of the data; None if the run stopped before it was written
    checkpoint: Path | None  # to resume from; None starts from the beginning
    damaged: tuple[str, ...]  # what is damaged in newer checkpoints
    components: Mapping[str, str] = field(default_factory=dict)  # objects from Python: their qualified names
    numerics: Mapping[str, Any] = field(default_factory=dict)  # of the start, until a checkpoint has them


@dataclass(frozen=True, slots=True)
class RunLock:
    """The lock of a run folder, which also notices when that folder is no longer at its path."""

    run: Path
    file: IO[str]

    def check(self) -> None:
        """Raise TrainingError if the folder was moved, deleted or replaced since it was locked."""
        try:
            at_path = (self.run / ".lock").stat()
        except OSError:
            at_path = None
        if at_path is None or not os.path.samestat(at_path, os.fstat(self.file.fileno())):
            raise TrainingError(
                f"{self.run} was moved or deleted while it trained; put the folder back, and the same command resumes "
                "from its last checkpoint"
            )


@contextmanager
def locked(run: Path) -> Iterator[RunLock]:
    """A `with` block that makes and locks a run folder. Raises TrainingError if another trainer holds the lock."""
    is_new = not run.exists()
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = (run / ".lock").open("a")
    except OSError as error:
        raise TrainingError(f"cannot write in {run}: {error.strerror}; choose another --out") from None
    try:
        with file:
            _lock(file, run)
            yield RunLock(run, file)
    finally:
        if is_new and run.is_dir() and [path.name for path in run.iterdir()] == [".lock"]:  # the run never started
            (run / ".lock").unlink()
            run.rmdir()


def is_at_work(run: Path) -> bool:
    """Whether a trainer holds the lock of a run folder; False where locks are not supported."""
    try:
        import fcntl

        with (run / ".lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return False
    return False


def _lock(file: IO[str], run: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: two trainers in one folder go unnoticed
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TrainingError(f"another run is training in {run}; wait for it or choose another --out") from None
    except OSError:  # a file system without locks
        return


def find_stored(run: Path, resume: str) -> Stored | None:
    """The run to resume; None for a fresh start. `resume` is "auto", "never" or a path. Raises CheckpointError."""
    has_run = (run / CONFIG).is_file()
    if resume not in ("auto", "never"):
        return _stored_at(Path(resume), run)
    if not has_run:
        _require_unused(run)
        return None
    if resume == "never":
        raise CheckpointError(f"{run} already holds a run; choose another --out, or --resume auto to continue it")
    newest, damaged = checkpoint.newest_whole(run)
    if damaged and newest is None:
        raise CheckpointError(
            f"every checkpoint in {run} is damaged ({next(iter(damaged.values()))}); restore one from a backup, or "
            "choose another --out to start from scratch"
        )
    config, tokenizer = _read_config(run / CONFIG), _read_optional(run / TOKENIZER)
    if newest is not None:
        _require_fit(newest, config)
    fingerprint, numerics = _fingerprint(run, newest), _read_start(run)
    return Stored(config, tokenizer, fingerprint, newest, tuple(damaged.values()), read_components(run), numerics)


def _stored_at(path: Path, run: Path) -> Stored:
    """The run at a checkpoint, or at the newest one in a run folder, that the user named."""
    folder, damaged = (path, {}) if (path / checkpoint.MANIFEST).is_file() else checkpoint.newest_whole(path)
    if folder is None:
        for damage in damaged.values():
            raise CheckpointError(f"every checkpoint in {path} is damaged ({damage}); give another one")
        raise CheckpointError(f"{path} is neither a checkpoint nor a run with one; give the folder of one")
    checkpoint.verify(folder)
    newest = checkpoint.latest(run)
    if newest is None:
        _require_unused(run)
    elif not newest.samefile(folder):
        raise CheckpointError(f"{run} has another checkpoint, {newest.name}; choose another --out to resume {path}")
    config, tokenizer = _read_config(folder / CONFIG), _read_optional(folder / TOKENIZER)
    _require_fit(folder, config)
    return Stored(
        config, tokenizer, _fingerprint(folder, folder), folder, tuple(damaged.values()), read_components(folder)
    )


def _require_fit(folder: Path, config: Config) -> None:
    """Raise CheckpointError if a configuration is not that of a checkpoint's weights."""
    store.require_fit(store.Model(folder.name, folder, None), config, own_net="net" in read_components(folder))


def load_state(folder: Path) -> dict[str, Any]:
    """The contents of state.json in a checkpoint. Raises CheckpointError."""
    try:
        return dict(json.loads(checkpoint.load_texts(folder)[STATE]))
    except (KeyError, ValueError):
        raise CheckpointError(f"{folder} has no readable {STATE}, so no run can resume from it; use --from") from None


def write_start(
    run: Path,
    config: Config,
    tokenizer: str | None,
    data: dict[str, Any],
    components: Mapping[str, str],
    numerics: Mapping[str, Any],
) -> None:
    """Write the files of a new run; config.json comes last, since it makes the folder a run."""
    text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    # Bytes of a file name that are not UTF-8 are lone surrogates here; as \udc.. they are JSON, and are read as such.
    checkpoint.write_text(run / DATA, text.encode("utf-8", "backslashreplace").decode())
    if tokenizer is not None:
        checkpoint.write_text(run / TOKENIZER, tokenizer)
    if components:
        checkpoint.write_text(run / COMPONENTS, to_json(components))
    checkpoint.write_text(run / START, json.dumps(numerics, indent=2) + "\n")
    checkpoint.write_text(run / CONFIG, config.to_json())
    manifest.update(run, CONFIG)  # of a finished model whose run is made longer


def _require_unused(run: Path) -> None:
    names = [path.name for path in run.iterdir()] if run.is_dir() else []
    foreign = sorted(name for name in names if not (name.startswith(".") or name in _RUN_FILES))
    if foreign:
        raise CheckpointError(f"{run} is not a run but holds {foreign[0]}; choose an empty folder for --out")
    if checkpoint.checkpoints(run):
        raise CheckpointError(f"{run} holds checkpoints but no {CONFIG}; restore it, or choose another --out")


def _fingerprint(run: Path, folder: Path | None) -> str | None:
    source = folder / STATE if folder is not None else run / DATA
    text = _read_optional(source)
    if text is None:
        return None
    try:
        return str(json.loads(text)["fingerprint"])
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{source} is damaged; restore it from a backup or choose another --out") from None


def _read_start(run: Path) -> dict[str, Any]:
    """The numerics that a run was started with; none for runs older than this record. Raises CheckpointError."""
    text = _read_optional(run / START)
    try:
        return {} if text is None else dict(json.loads(text))
    except (ValueError, TypeError):
        raise CheckpointError(f"{run / START} is damaged; delete it to let this machine choose again") from None


def _read_config(path: Path) -> Config:
    text = _read_optional(path)
    if text is None:
        raise CheckpointError(f"{path} is missing; restore it from a backup")
    try:
        return Config.from_json(text)
    except ConfigError as error:
        raise CheckpointError(f"{path.parent}: {error}") from None


def _read_optional(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read {path} ({error}); restore it from a backup") from None


def sweep(run: Path) -> None:
    """Remove the temporary files of interrupted writes. The caller holds the lock."""
    checkpoint.clean(run)
    for folder in (run, run / SAMPLES):
        for path in folder.glob(".*.tmp-*") if folder.is_dir() else []:
            if path.is_file():
                os.unlink(path)
