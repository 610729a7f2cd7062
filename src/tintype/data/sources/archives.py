"""Archive formats that may lie in a data folder, by suffix. Formats that hold a folder themselves are in `find`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tintype.config import DataConfig
from tintype.data.sources.pairs import Listing
from tintype.data.sources.parquet import list_parquet
from tintype.data.sources.remote import Archive
from tintype.data.sources.webdataset import list_tar

Lister = Callable[[Archive, str, DataConfig], Listing]  # keys begin with the name that it is given

LISTERS: dict[str, Lister] = {".tar": list_tar, ".parquet": list_parquet}


def lister_of(name: str, listers: Mapping[str, Lister] = LISTERS) -> Lister | None:
    """The function that lists an archive, by its name; None for other files."""
    return next((lister for suffix, lister in listers.items() if name.lower().endswith(suffix)), None)
