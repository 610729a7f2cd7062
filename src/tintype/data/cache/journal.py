"""The journal of an unfinished cache: a line of JSON for every part on the disk, so that a kill loses little."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Progressed:
    """What is known of the pictures and captions so far."""

    done: int = 0  # pairs that were looked at
    used: list[int] = field(default_factory=list)  # of which these can be trained on, by number
    shape_of: list[int] = field(default_factory=list)  # of each one used
    problems: list[tuple[str, str]] = field(default_factory=list)  # key and reason of the others
    notes: Counter[str] = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)  # rows of text embeddings of each unique caption encoded so far


class Journal:
    """Reads what a killed process left in the file `path`, and adds to it. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self.so_far = Progressed()
        whole = 0
        if path.is_file():
            for line in path.read_bytes().splitlines(keepends=True):
                if not (line.endswith(b"\n") and self._take(line)):
                    break
                whole += len(line)
        self._file = open(path, "ab")
        self._file.truncate(whole)
        self._told = _Told(self.so_far)

    def commit(self) -> None:
        """Write down what was added to `so_far`. What it speaks of must be on the disk already."""
        now, told = self.so_far, self._told
        row: dict[str, Any] = {
            "done": now.done,
            "used": now.used[told.used :],
            "shape_of": now.shape_of[told.used :],
            "problems": now.problems[told.problems :],
            "notes": dict(now.notes - told.notes),
            "lengths": now.lengths[told.lengths :],
        }
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._told = _Told(now)

    def close(self) -> None:
        self._file.close()

    def _take(self, line: bytes) -> bool:
        try:
            row = json.loads(line)
        except ValueError:
            return False
        now = self.so_far
        now.done = row["done"]
        now.used += row["used"]
        now.shape_of += row["shape_of"]
        now.problems += [(key, reason) for key, reason in row["problems"]]
        now.notes.update(row["notes"])
        now.lengths += row["lengths"]
        return True


class _Told:
    """How much of it is written down."""

    def __init__(self, so_far: Progressed) -> None:
        self.used = len(so_far.used)
        self.problems = len(so_far.problems)
        self.lengths = len(so_far.lengths)
        self.notes = Counter(so_far.notes)
