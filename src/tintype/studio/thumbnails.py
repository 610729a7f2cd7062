"""Thumbnails of pictures in a data set, made when they are asked for and kept within a bound."""

from __future__ import annotations

import io
from pathlib import Path
from threading import Lock, Semaphore

from tintype.data.images.decode import decode_image
from tintype.data.sources.files import FileError, read_file
from tintype.serving.api.byte_cache import ByteCache

MAX_BYTES = 32 * 2**20  # of all that are kept
AT_ONCE = 2  # pictures that are decoded
QUALITY = 82


class Thumbnails:
    """Makes and keeps thumbnails. Threads may share it."""

    def __init__(self) -> None:
        self._kept = ByteCache(MAX_BYTES)
        self._lock = Lock()
        self._turns = Semaphore(AT_ONCE)

    def get(self, path: Path, side: int) -> bytes:
        """A JPEG of at most `side` pixels a side. Raises FileError if the file cannot be read as a picture."""
        try:
            info = path.stat()
        except OSError:
            raise FileError("it does not exist") from None
        key = (str(path), info.st_mtime_ns, info.st_size, side)
        with self._lock:
            content = self._kept.get(key)
        if content is None:
            with self._turns:
                content = _made(path, side)
            with self._lock:
                self._kept.add(key, content)
        return content


def _made(path: Path, side: int) -> bytes:
    try:
        picture = decode_image(read_file(path), side).picture
    except MemoryError:
        raise FileError("too large for the memory of this machine") from None
    picture.thumbnail((side, side))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
