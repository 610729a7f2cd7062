"""The catalog: the models of a server by name. A run that still trains is served from its newest checkpoint."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tintype.errors import CheckpointError, ConfigError
from tintype.model import file_names, hub, store
from tintype.model.read_file import MAX_CONFIG_BYTES, read_text
from tintype.model.sample_captions import sample_captions
from tintype.pipeline.pipeline import Pipeline
from tintype.serving import logs
from tintype.training.monitor.log_rows import read_log


@dataclass(slots=True)
class ServedModel:
    """A model of the server."""

    name: str  # as the user wrote it: of a link the link's own
    source: str | Path  # as on the command line
    run: Path | None  # its run folder, if it has one
    folder: Path | None = None  # the folder it is loaded from
    stamp: tuple[tuple[object, ...], ...] = ()  # of the files it is loaded from
    pipeline: Pipeline | None = None  # None: a run without a checkpoint yet
    examples: tuple[str, ...] = ()  # captions to try
    error: str = ""  # of the last try to load a newer checkpoint
    damage: str = ""  # of newer checkpoints that are passed over
    noise_error: dict[str, float] = field(default_factory=dict)  # on held-out pictures, by noise level


class Catalog:
    """Loads models and finds them by name.

    aliases: other names of models, for clients that insist on a name. cuda_graphs: where they are possible.

    Raises CheckpointError if a model cannot be loaded, ConfigError if two models have the same name, or an alias has
    the name of a model or stands for none.
    """

    def __init__(
        self,
        sources: Sequence[str | Path],
        device: str | None = None,
        aliases: Mapping[str, str] | None = None,
        *,
        cuda_graphs: bool = True,
    ) -> None:
        self._device = device
        self._cuda_graphs = cuda_graphs
        self._models: dict[str, ServedModel] = {}
        for source in sources:
            model = _model(source)
            if model.name in self._models:
                raise ConfigError(f"two models are called {model.name}; rename one of the folders")
            self._models[model.name] = model
            try:
                files = store.find(model.source)
                _log_damage(model, files)
                self._load(model, files)
            except CheckpointError:
                if model.run is None or not (model.run / file_names.CONFIG).is_file() or _has_checkpoints(model.run):
                    raise

        self._aliases = _checked_aliases(aliases or {}, self._models)

    @property
    def pipelines(self) -> dict[str, Pipeline]:
        """The loaded models; requests that name none use the first."""
        return {model.name: model.pipeline for model in self._models.values() if model.pipeline is not None}

    @property
    def runs(self) -> dict[str, Path]:
        """The models that are run folders."""
        return {model.name: model.run for model in self._models.values() if model.run is not None}

    @property
    def aliases(self) -> dict[str, str]:
        """Other names of the loaded models, and the models."""
        loaded = self.pipelines
        return {alias: name for alias, name in self._aliases.items() if name in loaded}

    def source(self, name: str) -> str | Path:
        """A model as the command line names it."""
        return self._models[name].source

    def folder(self, name: str) -> Path:
        """The folder that a loaded model is from."""
        folder = self._models[name].folder
        assert folder is not None
        return folder

    def examples(self, name: str) -> tuple[str, ...]:
        """Captions like those that a model was trained on; empty if unknown."""
        return self._models[name].examples

    def noise_error(self, name: str) -> dict[str, float]:
        """A model's noise error on held-out pictures by noise level; empty if unknown."""
        return self._models[name].noise_error

    def get(self, name: str | None) -> Pipeline | None:
        """A model by its name or an alias; None is the first."""
        pipelines = self.pipelines
        return next(iter(pipelines.values()), None) if name is None else pipelines.get(self._aliases.get(name, name))

    def add(self, source: Path) -> str:
        """Serve one more model or run, while the server runs. Returns its name.

        Raises ConfigError if another model has its name, CheckpointError if it cannot be loaded; a run without a
        checkpoint is served once it has one.
        """
        model = _model(source)
        known = self._models.get(model.name)
        if known is not None:
            if Path(known.source).absolute() != source.absolute():
                raise ConfigError(f"another model is called {model.name}; rename one of the folders")
            return model.name
        if model.run is None or _has_checkpoints(model.run):
            self._load(model, store.find(source))
        self._models = {**self._models, model.name: model}  # others may be iterating over the one before
        return model.name

    def remove(self, name: str) -> None:
        """Serve a model no longer; one that is not served is passed over."""
        self._models = {key: model for key, model in self._models.items() if key != name}

    def refresh(self) -> list[str]:
        """Load newer checkpoints of runs, and models whose files have changed, which takes a moment for each.

        Returns the names of the changed models. One that cannot be loaded is served as it was.
        """
        changed = []
        for model in self._models.values():
            if model.source in store.shipped():
                continue
            try:
                files = store.find(model.source)
                _log_damage(model, files)
                if files.folder != model.folder or _stamp(files.folder) != model.stamp:
                    self._load(model, files)
                    changed.append(model.name)
            except CheckpointError as error:  # perhaps just being replaced: try again next time
                if model.run is None or _has_checkpoints(model.run):
                    _log_once(
                        model,
                        "cannot load a changed model" if model.run is None else "cannot load a checkpoint",
                        str(error),
                    )
            except BaseException as error:  # a bug, or a panic of a library in Rust, which is no Exception
                message = f"{type(error).__name__}: {error}"
                _log_once(model, "cannot load a newer checkpoint", message, error)
        return changed

    def _load(self, model: ServedModel, files: store.Model) -> None:
        folder = files.folder
        stamp = _stamp(folder)  # before loading: of files that change meanwhile, the next look finds another
        # A thread that ends takes its OpenMP threads with it. If they stayed, there would be more threads than cores
        # together with the engine's, OpenMP would stop busy-waiting, and pictures would take half as long again.
        with ThreadPoolExecutor(1, thread_name_prefix="load") as thread:
            pipeline = thread.submit(Pipeline.from_files, files, self._device).result()
        pipeline.name = model.name
        pipeline.cuda_graphs = pipeline.cuda_graphs and self._cuda_graphs
        model.pipeline, model.folder, model.stamp, model.error = pipeline, folder, stamp, ""
        model.examples = _examples(model)
        # The error of a distilled model is that of few steps: nothing on the page compares with it.
        model.noise_error = {} if pipeline.config.distill.steps else _noise_error(folder, model.run)


