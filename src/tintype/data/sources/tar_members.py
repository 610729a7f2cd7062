"""Members of a tar file: pictures by their offsets, and texts with their content, read from the headers one by one."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator
from typing import IO, NamedTuple, cast

from tintype.data.sources.captions import MAX_CAPTION_BYTES
from tintype.data.sources.file_types import CAPTION_SUFFIXES, HEAD_BYTES, PICTURE_SUFFIXES, is_picture, unsupported
from tintype.data.sources.files import MAX_BYTES, FileError, one_line, too_large
from tintype.data.sources.pairs import NEITHER, Problem, Remarks
from tintype.data.sources.remote import Archive
from tintype.data.sources.walk import RUN, RunsInArchive, is_junk
from tintype.printable import printable

JSON = ".json"
TEXTS = (*CAPTION_SUFFIXES, JSON)  # suffixes of captions; of a sample, the first is used
MAX_HEADER_BYTES = 2**20  # of one header, long names and pax records included
_BLOCK = 512  # bytes; headers and contents begin at multiples of it


class Part(NamedTuple):
    """A picture, or a text with its content, or a file whose suffix is that of a picture that cannot be read."""

    name: str
    offset: int  # bytes
    size: int
    content: bytes
    reason: str  # why it cannot be read; "" if it can
    is_picture: bool


class TarMembers:
    """The members of a tar file that may belong to samples, in order, and what there is to say of all others.

    Paths of problems are names of members, or "" for the tar file as a whole.
    """

    def __init__(self, archive: Archive) -> None:
        self.parts: list[Part] = []
        self.problems: list[Problem] = []
        self.remarks = Remarks()
        self._others: dict[str, Remarks] = {}  # on files of no known kind, by folder
        self._runs = RunsInArchive()
        for part in self._read(archive):
            self.parts.append(part)
        runs = self._runs.outermost()
        if runs:
            self.parts = [part for part in self.parts if not part.name.startswith(runs)]
            self.problems = [problem for problem in self.problems if not problem.path.startswith(runs)]
            self.problems += [Problem(run.rstrip("/"), RUN) for run in runs]
        for folder, remarks in self._others.items():
            if not folder.startswith(runs):
                self.remarks.update(remarks)

    def report(self, member: str, reason: str, left_out: bool = True) -> None:
        self.problems.append(Problem(member, reason, left_out))

    def _read(self, archive: Archive) -> Iterator[Part]:
        try:
            with archive.open() as file:
                try:
                    tar = tarfile.open(fileobj=cast("IO[bytes]", _HeaderReader(file)), mode="r:")
                except tarfile.TarError:
                    self.report("", _wrong_format(file))
                    return
                with tar:
                    for member in _headers(tar):
                        yield from self._part(member, file, archive.size)
                    self._require_end(tar, file, archive.size)
        except (tarfile.TarError, OSError, ValueError, OverflowError, EOFError) as error:
            self.report("", f"damaged: the rest cannot be read ({one_line(error)})")
        except FileError as error:
            self.report("", str(error))

    def _part(self, member: tarfile.TarInfo, file: IO[bytes], end: int) -> Iterator[Part]:
        """The member as a part, if it is one. end: size of the tar file, bytes."""
        name = member.name.removeprefix("./")
        if member.isdir() or any(map(is_junk, name.split("/"))):
            return
        self._runs.add(name)
        folder, base = posixpath.split(name)
        suffix = posixpath.splitext(base)[1].lower()
        is_text, has_picture = suffix in TEXTS, suffix in PICTURE_SUFFIXES
        if not (is_text or has_picture or unsupported(suffix)):
            has_picture = member.isreg() and is_picture(_content(file, member, HEAD_BYTES))
            if not has_picture:
                self._others.setdefault(f"{folder}/" if folder else "", Remarks()).add(NEITHER, name)
                return
        reason, content = "", b""
        limit = MAX_CAPTION_BYTES if is_text else MAX_BYTES
        if not member.isreg() or member.issparse():
            reason = "not a regular file"
        elif member.size > limit:
            reason = too_large(limit)
        elif member.offset_data + member.size > end:
            reason = "the tar file is cut short inside this member"
        elif is_text:
            content = _content(file, member, member.size)
        yield Part(name, member.offset_data, member.size, content, reason, has_picture)

    def _require_end(self, tar: tarfile.TarFile, file: IO[bytes], end: int) -> None:
        """Report a damaged header, which tarfile takes for the end; the true end is a block of zeros or the file's."""
        file.seek(tar.offset)
        if file.read(_BLOCK).strip(b"\0"):
            rest = f"the remaining {(end - tar.offset) / 2**20:.1f} MB are not read"
            self.report("", f"damaged at byte {tar.offset:,}: {rest}")


def _headers(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    before = -1
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # they would be kept for ever
        if member.size < 0 or tar.offset <= before:  # some Pythons would read the same headers again and again
            raise tarfile.ReadError(f"the member {printable(member.name)} has no possible size")
        before = tar.offset
        yield member


def _content(file: IO[bytes], member: tarfile.TarInfo, size: int) -> bytes:
    file.seek(member.offset_data)
    return file.read(min(size, member.size))


class _HeaderReader:
    """A tar file through which tarfile reads headers; a larger read would be a header of absurd size."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header is larger than {MAX_HEADER_BYTES / 2**20:g} MB, or of negative size")
        return self._file.read(size)


def _wrong_format(file: IO[bytes]) -> str:
    file.seek(0)
    head = file.read(6)
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"PK")):
        return "compressed, so single pictures cannot be read: unpack it to .tar"
    return "the file is empty" if not head else "not a tar file"
