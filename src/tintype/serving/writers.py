"""The token models of a server: those it was started with, and the shipped one; each is loaded when first used."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from tintype.errors import ConfigError
from tintype.model.sample_captions import sample_captions
from tintype.tokens import store
from tintype.tokens.writer import TokenWriter


class Writers:
    """Token models by name. Any thread may use it.

    Args:
        sources: names and folders of token models beside the shipped ones.
    """

    def __init__(self, sources: Sequence[str | Path] = (), device: str | None = None) -> None:
        self._device = device
        self._sources: dict[str, str | Path] = {}
        for source in [*sources, *(name for name in store.shipped() if name not in sources)]:
            name = Path(source).resolve().name if Path(source).is_dir() else str(source)
            if name in self._sources:
                raise ConfigError(f"two token models are called {name}; rename one of the folders")
            store.find(source)
            self._sources[name] = source
        self._writers: dict[str, TokenWriter] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """The models; requests that name none use the first."""
        return list(self._sources)

    def get(self, name: str) -> TokenWriter:
        """A model by its name, which may take a moment. Raises KeyError and CheckpointError."""
        source = self._sources[name]
        with self._lock:
            if name not in self._writers:
                self._writers[name] = TokenWriter.load(source, self._device)
            return self._writers[name]

    def examples(self, name: str) -> tuple[str, ...]:
        """Captions to try."""
        return sample_captions(store.find(self._sources[name]), chosen=name in store.shipped())
