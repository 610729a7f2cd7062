"""The trash: what is deleted goes to a folder of the studio, from which it can be put back."""

from __future__ import annotations

import datetime
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tintype.model.atomic_write import delete, write_text
from tintype.serving.api.errors import ApiError
from tintype.studio.places import Places
from tintype.studio.record import now

ITEM = "item"  # the folder that was deleted, in a folder of its own
ABOUT = "deleted.json"
_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9-]{1,80}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Trashed:
    """A data set or run in the trash; `extra` is what it needs to be put back."""

    id: str
    kind: str  # "dataset" or "run"
    name: str
    deleted: str  # ISO time
    bytes: int
    extra: Mapping[str, Any]

    def json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("id", "kind", "name", "deleted", "bytes")}


def put(places: Places, kind: str, folder: Path, extra: Mapping[str, Any]) -> Trashed:
    """Move a folder into the trash; one that has disappeared is noted all the same. Raises ApiError."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    number = f"{stamp}-{folder.name}-{secrets.token_hex(2)}"
    home = places.trash / number
    item = Trashed(number, kind, folder.name, now(), size_of(folder), extra)
    try:
        home.mkdir()
        write_text(home / ABOUT, json.dumps({**item.json(), "extra": dict(extra)}, indent=1) + "\n")
        if folder.exists():
            os.rename(folder, home / ITEM)
    except OSError as error:
        delete(home)
        raise ApiError(500, f"it cannot be moved to the trash: {error.strerror}", "not_written") from None
    return item


def restore(places: Places, item: Trashed, target: Path) -> None:
    """Put a folder back. Raises ApiError if its place is taken."""
    home = places.trash / item.id
    if target.exists():
        raise ApiError(409, "there is another of this name by now; rename or delete that first", "name_taken")
    if (home / ITEM).exists():
        os.rename(home / ITEM, target)
    delete(home)


def remove(places: Places, item: Trashed) -> None:
    """Delete for good."""
    delete(places.trash / item.id)


def find(places: Places, number: str) -> Trashed | None:
    """Something in the trash; None without it."""
    if not _ID.fullmatch(number):
        return None
    try:
        content = json.loads((places.trash / number / ABOUT).read_text(encoding="utf-8"))
        return Trashed(**content)
    except (OSError, ValueError, TypeError):
        return None


def everything(places: Places) -> list[Trashed]:
    """Everything in the trash, the newest first."""
    found = (find(places, path.name) for path in sorted(places.trash.iterdir(), reverse=True))
    return [item for item in found if item is not None]


def size_of(folder: Path) -> int:
    """The bytes in a folder; links count nothing, and a file of several names counts once."""
    sizes: dict[tuple[int, int], int] = {}
    for path, _, names in os.walk(folder):
        for name in names:
            info = os.lstat(os.path.join(path, name))
            if not stat.S_ISLNK(info.st_mode):
                sizes[info.st_dev, info.st_ino] = info.st_size
    return sum(sizes.values())


def free_space(places: Places) -> int:
    """Free bytes on the disk of the studio."""
    return shutil.disk_usage(places.studio).free
