"""Publishing: an exported folder as a repository on the Hugging Face Hub, in one commit."""

from __future__ import annotations

import re
from pathlib import Path

from tintype.errors import CheckpointError, ConfigError
from tintype.export.card import HUB_NAME
from tintype.export.diffusers import layout
from tintype.export.record import read_record
from tintype.export.target import added_files
from tintype.model import hub
from tintype.model.file_names import CARD, RECORD
from tintype.model.read_file import MAX_CONFIG_BYTES, read_text
from tintype.printable import one_line

KNOWN = {*hub.FILES, *layout.FILES}  # what an export may leave in a repository
_REPOSITORY = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}", re.ASCII)


def push(folder: str | Path, repository: str, *, private: bool = False) -> str:
    """Upload an exported folder to the repository OWNER/NAME, which is made if it is missing. Returns its address.

    Files of a known name that an earlier push left there and this export lacks are deleted.

    private: make a new repository one that others cannot see.

    Raises CheckpointError for a folder that is no export or has files that no export wrote, or if the hub refuses;
    ConfigError for a wrong name; MissingExtraError without huggingface_hub.
    """
    source, name = Path(folder), repository.removeprefix(hub.PREFIX)
    if not _REPOSITORY.fullmatch(name):
        raise ConfigError(f"a repository is OWNER/NAME, not {one_line(repository)!r}")
    files = _files(source)
    client = hub.connect()
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    card = read_text(source / CARD, MAX_CONFIG_BYTES).replace(HUB_NAME, hub.PREFIX + name) if CARD in files else ""
    contents = {file: card.encode() if file == CARD else source / file for file in files}
    try:
        client.create_repo(name, private=private or None, exist_ok=True)
        stale = [file for file in client.list_repo_files(name) if file in KNOWN and file not in files]
        commit = client.create_commit(
            name,
            [
                *(CommitOperationAdd(file, content) for file, content in contents.items()),
                *(CommitOperationDelete(file) for file in stale),
            ],
            commit_message="Upload a model with tintype push",
        )
    except Exception as error:  # each version of huggingface_hub has its own errors of the network
        raise CheckpointError(f"cannot publish {name}: {_reason(error)}") from None
    return str(getattr(commit, "repo_url", f"https://huggingface.co/{name}"))


def _files(folder: Path) -> list[str]:
    """The files of an exported folder. Raises CheckpointError if it is none, or holds anything else."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; publish what tintype export has written")
    record = read_record(folder)
    if record is None:
        raise CheckpointError(
            f"{folder} is no export, and may hold captions, pictures and paths: run tintype export {folder} --out "
            "FOLDER, and publish that folder"
        )
    if added := added_files(folder):
        raise CheckpointError(f"{folder} has a file that no export wrote ({added[0]}); move it before you publish")
    files = [*record.files, RECORD]
    root = folder.resolve()
    for file in files:
        path = folder / file
        if not path.is_file() or not path.resolve().is_relative_to(root):
            raise CheckpointError(f"{folder} lacks {file}; export the model again")
    return files


def _reason(error: Exception) -> str:
    """What a person can do about an error of the hub, or what it says."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401 or type(error).__name__ == "LocalTokenNotFoundError":
        return "log in first, with hf auth login"
    if status == 403:
        return "your login may not write there; log in with a token that may, with hf auth login"
    return one_line(str(error))[:300] or type(error).__name__
