"""The manifest of a finished model, `model.manifest.json` beside it: images seen, and size and sha256 of its files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tintype.errors import CheckpointError
from tintype.model.atomic_write import reason_of, sync_folder, write_text
from tintype.model.file_names import COMPONENTS, CONFIG, EVALUATION, MODEL_MANIFEST, TOKENIZER, WEIGHTS
from tintype.model.read_file import MAX_CONFIG_BYTES, read_text

FORMAT = 1
FILES = (CONFIG, WEIGHTS, TOKENIZER, COMPONENTS)  # the last two where a model has them


def write(folder: Path, images_seen: int) -> None:
    """Write the manifest of the model that lies in `folder`. Raises CheckpointError."""
    files = {name: _entry(folder / name) for name in FILES if (folder / name).is_file()}
    _write(folder, {"format": FORMAT, "images_seen": images_seen, "files": files})


def update(folder: Path, name: str) -> None:
    """Note that Tintype itself has rewritten a file of the model; without a manifest nothing happens.

    Raises CheckpointError.
    """
    try:
        manifest = read(folder)
    except CheckpointError:  # verifying it will say so
        return
    if manifest is not None and name in manifest["files"]:
        manifest["files"][name] = _entry(folder / name)
        _write(folder, manifest)


def remove(folder: Path) -> None:
    """Delete the manifest, before the weights are replaced. Raises CheckpointError."""
    path = folder / MODEL_MANIFEST
    try:
        path.unlink(missing_ok=True)
        sync_folder(folder)
    except OSError as error:
        raise CheckpointError(f"cannot delete {path}: {reason_of(error)}; delete it yourself") from None


def read(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished model; None where an older Tintype wrote none. Raises CheckpointError."""
    path = folder / MODEL_MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = json.loads(read_text(path, MAX_CONFIG_BYTES))
        images_seen, files = manifest["images_seen"], manifest["files"]
        entries = {
            str(name): {"size": int(entry["size"]), "sha256": str(entry["sha256"])} for name, entry in files.items()
        }
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {reason_of(error)}; copy the model again") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise CheckpointError(f"{path} is damaged; copy the model again") from None
    if manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path} is of another format; it needs another version of Tintype")
    if type(images_seen) is not int or images_seen < 0 or WEIGHTS not in entries or not set(entries) <= set(FILES):
        raise CheckpointError(f"{path} is damaged; copy the model again")
    return {"format": FORMAT, "images_seen": images_seen, "files": entries}


def images_seen(folder: Path) -> int | None:
    """Images that a finished model has seen, by its manifest, else by its evaluation.json; None if neither says so."""
    try:
        manifest = read(folder)
    except CheckpointError:
        manifest = None
    return manifest["images_seen"] if manifest is not None else read_images_seen(folder / EVALUATION)


def read_images_seen(path: Path) -> int | None:
    """The entry `images_seen` of a JSON file; None without it."""
    try:
        value = json.loads(read_text(path, MAX_CONFIG_BYTES))["images_seen"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return value if type(value) is int else None


def verify(folder: Path) -> list[str]:
    """Compare every file of a finished model with its manifest. Returns their names.

    Raises CheckpointError naming the first file that is missing or not what was written.
    """
    manifest = read(folder)
    if manifest is None:
        raise CheckpointError(
            f"{folder} has no {MODEL_MANIFEST} to compare with: an older Tintype wrote it; compare the sha256 that "
            "tintype info prints with that of the original"
        )
    for name in FILES:
        if name in manifest["files"]:
            require(folder, name, _entry(folder / name), manifest)
        elif (folder / name).exists():
            raise CheckpointError(
                f"{folder / name} is not in {MODEL_MANIFEST}, so it was added later; copy the model again"
            )
    return list(manifest["files"])


def require(folder: Path, name: str, entry: dict[str, Any], manifest: dict[str, Any]) -> None:
    """Raise CheckpointError if a file's size and sha256 are not those of the manifest."""
    if entry != manifest["files"][name]:
        raise CheckpointError(
            f"{folder / name} is damaged or was changed: it is not what {MODEL_MANIFEST} says; copy the model again "
            f"(if you changed it on purpose, delete {MODEL_MANIFEST})"
        )


def _entry(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {reason_of(error)}; copy the model again") from None


def _write(folder: Path, manifest: dict[str, Any]) -> None:
    write_text(folder / MODEL_MANIFEST, json.dumps(manifest, indent=2) + "\n")
