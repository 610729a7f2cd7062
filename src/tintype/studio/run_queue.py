"""The queue of training runs: one process trains at a time, outlives the server, and is found again by the next one."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tintype.errors import TintypeError
from tintype.model import file_names, manifest, store
from tintype.serving import logs
from tintype.serving.api.errors import ApiError
from tintype.studio.places import Places
from tintype.studio.process import start, started_at
from tintype.studio.record import RunRecord, log_lines, now, read_records
from tintype.studio.settings import extended
from tintype.training.checkpoints.run_folder import is_at_work

STOP_SIGNAL = signal.SIGTERM  # ends training after a checkpoint
ERROR = "tintype: "  # the start of the last line of a command that failed
PAUSED = (130, 143, 129, 75)  # exit codes of training that was asked to end, and has saved a checkpoint
STOPPED_LINES = tuple(f"{ERROR}{text}" for text in ("terminated", "interrupted", "preempted", "the terminal was"))
POSSIBLE = {  # what can be done in each state
    "queued": ("stop",),
    "running": ("pause", "stop"),
    "pausing": ("stop",),
    "stopping": (),
    "paused": ("resume", "stop", "delete"),
    "stopped": ("resume", "delete"),
    "finished": ("extend", "delete"),
    "failed": ("resume", "delete"),
    "interrupted": ("resume", "delete"),
}


class RunQueue:
    """All runs of a studio. Its methods may be called by any thread; each change is on disk before it returns."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._lock = threading.RLock()
        self._records = {record.name: record for record in read_records(places.jobs)}
        self._children: dict[str, subprocess.Popen[bytes]] = {}  # of this server; those of an earlier one have none

    def records(self) -> list[RunRecord]:
        """All runs that the studio started, the first in the queue first."""
        with self._lock:
            return sorted(self._records.values(), key=lambda record: record.order)

    def get(self, name: str) -> RunRecord | None:
        with self._lock:
            return self._records.get(name)

    def add(self, record: RunRecord) -> RunRecord:
        """Put a new run at the end of the queue. Raises ApiError if its name is taken."""
        with self._lock:
            if record.name in self._records or (self._places.runs / record.name).exists():
                raise ApiError(409, "there is a run of this name already; choose another", "name_taken", "name")
            record.state, record.order = "queued", time.time()
            self._save(record)
            self._records[record.name] = record
            self._advance()
        return record

    def pause(self, name: str) -> RunRecord:
        """End the process of a run after a checkpoint. Raises ApiError."""
        return self._end(name, "pause", "pausing", at_once=False)

    def stop(self, name: str, *, at_once: bool = False) -> RunRecord:
        """End a run after a checkpoint, or `at_once`, or take it out of the queue. Raises ApiError."""
        return self._end(name, "stop", "stopping", at_once=at_once)

    def resume(self, name: str) -> RunRecord:
        """Put a run that has ended at the end of the queue again. Raises ApiError."""
        with self._lock:
            record = self._require(name, "resume")
            record.state, record.order, record.message, record.ended = "queued", time.time(), "", None
            self._save(record)
            self._advance()
        return record

    def extend(self, name: str, images: int) -> RunRecord:
        """Put a finished run at the end of the queue again, with another length. Raises ApiError."""
        with self._lock:
            record = self._require(name, "extend")
            record.arguments = extended(record.arguments, images)
            record.state, record.order, record.message, record.ended = "queued", time.time(), "", None
            self._save(record)
            self._advance()
        return record

    def remove(self, name: str) -> RunRecord | None:
        """Forget a run that has ended; its log goes too. Raises ApiError while it is at work."""
        with self._lock:
            if name not in self._records:
                return None
            record = self._require(name, "delete")
            del self._records[name]
            self._children.pop(name, None)
            return record

    def restore(self, record: RunRecord) -> None:
        """Know a run again whose record was put back."""
        with self._lock:
            self._records[record.name] = record

    def tick(self) -> None:
        """Notice which processes have ended, and start the next run if none is at work."""
        with self._lock:
            for record in self.records():
                if record.is_at_work and not self._is_alive(record):
                    self._ended(record)
            self._advance()

    @property
    def is_busy(self) -> bool:
        """Whether a run is queued or at work."""
        return any(record.is_at_work or record.state == "queued" for record in self.records())

    def log(self, name: str) -> Path:
        return self._places.jobs / f"{name}.log"

    def _require(self, name: str, action: str) -> RunRecord:
        record = self._records.get(name)
        if record is None:
            raise ApiError(404, "unknown run; GET /api/studio lists them", "run_not_found")
        if action not in POSSIBLE[record.state]:
            raise ApiError(409, f"a run that is {record.state} cannot be changed like this", "not_possible")
        return record

    def _end(self, name: str, action: str, state: str, *, at_once: bool) -> RunRecord:
        with self._lock:
            known = self._records.get(name)
            if at_once and known is not None and known.is_at_work:  # again, because the first signal had no effect
                record = known
            else:
                record = self._require(name, action)
            before, record.state = record.state, state if record.is_at_work else "stopped"
            self._save(record)
            if at_once:
                record.process.send(signal.SIGKILL)
            elif before == "running":  # a second signal would end it before its checkpoint is saved
                record.process.send(STOP_SIGNAL)
            return record

    def _is_alive(self, record: RunRecord) -> bool:
        child = self._children.get(record.name)
        if child is not None:
            return child.poll() is None
        if record.process_started:
            return record.process.is_alive()
        return is_at_work(self._places.runs / record.name)  # the server ended before it could note the process

    def _advance(self) -> None:
        """Start the first run of the queue if none is at work. The caller holds the lock."""
        if any(record.is_at_work for record in self._records.values()):
            return
        waiting = next((record for record in self.records() if record.state == "queued"), None)
        if waiting is None or self._trained_elsewhere():
            return
        waiting.state, waiting.pid, waiting.process_started, waiting.started = "running", 0, "", now()
        self._save(waiting)  # before the process starts: whatever happens, it is not started twice
        try:
            child, process = start(waiting.arguments, self.log(waiting.name), self._places.studio)
        except OSError as error:
            waiting.state, waiting.message, waiting.ended = "failed", f"it cannot be started: {error.strerror}", now()
            self._save(waiting)
            return
        self._children[waiting.name] = child
        waiting.pid, waiting.process_started = process.pid, process.started or started_at(process.pid)
        self._save(waiting)
        logs.event("training started", run=waiting.name, pid=waiting.pid)

    def _trained_elsewhere(self) -> bool:
        """Whether the command line trains in the folder of runs."""
        return any(is_at_work(folder) for folder in run_folders(self._places.runs))

    def _ended(self, record: RunRecord) -> None:
        """Note how a process has ended. The caller holds the lock."""
        child = self._children.pop(record.name, None)
        code = child.returncode if child is not None else None
        lines = log_lines(self.log(record.name), 20)
        last = lines[-1] if lines else ""
        asked = {"pausing": "paused", "stopping": "stopped"}.get(record.state)
        record.message = last.removeprefix(ERROR)
        if code in (0, None) and is_complete(self._places.runs / record.name):
            record.state, record.message = "finished", ""
        elif asked is not None:
            record.state = asked
        elif code in PAUSED or (code is None and last.startswith(STOPPED_LINES)):
            record.state = "paused"
        elif (code is not None and code > 0) or (code is None and last.startswith(ERROR)):
            record.state = "failed"
        else:
            record.state, record.message = "interrupted", "its process ended without a word"
        record.ended = now()
        self._save(record)
        logs.event("training ended", run=record.name, state=record.state, code=code)

    def _save(self, record: RunRecord) -> None:
        try:
            record.save(self._places.jobs)
        except TintypeError as error:
            logs.log.error("cannot write the record of a run", extra={"fields": {"error": str(error)}})
            raise ApiError(507, "the disk is full; free some space", "disk_full") from None


def run_folders(runs: Path) -> list[Path]:
    """The run folders in a folder, whoever made them; hidden ones and links are passed over."""
    try:
        entries = sorted(runs.iterdir())
    except OSError:
        return []
    return [path for path in entries if path.is_dir() and not path.is_symlink() and not path.name.startswith(".")]


def is_complete(run: Path) -> bool:
    """Whether a run has reached its length and holds its model."""
    try:
        config = store.read_config(store.Model(run.name, run, run))
    except TintypeError:
        return False
    seen = manifest.images_seen(run) if (run / file_names.WEIGHTS).is_file() else None
    return seen is not None and seen >= config.train.images


def states_of(records: Sequence[RunRecord]) -> dict[str, Any]:
    """The place of each queued run in the queue, from 1."""
    queued = [record.name for record in records if record.state == "queued"]
    return {name: place for place, name in enumerate(queued, start=1)}
