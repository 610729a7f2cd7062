"""Archive formats by suffix: the one list of them, for a data source and for what lies in a data folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tintype.config import DataConfig
from tintype.data.sources.pairs import Listing
from tintype.data.sources.parquet import list_parquet
from tintype.data.sources.remote import Archive
from tintype.data.sources.webdataset import list_tar


class ArchiveFormat(NamedTuple):
    """A file format that holds captioned pictures."""

    list: Callable[[Archive, str, DataConfig], Listing]  # keys begin with the name that it is given


FORMATS = {
    ".tar": ArchiveFormat(list_tar),
    ".parquet": ArchiveFormat(list_parquet),
}


def archive_format(name: str) -> ArchiveFormat | None:
    """The format of a file by its name; None if it is no archive."""
    return next((format for suffix, format in FORMATS.items() if name.lower().endswith(suffix)), None)


def list_archive(archive: Archive, name: str, options: DataConfig) -> Listing:
    """List the captioned pictures of an archive; a name without a known suffix is taken for a tar file.

    Raises MissingExtraError where another package is needed.
    """
    return (archive_format(name) or FORMATS[".tar"]).list(archive, name, options)
