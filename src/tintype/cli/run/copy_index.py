"""The copy index of a model, for `--avoid-copies`: read, or made of the training pictures and kept beside the model."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tintype.cli.progress import ProgressDisplay
from tintype.cli.run.save import report
from tintype.errors import CheckpointError, ConfigError
from tintype.evaluation.eval_data import MIN_PICTURES, EvalData, open_eval_data
from tintype.evaluation.progress import with_progress
from tintype.metrics.copies import alarm_for, index_pictures, typical_distance
from tintype.model import file_names, hub, store
from tintype.pipeline.copy_index import CopyIndex, copy_index_path
from tintype.pipeline.pipeline import Pipeline
from tintype.printable import printable

BEYOND = 0.5  # how far beyond the limit copies are moved, as a share of the way to what is usual of other pictures


def open_copy_index(source: str, pipeline: Pipeline, data: str | None) -> CopyIndex:
    """The copy index of a model: made of DATA if given, else the one beside the model, else made of the run's cache.

    One that is made is saved beside the model, unless the model is not the user's own. Raises ConfigError where there
    are no training pictures, or too few; DataError if they cannot be read.
    """
    model = store.find(source)
    known = copy_index_path(model)
    if data is None and known is not None:
        return CopyIndex.load(known)
    if data is None and (model.run is None or not (model.run / file_names.CACHE_FOLDER).is_dir()):
        raise ConfigError(
            f"{model.name} has no copy index and keeps no training pictures: add --data DATA, those it was trained on"
        )
    with tempfile.TemporaryDirectory(prefix="tintype-") as scratch, ProgressDisplay("loading") as display:
        encoder = pipeline.denoiser.encoder
        pictures = display.follow(open_eval_data(model, pipeline.config, encoder, data, Path(scratch)))
        index = _made(pictures, display)
    if source not in store.shipped() and not source.startswith(hub.PREFIX):
        _keep(index, (model.run or model.folder) / file_names.COPY_INDEX)
    return index


def _made(data: EvalData, display: ProgressDisplay) -> CopyIndex:
    if len(data.seen) < MIN_PICTURES:
        raise ConfigError(
            f"{data.name} has {len(data.seen)} of the pictures that the model was trained on, too few for "
            "--avoid-copies: give --data with all of them"
        )
    work = index_pictures(data.dataset, data.seen)
    pictures = display.follow(with_progress("training pictures", len(data.seen), work))
    alarm = alarm_for(data.dataset, pictures, data.seen, data.unseen)
    typical = typical_distance(data.dataset, pictures, data.unseen)
    target = alarm.limit + BEYOND * (typical - alarm.limit)
    return CopyIndex(pictures, alarm.limit, target, alarm.num)


def _keep(index: CopyIndex, path: Path) -> None:
    try:
        index.save(path)
    except CheckpointError as error:
        report(f"note: the copy index is used, but not kept: {error}")
        return
    report(
        f"note: {printable(str(path))} holds thumbnails of the {len(index.pictures):,} training pictures; the next "
        "pictures need no --data"
    )
