"""The journal of an unfinished cache: a line of JSON for every commit, so that a kill loses little."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class BuildState:
    """The state of an unfinished cache: the pictures and captions done so far."""

    done: int = 0  # pairs examined
    used: list[int] = field(default_factory=list)  # numbers of the usable pairs
    shape_of: list[int] = field(default_factory=list)  # of each usable pair
    problems: list[tuple[str, str]] = field(default_factory=list)  # key and reason of each unusable pair
    notes: Counter[str] = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)  # rows of text embeddings of each unique caption encoded so far


class Journal:
    """Reads the journal of a killed process from the file `path`, and appends to it. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self.state = BuildState()
        valid = 0  # bytes of complete lines
        if path.is_file():
            for line in path.read_bytes().splitlines(keepends=True):
                if not (line.endswith(b"\n") and self._apply(line)):
                    break
                valid += len(line)
        self._file = open(path, "ab")
        self._file.truncate(valid)
        self._committed = _Committed(self.state)

    def commit(self) -> None:
        """Append the changes of `state`. The rows that they count must be on the disk already."""
        state, committed = self.state, self._committed
        row: dict[str, Any] = {
            "done": state.done,
            "used": state.used[committed.used :],
            "shape_of": state.shape_of[committed.used :],
            "problems": state.problems[committed.problems :],
            "notes": dict(state.notes - committed.notes),
            "lengths": state.lengths[committed.lengths :],
        }
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._committed = _Committed(state)

    def close(self) -> None:
        self._file.close()

    def _apply(self, line: bytes) -> bool:
        try:
            row = json.loads(line)
        except ValueError:
            return False
        state = self.state
        state.done = row["done"]
        state.used += row["used"]
        state.shape_of += row["shape_of"]
        state.problems += [(key, reason) for key, reason in row["problems"]]
        state.notes.update(row["notes"])
        state.lengths += row["lengths"]
        return True


class _Committed:
    """The sizes of a state at its last commit."""

    def __init__(self, state: BuildState) -> None:
        self.used = len(state.used)
        self.problems = len(state.problems)
        self.lengths = len(state.lengths)
        self.notes = Counter(state.notes)
