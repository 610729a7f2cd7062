"""A cache of files that were made from jobs, within a bound on their bytes."""

from __future__ import annotations

from collections.abc import Hashable


class ByteCache:
    """Files by key; beyond `max_bytes` those go first that were not read for longest."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._files: dict[Hashable, bytes] = {}  # the file that was read last is the last

    def get(self, key: Hashable) -> bytes | None:
        """A file; None if it is not there, or no longer."""
        content = self._files.pop(key, None)
        if content is not None:
            self._files[key] = content
        return content

    def add(self, key: Hashable, content: bytes) -> None:
        """Keep a file, and forget others beyond the bound; a file that is larger than the bound is not kept."""
        self._num_bytes += len(content) - len(self._files.pop(key, b""))
        self._files[key] = content
        for oldest in list(self._files):
            if self._num_bytes <= self._max_bytes:
                break
            self._num_bytes -= len(self._files.pop(oldest))
