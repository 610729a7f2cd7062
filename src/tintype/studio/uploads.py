"""Uploads: files in chunks with offsets, so that one goes on where its connection was cut. Hashes are compared."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import threading
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tintype.data.sources.file_types import CAPTION_SUFFIXES, PICTURE_SUFFIXES
from tintype.data.sources.files import MAX_BYTES
from tintype.data.sources.metadata import METADATA_NAMES
from tintype.model.atomic_write import write_text
from tintype.serving.api.errors import ApiError, bad_request
from tintype.studio.dataset import STALE, DataSet
from tintype.studio.places import safe_parts

ARCHIVE_SUFFIXES = (".zip", ".tar", ".parquet")
PARTIAL = ".uploads"  # folder of unfinished files, in that of the uploaded pictures
_NUMBER = re.compile(r"u[0-9a-f]{16}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """What may be uploaded; sizes in bytes."""

    chunk: int = 4 * 2**20
    file: int = MAX_BYTES  # as large as training reads
    archive: int = 16 * 2**30
    files: int = 200_000  # of a data set
    open: int = 100  # unfinished files of a data set
    reserve: int = 512 * 2**20  # that stay free on the disk

    def json(self) -> dict[str, Any]:
        names = [*sorted(PICTURE_SUFFIXES), *CAPTION_SUFFIXES, *ARCHIVE_SUFFIXES, *METADATA_NAMES]
        sizes = {"chunk_bytes": self.chunk, "file_bytes": self.file, "archive_bytes": self.archive, "files": self.files}
        return {**sizes, "suffixes": names}


@dataclass(slots=True)
class Upload:
    """An unfinished file; each of its chunks has been compared with its hash."""

    id: str
    path: str
    size: int

    def json(self, offset: int, chunk: int) -> dict[str, Any]:
        return {**asdict(self), "offset": offset, "chunk_bytes": chunk}


class WrongOffset(Exception):
    """A chunk does not begin where the file ends."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"the file goes on at {offset}")
        self.offset = offset


