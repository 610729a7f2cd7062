"""Copies among samples: the nearest training picture of each, and the alarm that held-out and planted pictures set."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from tintype.copies.alarm import FALSE_ALARM_RATE, CopyAlarm, set_alarm, which_planted
from tintype.copies.index import Nearest, PictureIndex, thumbnails
from tintype.diffusion.noise import EvalSubset
from tintype.evaluation.eval_data import MIN_PICTURES, EvalData, choose_subset
from tintype.evaluation.progress import StageProgress, with_progress
from tintype.evaluation.results import CopyCheck, EvalSettings, SampleNeighbors
from tintype.evaluation.samples import images_to_tensor
from tintype.evaluation.verdict import MIN_FOUND
from tintype.metrics.intervals import exact_proportion, proportion

NUM_NEIGHBORS = 16  # samples that the report shows beside their nearest training pictures
HELD_OUT_PICTURES, TRAINING_PICTURES = "held-out pictures", "training pictures, each without itself"
MIN_CALIBRATION = round(1 / FALSE_ALARM_RATE) - 1  # fewer pictures cannot calibrate the alarm to its rate
SEARCHED = 64  # pictures between two reports of progress


class Control(NamedTuple):
    """Samples for captions of unseen pictures: how near a model comes to a picture that it cannot have copied."""

    images: Sequence[Image.Image]
    indices: Tensor  # [C] of the pictures with these captions


class Calibration(NamedTuple):
    """Pictures that are no copies of training pictures."""

    indices: Tensor  # in the data
    excluded: Tensor | None  # where they are training pictures: their rows in `data.seen`
    source: str  # HELD_OUT_PICTURES or TRAINING_PICTURES


def choose_calibration(data: EvalData, settings: EvalSettings, notes: list[str]) -> Calibration:
    """Held-out pictures; with too few of them, training pictures, and a note."""
    if len(data.unseen) >= MIN_PICTURES:
        unseen = choose_subset(data.unseen, settings.calibrated, settings.seed, EvalSubset.CALIBRATION)
        return Calibration(unseen, None, HELD_OUT_PICTURES)
    rows = torch.arange(len(data.seen))
    rows = choose_subset(rows, settings.calibrated, settings.seed, EvalSubset.CALIBRATION)
    notes.append("the alarm for copies was calibrated on training pictures: too few pictures are held out")
    return Calibration(data.seen[rows], rows, TRAINING_PICTURES)


def find_copies(
    data: EvalData,
    captions: Sequence[str],
    images: Sequence[Image.Image],
    calibration: Calibration,
    settings: EvalSettings,
    notes: list[str],
    control: Control | None = None,
) -> Generator[StageProgress, None, tuple[CopyCheck | None, list[SampleNeighbors]]]:
    """Compare samples with all training pictures; with too few of these, add a note instead.

    A sample for the caption of a training picture comes near that picture even without copying it. `control` measures
    how near: each of its samples is compared with the training pictures and the unseen picture that has its caption.
    """
    if len(data.seen) < MIN_PICTURES:
        if len(data.seen):
            notes.append(f"{len(data.seen)} training pictures are too few to search for copies")
        return None, []
    samples = images_to_tensor(images)
    size = (samples.shape[2], samples.shape[3])
    index = PictureIndex.of((yield from _blocks(data, size)))
    new = data.resized(calibration.indices, size)
    known = yield from _search(index, "nearest, calibration", new, calibration)
    training = data.resized(data.seen[which_planted(len(data.seen), settings.seed)], size)
    alarm = set_alarm(index, new, known, training, settings.seed)
    nearest = yield from _search(index, "nearest training pictures", samples)
    is_copy = alarm.raised(nearest)
    num_control = 0 if control is None else len(control.images)
    num_alarmed_control = 0
    if control is not None:
        further = data.resized(control.indices, size)
        beside = index.nearest(images_to_tensor(control.images), further=further)
        num_alarmed_control = int(alarm.raised(beside).sum())
    _note_alarm(alarm, calibration, notes)
    copies = CopyCheck(
        share=exact_proportion(int(is_copy.sum()), len(samples)),
        num_alarmed=int(is_copy.sum()),
        num=len(samples),
        control=proportion(num_alarmed_control, num_control) if num_control else None,
        rate=alarm.rate,
        num_calibrated=alarm.num,
        calibrated_on=calibration.source,
        num_twins=alarm.num_twins,
        limit=alarm.limit,
        found=alarm.found,
        num_planted=alarm.num_planted,
        distance=_median_levels(data, nearest, samples),
        distance_unseen=_median_levels(data, known, new),
    )
    return copies, _neighbors(data, captions, images, nearest, is_copy)


def _blocks(data: EvalData, size: tuple[int, int]) -> Generator[StageProgress, None, list[Tensor]]:
    """All training pictures as thumbnails, in blocks."""
    blocks = []

    def work() -> Generator[int, None, None]:
        for block in data.blocks(data.seen, size):
            blocks.append(thumbnails(block))
            yield len(block)

    yield from with_progress("training pictures", len(data.seen), work())
    return blocks


def _search(
    index: PictureIndex, stage: str, pictures: Tensor, calibration: Calibration | None = None
) -> Generator[StageProgress, None, Nearest]:
    """The nearest training picture of each picture, but for itself where it is one."""
    excluded = None if calibration is None else calibration.excluded
    parts = []

    def work() -> Generator[int, None, None]:
        for start in range(0, len(pictures), SEARCHED):
            rows = slice(start, start + SEARCHED)
            parts.append(index.nearest(pictures[rows], None if excluded is None else excluded[rows]))
            yield len(pictures[rows])

    yield from with_progress(stage, len(pictures), work())
    return Nearest(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _note_alarm(alarm: CopyAlarm, calibration: Calibration, notes: list[str]) -> None:
    """Note what the alarm cannot do."""
    if alarm.num_twins:
        kind, other = ("held-out", "a") if calibration.source == HELD_OUT_PICTURES else ("training", "another")
        pictures = f"{alarm.num_twins} of {alarm.num + alarm.num_twins} {kind} pictures have a twin: {other} training"
        notes.append(f"{pictures} picture that is the same but for its file; the alarm is calibrated without them")
    if alarm.num < MIN_CALIBRATION:
        notes.append(f"calibrated on {alarm.num} pictures, the alarm only fires for samples nearer than all of them")
    if alarm.found < MIN_FOUND:
        notes.append(
            f"the alarm finds only {round(100 * alarm.found)} % of planted copies: these pictures are so alike that "
            "copies can hardly be told from new pictures"
        )


def _median_levels(data: EvalData, nearest: Nearest, pictures: Tensor) -> float:
    """Median root mean square difference of pictures [Q, 3, H, W] from what is nearest, in levels of 255."""
    differences = []
    for start in range(0, len(pictures), SEARCHED):
        rows = slice(start, start + SEARCHED)
        others = data.resized(data.seen[nearest.indices[rows]], (pictures.shape[2], pictures.shape[3])).float()
        differences.append((pictures[rows].float() - others).square().mean((1, 2, 3)).sqrt())
    return float(torch.cat(differences).median())


def _neighbors(
    data: EvalData, captions: Sequence[str], images: Sequence[Image.Image], nearest: Nearest, is_copy: Tensor
) -> list[SampleNeighbors]:
    """The samples nearest to training pictures."""
    order = nearest.relative.argsort(stable=True)[:NUM_NEIGHBORS]
    rows = data.seen[nearest.indices[order]]
    size = (images[0].height, images[0].width)
    pictures = data.resized(rows, size).permute(0, 2, 3, 1).contiguous().numpy()
    return [
        SampleNeighbors(
            caption=captions[sample],
            index=sample,
            sample=images[sample],
            nearest=Image.fromarray(pictures[row]),
            key=data.dataset.keys[int(rows[row])],
            distance=float(nearest.relative[sample]),
            alarmed=bool(is_copy[sample]),
        )
        for row, sample in enumerate(order.tolist())
    ]
