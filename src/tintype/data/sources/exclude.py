"""Exclusions: keys and hashes of pictures that must not be trained on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tintype.data.sources.captions import decode_text
from tintype.data.sources.files import FileError, read_file
from tintype.data.sources.pairs import Pair, Problem
from tintype.errors import DataError
from tintype.printable import printable

REASON = "excluded on request"
_SHA256 = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Keys, as in data.json, and sha256 of picture files, in hexadecimal."""

    keys: frozenset[str] = frozenset()
    sha256: frozenset[str] = frozenset()

    @property
    def fingerprint(self) -> bytes:
        """Differs for different hashes. (Keys are taken out before a cache is built.)"""
        return hashlib.sha256("\n".join(sorted(self.sha256)).encode()).digest() if self.sha256 else b""

    def apply(self, pairs: Sequence[Pair]) -> tuple[Sequence[Pair], list[Problem]]:
        """Take out the pairs excluded by key. Problems name these pairs, and keys that no picture has."""
        if not self.keys:
            return pairs, []
        kept = [pair for pair in pairs if pair.key not in self.keys]
        present = {pair.key for pair in pairs if pair.key in self.keys}
        excluded = [Problem(key, REASON) for key in sorted(present)]
        reason = "in the list of --exclude, but there is no such picture"
        missing = [Problem(key, reason, False) for key in sorted(self.keys - present)]
        return kept, excluded + missing


def read_exclusions(path: Path) -> Exclusions:
    """Read a list of one key or sha256 per line, or JSON rows with a `key` or `sha256`; `#` begins a comment.

    Raises DataError if the file cannot be read.
    """
    try:
        lines = decode_text(read_file(path)).splitlines()
    except FileError as error:
        raise DataError(f"{printable(str(path))}: {error}") from None
    keys, hashes = set(), set()
    for line in map(str.strip, lines):
        entry = _entry(line)
        sha256 = _SHA256.fullmatch(entry)
        if sha256 is not None:
            hashes.add(sha256[1].lower())
        elif entry and not entry.startswith("#"):
            keys.add(entry)
    return Exclusions(frozenset(keys), frozenset(hashes))


def _entry(line: str) -> str:
    """The sha256 or key of a line of JSON, such as a row of data.json; any other line unchanged."""
    if line.startswith("{"):
        try:
            values = json.loads(line.rstrip(","))
        except ValueError:
            return line
        for name in ("sha256", "key", "path"):
            if isinstance(values.get(name), str):
                return str(values[name])
    return line