class Uploads:
    """The uploads of a studio. Chunks of one file are written one after another."""

    def __init__(self, limits: UploadLimits | None = None) -> None:
        self.limits = limits or UploadLimits()
        self._lock = threading.Lock()
        self._counts: dict[Path, int] = {}  # files of each folder, counted once

    def put(self, dataset: DataSet, path: str, sha256: str, content: bytes) -> dict[str, Any]:
        """Store a small file whole. Raises ApiError."""
        target = self._target(dataset, path, len(content))
        _require_hash(content, sha256)
        with self._lock:
            self._require_room(dataset, target, len(content))
            partial = _folder(dataset) / f"{secrets.token_hex(8)}.whole"
            try:
                with _fresh(partial) as file:
                    file.write(content)
                self._into_place(dataset, partial, target)
            except OSError as error:
                raise _refused(error) from None
            finally:
                partial.unlink(missing_ok=True)
        return {"path": path, "bytes": len(content), "sha256": sha256.lower()}

    def begin(self, dataset: DataSet, path: str, size: int) -> dict[str, Any]:
        """Begin a file, or find the unfinished one of the same path and size. Raises ApiError."""
        target = self._target(dataset, path, size)
        with self._lock:
            known = [self._read(part) for part in _folder(dataset).glob("u*.json")]
            for upload in filter(None, known):
                if (upload.path, upload.size) == (path, size):
                    return upload.json(self._offset(dataset, upload), self.limits.chunk)
            if len(known) >= self.limits.open:
                raise ApiError(409, "too many files are unfinished; finish or delete some", "too_many_files")
            self._require_room(dataset, target, size)
            upload = Upload(f"u{secrets.token_hex(8)}", path, size)
            try:
                _fresh(_part(dataset, upload)).close()
                write_text(_folder(dataset) / f"{upload.id}.json", json.dumps(asdict(upload)))
            except OSError as error:
                raise _refused(error) from None
            return upload.json(0, self.limits.chunk)

    def get(self, dataset: DataSet, number: str) -> Upload | None:
        """An unfinished file; None without it."""
        return self._read(_folder(dataset) / f"{number}.json") if _NUMBER.fullmatch(number) else None

    def offset(self, dataset: DataSet, upload: Upload) -> int:
        """How many bytes have arrived."""
        with self._lock:
            return self._offset(dataset, upload)

    def append(self, dataset: DataSet, upload: Upload, offset: int, sha256: str, content: bytes) -> int:
        """Add a chunk. Returns the new length. Raises ApiError, and WrongOffset with the right one.

        A chunk that cannot be written whole leaves the file as it was.
        """
        _require_hash(content, sha256)
        with self._lock:
            length = self._offset(dataset, upload)
            if offset != length:
                raise WrongOffset(length)
            if length + len(content) > upload.size:
                raise bad_request(f"the file has {upload.size} bytes, and this chunk goes beyond", "offset")
            self._require_disk(dataset, len(content))
            try:
                with _part(dataset, upload).open("r+b", buffering=0) as file:
                    file.seek(length)
                    try:
                        _write(file, content)
                    except OSError:
                        file.truncate(length)
                        raise
            except OSError as error:
                raise _refused(error) from None
            return length + len(content)

    def finish(self, dataset: DataSet, upload: Upload, sha256: str | None) -> dict[str, Any]:
        """Put a whole file into its place. Raises ApiError, and WrongOffset if some of it is missing."""
        with self._lock:
            length = self._offset(dataset, upload)
            if length != upload.size:
                raise WrongOffset(length)
            part = _part(dataset, upload)
            with part.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if sha256 is not None and digest != sha256.lower():
                message = "the file that arrived is not the one that was sent; delete the upload and send it again"
                raise ApiError(400, message, "wrong_hash", "sha256")
            try:
                self._into_place(dataset, part, self._target(dataset, upload.path, upload.size))
            except OSError as error:
                raise _refused(error) from None
            (_folder(dataset) / f"{upload.id}.json").unlink(missing_ok=True)
        return {"path": upload.path, "bytes": upload.size, "sha256": digest}

    def delete(self, dataset: DataSet, upload: Upload) -> None:
        """Forget an unfinished file."""
        with self._lock:
            for path in (_folder(dataset) / f"{upload.id}.json", _part(dataset, upload)):
                path.unlink(missing_ok=True)

    def _target(self, dataset: DataSet, path: str, size: int) -> Path:
        """Where a file belongs. Raises ApiError for a name or a size that is not allowed."""
        if dataset.chosen is not None:
            raise ApiError(409, "this data set is a folder of this machine; put files there", "not_possible")
        parts = safe_parts(path)
        if parts is None:
            raise bad_request("the name of this file is not allowed", "path", "name_not_allowed")
        suffix = PurePosixPath(parts[-1]).suffix.lower()
        if suffix not in (*PICTURE_SUFFIXES, *CAPTION_SUFFIXES, *ARCHIVE_SUFFIXES) and parts[-1] not in METADATA_NAMES:
            message = "this is neither a picture nor a caption, a metadata file or an archive"
            raise ApiError(415, message, "unsupported_file", "path")
        limit = self.limits.archive if suffix in ARCHIVE_SUFFIXES else self.limits.file
        if not 0 < size <= limit:
            raise ApiError(413, f"a file like this must have 1 to {limit:,} bytes", "file_too_large", "size")
        return dataset.uploaded.joinpath(*parts)

    def _require_room(self, dataset: DataSet, target: Path, size: int) -> None:
        """Raise ApiError if there are too many files already, or too little disk is left."""
        if not target.exists() and self._num_files(dataset.uploaded) >= self.limits.files:
            raise ApiError(409, f"a data set holds at most {self.limits.files:,} files", "too_many_files")
        self._require_disk(dataset, size)

    def _num_files(self, folder: Path) -> int:
        if folder not in self._counts:
            walk = os.walk(folder)
            self._counts[folder] = sum(len(names) for path, _, names in walk if PARTIAL not in Path(path).parts)
        return self._counts[folder]

    def _into_place(self, dataset: DataSet, part: Path, target: Path) -> None:
        """Move a whole file to its place, in place of one that is there. Raises OSError and ApiError."""
        above = [path for path in target.parents if dataset.uploaded in path.parents]
        if target.is_dir() or any(path.is_file() for path in above):
            raise bad_request("a folder and a file cannot have the same name", "path", "name_not_allowed")
        num_files = self._num_files(dataset.uploaded) + (not target.exists())
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, target)
        self._counts[dataset.uploaded] = num_files
        (dataset.home / STALE).touch()

    def _require_disk(self, dataset: DataSet, size: int) -> None:
        if shutil.disk_usage(dataset.home).free < size + self.limits.reserve:
            raise _disk_full()

    def _offset(self, dataset: DataSet, upload: Upload) -> int:
        try:
            return min(_part(dataset, upload).stat().st_size, upload.size)
        except OSError:
            raise ApiError(404, "unknown upload; begin it again", "upload_not_found") from None

    def _read(self, path: Path) -> Upload | None:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return Upload(str(content["id"]), str(content["path"]), int(content["size"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _folder(dataset: DataSet) -> Path:
    """The folder of unfinished files; the data sources pass over hidden ones."""
    folder = dataset.uploaded / PARTIAL
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _part(dataset: DataSet, upload: Upload) -> Path:
    return _folder(dataset) / f"{upload.id}.part"


def _fresh(path: Path) -> Any:
    """Open a file that does not exist yet, and never through a link."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def _write(file: Any, content: bytes) -> None:
    """Write all of a chunk. Raises OSError."""
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]


def _require_hash(content: bytes, sha256: str) -> None:
    if not _SHA256.fullmatch(sha256.lower()) or hashlib.sha256(content).hexdigest() != sha256.lower():
        raise ApiError(400, "the bytes that arrived do not have this sha256; send them again", "wrong_hash", "sha256")


def _refused(error: OSError) -> ApiError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return _disk_full()
    return ApiError(500, f"the file cannot be written: {error.strerror}", "not_written")


def _disk_full() -> ApiError:
    return ApiError(507, "the disk is full; free some space and go on", "disk_full", final=True)