def _checked_aliases(aliases: Mapping[str, str], models: Mapping[str, ServedModel]) -> dict[str, str]:
    """Raises ConfigError for an alias that hides a model, or stands for one that is not served."""
    for alias, name in aliases.items():
        if alias in models:
            raise ConfigError(f"--alias {alias}={name} hides the model {alias}; choose another name")
        if name not in models:
            raise ConfigError(f"--alias {alias}={name}: {name} is not served; the models are {', '.join(models)}")
    return dict(aliases)


def _stamp(folder: Path) -> tuple[tuple[object, ...], ...]:
    """Which files of a model are there, and whether they are still the same ones."""
    stamp: list[tuple[object, ...]] = []
    for name in (file_names.CONFIG, file_names.WEIGHTS, file_names.TOKENIZER, file_names.COMPONENTS):
        with contextlib.suppress(OSError):
            status = (folder / name).stat()
            stamp.append((name, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(stamp)


def _log_damage(model: ServedModel, files: store.Model) -> None:
    """Log once which damaged checkpoints are passed over, and what is served instead."""
    if files.warning and files.warning != model.damage:
        logs.log.warning("checkpoint damaged", extra={"fields": {"model": model.name, "warning": files.warning}})
    model.damage = files.warning


def _log_once(model: ServedModel, event: str, message: str, error: BaseException | None = None) -> None:
    """Log an error unless it is the last one again; the other runs, and later checkpoints, are still served."""
    if message != model.error:
        fields = {"model": model.name, "error": message}
        logs.log.error(event, exc_info=error, extra={"fields": fields})
    model.error = message


def _model(source: str | Path) -> ServedModel:
    if isinstance(source, str) and source in store.shipped():
        return ServedModel(source, source, None)
    if isinstance(source, str) and source.startswith(hub.PREFIX):  # fetched once; a server never looks for a newer one
        return ServedModel(source.partition("@")[0].rpartition("/")[2], store.find(source).folder, None)
    folder = Path(source)
    if not folder.is_dir():
        store.find(source)  # raises with the names of the shipped models
    is_run = (folder / file_names.LOG).is_file() or (folder / file_names.DATA).is_file()
    return ServedModel(
        Path(os.path.abspath(folder)).name, source, folder if is_run or _has_checkpoints(folder) else None
    )


def _examples(model: ServedModel) -> tuple[str, ...]:
    """The captions chosen for a shipped model, in their order; of a run's sample captions the shortest."""
    shipped = store.shipped().get(str(model.source)) if model.run is None else None
    return sample_captions(shipped or Path(model.source), chosen=shipped is not None)


def _noise_error(folder: Path, run: Path | None) -> dict[str, float]:
    """From the evaluation.json of a finished model, or else from the log of its run; empty without either."""
    try:
        errors = json.loads(read_text(folder / file_names.EVALUATION, MAX_CONFIG_BYTES, folder))["noise_error"]
        return {str(sigma): float(error) for sigma, error in errors.items()}
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        rows = [] if run is None else read_log(run / file_names.LOG, run)
    return next((row["noise_error"] for row in reversed(rows) if row.get("noise_error")), {})


def _has_checkpoints(folder: Path) -> bool:
    checkpoints = folder / file_names.CHECKPOINTS
    return checkpoints.is_dir() and any(checkpoints.iterdir())
