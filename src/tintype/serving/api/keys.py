"""Keys: their file, which may change while the server runs, and the client that each of them stands for."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path

from tintype.errors import ConfigError
from tintype.serving import logs

MIN_KEY_LENGTH = 8  # characters


class Keys:
    """The keys that clients need; without any, everybody may use the server.

    A key keeps its owner, and with it its jobs, whatever other keys come and go.
    """

    def __init__(self, keys: Sequence[str], path: Path | None = None) -> None:
        self._path = path
        self._owners: dict[bytes, str] = {}  # by digest, of keys that are no longer valid too
        self._valid: tuple[bytes, ...] = ()
        self._error = ""
        self._use(keys)

    def __bool__(self) -> bool:
        return bool(self._valid)

    def owner(self, key: bytes) -> str | None:
        """The owner of a valid key. Compares every key, each in constant time."""
        digest = hashlib.sha256(key).digest()
        matches = [secrets.compare_digest(digest, valid) for valid in self._valid]
        return self._owners[digest] if True in matches else None

    def refresh(self) -> None:
        """Read the file again. While it cannot be used, the keys before stay valid, and the log says why."""
        if self._path is None:
            return
        try:
            keys = read_keys(self._path)
        except ConfigError as error:
            if str(error) != self._error:
                logs.log.error("the keys before stay valid", extra={"fields": {"error": str(error)}})
            self._error = str(error)
            return
        self._error = ""
        before = self._valid
        self._use(keys)
        if self._valid != before:
            num_new, num_gone = len({*self._valid} - {*before}), len({*before} - {*self._valid})
            logs.event("keys changed", keys=len(keys), new=num_new, removed=num_gone)

    def _use(self, keys: Sequence[str]) -> None:
        valid = tuple(hashlib.sha256(key.encode()).digest() for key in keys)
        for digest in valid:
            self._owners.setdefault(digest, f"key-{len(self._owners)}")
        self._valid = valid


def read_keys(path: Path) -> tuple[str, ...]:
    """The keys in a file, one per line; empty lines and lines that start with # are skipped. Raises ConfigError."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'not a text file'}") from None
    keys = tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not keys:
        raise ConfigError(f"{path} contains no key; write one per line")
    if any(len(key) < MIN_KEY_LENGTH or not key.isascii() or " " in key for key in keys):
        raise ConfigError(f"each key in {path} must be at least {MIN_KEY_LENGTH} letters and digits without spaces")
    return keys
