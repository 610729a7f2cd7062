"""The models of a server, by name. A run that still trains is followed: its newest checkpoint is what is served."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tintype.errors import CheckpointError, ConfigError
from tintype.model import store
from tintype.pipeline.pipeline import Pipeline

CARD_HEAD = re.compile(r"^\| sigma \| (?:error|held out) \|", re.MULTILINE)  # "error" in older cards
CARD_ROW = re.compile(r"^\| ([0-9.]{1,9}) \| ([0-9]{1,6}\.[0-9]{1,9}) \|", re.ASCII | re.MULTILINE)
CAPTIONS = Path("samples", "captions.txt")
EXAMPLES = 4
MAX_EXAMPLE = 60  # characters


@dataclass(slots=True)
class Entry:
    """A model that is served."""

    name: str
    source: str | Path  # as given
    run: Path | None  # its run folder, if it has one
    folder: Path | None = None  # which of its folders is loaded
    pipeline: Pipeline | None = None  # None: a run without a checkpoint yet
    examples: tuple[str, ...] = ()  # captions to try
    noise_error: dict[str, float] = field(default_factory=dict)  # of held-out pictures by noise level


class Catalog:
    """Loads models and finds them by name.

    Raises CheckpointError if a model cannot be loaded, ConfigError if two have one name.
    """

    def __init__(self, sources: Sequence[str | Path], device: str | None = None) -> None:
        self._device = device
        self._entries: dict[str, Entry] = {}
        for source in sources:
            entry = _entry(source)
            if entry.name in self._entries:
                raise ConfigError(f"two models are called {entry.name}; rename one of the folders")
            self._entries[entry.name] = entry
            try:
                self._load(entry)
            except CheckpointError:
                if entry.run is None or not (entry.run / store.CONFIG).is_file() or _has_checkpoints(entry.run):
                    raise

    @property
    def pipelines(self) -> dict[str, Pipeline]:
        """What can make pictures now; the first one is what is used when no model is named."""
        return {entry.name: entry.pipeline for entry in self._entries.values() if entry.pipeline is not None}

    @property
    def runs(self) -> dict[str, Path]:
        """The run folders among the models."""
        return {entry.name: entry.run for entry in self._entries.values() if entry.run is not None}

    def examples(self, name: str) -> tuple[str, ...]:
        """Captions of the kind that a model was trained on; none where nobody knows."""
        return self._entries[name].examples

    def noise_error(self, name: str) -> dict[str, float]:
        """What the card of a model says of its error on held-out pictures, by noise level."""
        return self._entries[name].noise_error

    def get(self, name: str | None) -> Pipeline | None:
        """A model by its name; None names the first."""
        pipelines = self.pipelines
        return next(iter(pipelines.values()), None) if name is None else pipelines.get(name)

    def refresh(self) -> list[str]:
        """Load checkpoints that are newer than what is served; says which models changed. Takes a moment for each."""
        changed = []
        for entry in self._entries.values():
            if entry.run is None:
                continue
            try:
                if store.find(entry.source).folder != entry.folder:
                    self._load(entry)
                    changed.append(entry.name)
            except CheckpointError:  # being written, or just deleted in favor of a newer one: next time
                continue
        return changed

    def _load(self, entry: Entry) -> None:
        folder = store.find(entry.source).folder
        # In a thread that ends, and with it its threads of OpenMP: if they stayed, there would be more than cores, with
        # the engine's, OpenMP would no longer wait actively, and pictures would take half as long again.
        with ThreadPoolExecutor(1, thread_name_prefix="load") as thread:
            pipeline = thread.submit(Pipeline.load, entry.source, self._device).result()
        pipeline.name = entry.name
        entry.pipeline, entry.folder = pipeline, folder
        entry.examples = _examples(entry)
        # The card of a distilled model tells of another error, which nothing here compares with.
        entry.noise_error = {} if pipeline.config.distill.steps else _noise_error(folder)


def _entry(source: str | Path) -> Entry:
    if isinstance(source, str) and source in store.shipped():
        return Entry(source, source, None)
    folder = Path(source)
    if not folder.is_dir():
        store.find(source)  # says what there is
    is_run = (folder / "log.jsonl").is_file() or (folder / "data.json").is_file()
    return Entry(folder.resolve().name, source, folder if is_run or _has_checkpoints(folder) else None)


def _examples(entry: Entry) -> tuple[str, ...]:
    """Those chosen for a shipped model; of a run's samples the shortest."""
    shipped = store.shipped().get(str(entry.source)) if entry.run is None else None
    try:
        text = ((shipped or Path(entry.source)) / CAPTIONS).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ()
    found = [line for line in dict.fromkeys(map(str.strip, text.splitlines())) if 0 < len(line) <= MAX_EXAMPLE]
    return tuple((found if shipped else sorted(found, key=len))[:EXAMPLES])


def _noise_error(folder: Path) -> dict[str, float]:
    """From the table of a model card, as `train.card` writes it."""
    try:
        card = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    head = CARD_HEAD.search(card)
    table = "" if head is None else card[head.end() :].partition("\n\n")[0]
    return {sigma: float(error) for sigma, error in CARD_ROW.findall(table)}


def _has_checkpoints(folder: Path) -> bool:
    return (folder / "checkpoints").is_dir() and any((folder / "checkpoints").iterdir())
