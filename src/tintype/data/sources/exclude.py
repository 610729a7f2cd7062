"""Pictures that must not be trained on: a list of keys and hashes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tintype.data.sources.captions import decode_text
from tintype.data.sources.files import FileError, printable, read_file
from tintype.data.sources.pairs import Pair, Problem
from tintype.errors import DataError

REASON = "excluded on request"
_SHA256 = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Keys, as in data.json, and sha256 of picture files, in hexadecimal."""

    keys: frozenset[str] = frozenset()
    sha256: frozenset[str] = frozenset()

    @property
    def fingerprint(self) -> bytes:
        """Differs for different hashes. (Keys are gone before a pack is made.)"""
        return hashlib.sha256("\n".join(sorted(self.sha256)).encode()).digest() if self.sha256 else b""

    def part(self, pairs: Sequence[Pair]) -> tuple[Sequence[Pair], list[Problem]]:
        """Take out the pairs that are excluded by key; list them, and the keys that no picture has."""
        if not self.keys:
            return pairs, []
        kept = [pair for pair in pairs if pair.key not in self.keys]
        found = {pair.key for pair in pairs if pair.key in self.keys}
        excluded = [Problem(key, REASON) for key in sorted(found)]
        missing = [Problem(key, "to be excluded, but there is no such picture", False) for key in self.keys - found]
        return kept, excluded + sorted(missing, key=lambda problem: problem.path)


def read_exclusions(path: Path) -> Exclusions:
    """Read a list: one key or sha256 a line; `#` begins a comment. A line of JSON with a `key` or `sha256` counts too.

    Raises DataError if the file cannot be read.
    """
    try:
        lines = decode_text(read_file(path)).splitlines()
    except FileError as error:
        raise DataError(f"{printable(str(path))}: {error}") from None
    keys, hashes = set(), set()
    for line in map(str.strip, lines):
        entry = _entry(line)
        found = _SHA256.fullmatch(entry)
        if found is not None:
            hashes.add(found[1].lower())
        elif entry and not entry.startswith("#"):
            keys.add(entry)
    return Exclusions(frozenset(keys), frozenset(hashes))


def _entry(line: str) -> str:
    """A line as it stands, or the sha256 or key of a row of data.json."""
    if line.startswith("{"):
        try:
            values = json.loads(line.rstrip(","))
        except ValueError:
            return line
        for name in ("sha256", "key", "path"):
            if isinstance(values.get(name), str):
                return str(values[name])
    return line
