"""The record of a run that the studio started: a small file that a restarted server finds its process by."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tintype.model.atomic_write import write_text
from tintype.studio.places import is_id
from tintype.studio.process import ProcessId

AT_WORK = ("running", "pausing", "stopping")
LOG_TAIL = 64 * 1024  # bytes


@dataclass(slots=True)
class RunRecord:
    """A run of the studio. `state` is one of queued, running, pausing, stopping, paused, stopped, finished, failed,
    interrupted."""

    name: str
    dataset: str
    version: str  # of the data: the folder that training reads
    settings: dict[str, Any]
    arguments: list[str]  # of `tintype`
    state: str = "queued"
    order: float = 0.0  # in the queue
    pid: int = 0
    process_started: str = ""
    started: str | None = None  # ISO time
    ended: str | None = None
    message: str = ""
    other: dict[str, Any] = field(default_factory=dict)  # what a newer version has stored

    @property
    def process(self) -> ProcessId:
        return ProcessId(self.pid, self.process_started)

    @property
    def is_at_work(self) -> bool:
        return self.state in AT_WORK

    def save(self, folder: Path) -> None:
        """Write it, whole or not at all. Raises CheckpointError."""
        content = asdict(self)
        content |= content.pop("other")
        write_text(folder / f"{self.name}.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_records(folder: Path) -> Iterator[RunRecord]:
    """The records in a folder; a damaged one is passed over."""
    names = set(RunRecord.__dataclass_fields__) - {"other"}
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            known = {name: value for name, value in content.items() if name in names}
            record = RunRecord(**known, other={key: value for key, value in content.items() if key not in names})
            if record.name == path.stem and is_id(record.name):
                yield record
        except (OSError, ValueError, TypeError, AttributeError):
            continue


def log_lines(path: Path, number: int) -> list[str]:
    """The last lines of a log, without the control characters that a terminal would obey."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_TAIL))
            text = file.read(LOG_TAIL).decode("utf-8", "replace")
    except OSError:
        return []
    lines = ("".join(sign for sign in line if sign.isprintable()).rstrip() for line in text.splitlines())
    return [line for line in lines if line][-number:]


def now() -> str:
    """The time, for records."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
