"""Models on the Hugging Face Hub, `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`: fetched when asked for by that name.

Only the files of FILES are fetched, from one commit, after their sizes have been compared with these limits and, of the
weights, with what the configuration needs. They lie in the cache of huggingface_hub; without a network the cache is
used. Nothing in a repository is run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tintype._version import __version__
from tintype.config import Config
from tintype.errors import CheckpointError, ConfigError, MissingExtraError
from tintype.model.denoiser import Denoiser
from tintype.model.file_names import (
    CARD,
    COMPONENTS,
    CONFIG,
    EVALUATION,
    MODEL_MANIFEST,
    RECORD,
    TOKENIZER,
    WEIGHTS,
)
from tintype.model.meta_device import meta_device
from tintype.model.read_file import MAX_CONFIG_BYTES, MAX_TOKENIZER_BYTES, read_text
from tintype.printable import one_line

PREFIX = "hf:"
MAX_WEIGHTS_BYTES = 2**34  # of a network that is a Python object, whose size the configuration does not tell
FILES = {  # the only files that are fetched, with the most bytes that each may have
    CONFIG: MAX_CONFIG_BYTES,
    WEIGHTS: MAX_WEIGHTS_BYTES,
    TOKENIZER: MAX_TOKENIZER_BYTES,
    MODEL_MANIFEST: MAX_CONFIG_BYTES,
    COMPONENTS: MAX_CONFIG_BYTES,
    EVALUATION: MAX_CONFIG_BYTES,
    RECORD: MAX_CONFIG_BYTES,
    CARD: MAX_CONFIG_BYTES,
}
NEEDED = (CONFIG, WEIGHTS)
MAX_HEADER_BYTES = 2**20  # of a safetensors file; that of a small model takes 20 kB
_NAME = re.compile(r"hf:([\w-][\w.-]{0,95}/[\w-][\w.-]{0,95})(?:@([\w./-]{1,128}))?", re.ASCII)


def fetched(name: str) -> Path:
    """The folder of `hf:OWNER/NAME` in the local cache, fetched if the hub has a newer one or the cache has none.

    Raises CheckpointError if it is no Tintype model or is not to be had, MissingExtraError without huggingface_hub.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise CheckpointError(f"{one_line(name)} is not hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    repository, revision = match.groups()
    hub = connect()
    try:
        info = hub.model_info(repository, revision=revision, files_metadata=True)
    except Exception as error:  # each version of huggingface_hub has its own errors of the network
        if is_missing(error):
            raise CheckpointError(
                f"{name} is not on the Hugging Face Hub, or is private: check the name, or log in with hf auth login"
            ) from None
        return _cached(hub, name, repository, revision, error)
    sizes = {file.rfilename: file.size for file in info.siblings or () if file.rfilename in FILES}
    _require_sizes(name, sizes)
    try:
        folder = Path(hub.hf_hub_download(repository, CONFIG, revision=info.sha)).parent
        _require_model(name, folder, sizes[WEIGHTS], own_net=COMPONENTS in sizes)
        for file in sizes:
            hub.hf_hub_download(repository, file, revision=info.sha)
        hub.hf_hub_download(
            repository, CONFIG, revision=revision
        )  # notes in the cache which commit the name stands for
    except CheckpointError:
        raise
    except Exception as error:  # as above; a full disk too
        raise CheckpointError(f"{name} cannot be fetched: {one_line(str(error))}") from None
    return folder


def connect() -> Any:
    """A client of the Hugging Face Hub. Raises MissingExtraError without huggingface_hub."""
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise MissingExtraError("huggingface_hub", "tintype[hub]") from None
    return HfApi(library_name="tintype", library_version=__version__)


def is_missing(error: Exception) -> bool:
    """Whether an error of huggingface_hub says that there is no such repository or revision for this user."""
    return {"RepositoryNotFoundError", "RevisionNotFoundError", "GatedRepoError"} & {
        base.__name__ for base in type(error).__mro__
    } != set()


def _cached(hub: Any, name: str, repository: str, revision: str | None, error: Exception) -> Path:
    """The folder in the local cache, where the hub does not answer (`error`). Raises CheckpointError."""
    try:
        folder = Path(hub.snapshot_download(repository, revision=revision, local_files_only=True))
        if all((folder / file).is_file() for file in NEEDED):
            return folder
    except Exception:  # it is not in the cache
        pass
    reason = one_line(str(error))[:200] or type(error).__name__
    raise CheckpointError(
        f"{name} is not on this machine, and the Hugging Face Hub cannot be reached: {reason}"
    ) from None


def _require_sizes(name: str, sizes: dict[str, int | None]) -> None:
    """Raise CheckpointError if a repository lacks a file that a model needs, or has one that is too large."""
    for file in NEEDED:
        if file not in sizes:
            raise CheckpointError(f"{name} is no Tintype model: it has no {file}")
    for file, size in sizes.items():
        if size is None or size > FILES[file]:
            raise CheckpointError(f"{name} is no Tintype model: its {file} is larger than {FILES[file] / 2**20:g} MB")


def _require_model(name: str, folder: Path, weights_bytes: int | None, *, own_net: bool) -> None:
    """Raise CheckpointError if `folder` has no configuration of ours, or one that needs fewer bytes of weights.

    own_net: the network may be an object from Python, whose size is unknown.
    """
    try:
        config = Config.from_json(read_text(folder / CONFIG, MAX_CONFIG_BYTES))
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise CheckpointError(f"{name} is no Tintype model: {one_line(str(error))}") from None
    if own_net:
        return
    with meta_device():
        needed = sum(4 * weight.numel() for weight in Denoiser(config).parameters())
    if weights_bytes is None or weights_bytes > needed + MAX_HEADER_BYTES:
        raise CheckpointError(f"{name}: its weights do not fit its {CONFIG}, which needs {needed / 1e6:.1f} MB")
