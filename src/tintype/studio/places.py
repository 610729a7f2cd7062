"""Places on the disk: the folder of the studio, the root below which people choose folders, and names that are safe."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from tintype.errors import ConfigError

MAX_NAME_BYTES = 255  # of a file name, which most file systems allow
MAX_PATH_BYTES = 1024
MAX_DEPTH = 16  # folders in folders
MAX_ID = 60  # characters
_WINDOWS = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?", re.IGNORECASE)
_FORBIDDEN = set('\\:*?"<>|')  # in names on Windows
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,59})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Places:
    """The folders that the studio works with.

    root: people choose folders below it, and nothing outside it is read. studio: everything that it writes.
    """

    root: Path
    studio: Path

    @classmethod
    def make(cls, root: Path, studio: Path) -> Places:
        """The places, with links resolved; makes the folder of the studio. Raises ConfigError."""
        if not root.is_dir():
            raise ConfigError(f"--root {root} is not a folder")
        try:
            for name in ("", "datasets", "runs", "jobs", "trash", "plans"):
                (studio / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot write in {studio}: {error.strerror}; choose another --studio-folder") from None
        return cls(root.resolve(), studio.resolve())

    @property
    def datasets(self) -> Path:
        return self.studio / "datasets"

    @property
    def runs(self) -> Path:
        return self.studio / "runs"

    @property
    def jobs(self) -> Path:
        """State and output of the processes that train."""
        return self.studio / "jobs"

    @property
    def trash(self) -> Path:
        return self.studio / "trash"

    @property
    def plans(self) -> Path:
        return self.studio / "plans"

    def below_root(self, text: str) -> Path | None:
        """A path below the root, with links resolved; None if it leads out, is hidden, or does not exist."""
        parts = text.split("/") if text else []
        if any(part in ("", ".", "..") or part.startswith(".") or "\0" in part for part in parts):
            return None
        if os.sep != "/" and any(os.sep in part or ":" in part for part in parts):
            return None
        try:
            path = self.root.joinpath(*parts).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            return None
        return path if is_inside(path, self.root) else None


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a resolved path is a resolved folder or lies in it."""
    return path == folder or folder in path.parents


def safe_parts(text: str) -> tuple[str, ...] | None:
    """The parts of a relative path that is safe on every system; None if it is not.

    Refused are ways out, absolute paths, hidden files, control characters and names that Windows reserves.
    """
    if not text or len(text.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        return None
    parts = tuple(unicodedata.normalize("NFC", text).split("/"))
    return parts if len(parts) <= MAX_DEPTH and all(map(_is_safe, parts)) else None


def _is_safe(name: str) -> bool:
    if not name or name.startswith(".") or name.endswith((" ", ".")) or name != name.lstrip():
        return False
    if any(sign in _FORBIDDEN or not sign.isprintable() for sign in name) or _WINDOWS.fullmatch(name):
        return False
    return len(name.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES


def is_id(text: str) -> bool:
    """Whether a text is an identifier of a data set or run: small letters, digits and dashes."""
    return _ID.fullmatch(text) is not None


def id_of(name: str) -> str:
    """An identifier from a name for people: `My cats` -> `my-cats`; letters of other alphabets are left out."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    text = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:MAX_ID].strip("-")
    return text if text and not _WINDOWS.fullmatch(text) else "pictures"
