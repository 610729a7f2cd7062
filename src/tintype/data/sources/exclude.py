"""Exclusions: keys and hashes of pictures that must not be trained on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
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

    def require_present(self, pairs: Sequence[Pair]) -> None:
        """Refuse keys that no picture has: a picture that was to be left out would be trained on.

        Raises DataError with the first of them and the key that is most like it.
        """
        keys = [pair.key for pair in pairs]
        missing = sorted(self.keys.difference(keys))
        if not missing:
            return
        alike = get_close_matches(missing[0], keys, 1)
        hint = f"did you mean {printable(alike[0])}?" if alike else "names are those of tintype check and data.json"
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        name = printable(missing[0])
        raise DataError(f"the list of --exclude names {name}{more}, but there is no such picture; {hint}")

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


def add_to_list(path: Path, keys: Sequence[str]) -> int:
    """Add keys to a list for --exclude, which is made if it is missing. Returns how many were not in it yet.

    Raises DataError if the file cannot be read or written.
    """
    present = read_exclusions(path).keys if path.exists() else frozenset()
    new = [key for key in dict.fromkeys(keys) if key not in present]
    try:
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        separator = "" if old.endswith("\n") or not old else "\n"
        entries = [json.dumps({"key": key}) if _needs_json(key) else key for key in new]
        path.write_text(old + separator + "".join(f"{entry}\n" for entry in entries), encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise DataError(f"{printable(str(path))} cannot be written: {error}") from None
    return len(new)


def _needs_json(key: str) -> bool:
    """Whether a key alone on a line would be read as something else."""
    return (
        key != key.strip()
        or key[:1] in ("#", "{")
        or len(key.splitlines()) != 1
        or not key.isprintable()
        or bool(_SHA256.fullmatch(key))
    )


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
        name, entry = _entry(line)
        sha256 = None if name == "key" else _SHA256.fullmatch(entry)
        if sha256 is not None:
            hashes.add(sha256[1].lower())
        elif entry and (name or not entry.startswith("#")):
            keys.add(entry)
    return Exclusions(frozenset(keys), frozenset(hashes))


def _entry(line: str) -> tuple[str, str]:
    """What a line of JSON names, such as a row of data.json: sha256, key or path, and its value; of others the line."""
    if line.startswith("{"):
        try:
            values = json.loads(line.rstrip(","))
        except ValueError:
            return "", line
        for name in ("sha256", "key", "path"):
            if isinstance(values.get(name), str):
                return name, str(values[name])
    return "", line
