"""Captions as text files in a zip file, and copies of the pictures beside them on request; sent as it is made."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath

from tintype.studio.dataset import DataSet
from tintype.studio.places import Places, safe_parts

PIECE = 2**20  # bytes of a picture that are read at once


class _Sink:
    """A file that cannot be rewound, whose bytes are taken away as they come."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, content: bytes) -> int:
        self._pieces.append(bytes(content))
        return len(content)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Whoever takes the bytes goes on."""

    def taken(self) -> bytes:
        content = b"".join(self._pieces)
        self._pieces.clear()
        return content


def caption_zip(dataset: DataSet, places: Places, *, pictures: bool) -> Iterator[bytes]:
    """The bytes of a zip file: for each picture in use `PATH.txt` with its captions, a line each, named like it.

    pictures: with the pictures too, byte for byte. Pictures without a caption have no text file. What is gone from the
    disk by now is left out. Pictures of one name but for the ending have text files with the whole name (`a.png.txt`).
    """
    sink = _Sink()
    with dataset.table.reading() as connection:
        rows = connection.execute("select key, file, caption from pictures where used order by key").fetchall()
    names = [_safe_name(key, number) for number, (key, _, _) in enumerate(rows)]
    stems = [str(PurePosixPath(name).with_suffix("")) for name in names]
    repeated = {stem for stem, before in zip(sorted(stems)[1:], sorted(stems), strict=False) if stem == before}
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, stem, (_, place, caption) in zip(names, stems, rows, strict=True):
            if caption:
                archive.writestr(f"{name if stem in repeated else stem}.txt", f"{caption}\n")
            if pictures and (path := dataset.file(places, place)) is not None:
                info = zipfile.ZipInfo(name)  # stored as it is: pictures are compressed already
                try:
                    with path.open("rb") as source, archive.open(info, "w", force_zip64=True) as target:
                        while piece := source.read(PIECE):
                            target.write(piece)
                            yield sink.taken()
                except OSError:
                    continue
            if len(content := sink.taken()) > 0:
                yield content
    yield sink.taken()


def _safe_name(key: str, number: int) -> str:
    """The path of a picture in the zip file: its own where that is safe on every system."""
    return "/".join(safe_parts(key) or (f"{number:06d}{PurePosixPath(key).suffix.lower()}",))
