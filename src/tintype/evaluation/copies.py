"""Copies: samples that are nearer to a training picture than unseen pictures are, in pixels or in features."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from tintype.diffusion.noise import EvalSubset
from tintype.evaluation.eval_data import MIN_PICTURES, EvalData, choose_subset
from tintype.evaluation.features import Features, FeatureSets
from tintype.evaluation.neighbors import FALSE_ALARM_RATE, Nearest, PointBlocks, calibrate_alarm, find_nearest
from tintype.evaluation.progress import StageProgress, with_progress
from tintype.evaluation.results import CopyCheck, EvalSettings, SampleNeighbors
from tintype.evaluation.samples import images_to_tensor
from tintype.metrics.intervals import proportion

NUM_NEIGHBORS = 16  # samples that the report shows beside their nearest training pictures
HELD_OUT_PICTURES, TRAINING_PICTURES = "held-out pictures", "training pictures, each without itself"
MIN_CALIBRATION = round(1 / FALSE_ALARM_RATE) - 1  # fewer pictures cannot calibrate the alarm to its rate


class Control(NamedTuple):
    """Samples for captions of unseen pictures: how near a model comes to a picture that it cannot have copied."""

    images: Sequence[Image.Image]
    indices: Tensor  # [C] of the pictures with these captions


class _Rows(NamedTuple):
    """How the rows of a search divide: samples, then control samples, then calibration pictures."""

    num_samples: int
    num_before_calibration: int


def find_copies(
    data: EvalData,
    captions: Sequence[str],
    images: Sequence[Image.Image],
    features: Features,
    settings: EvalSettings,
    notes: list[str],
    control: Control | None = None,
) -> Generator[StageProgress, None, tuple[CopyCheck | None, list[SampleNeighbors], FeatureSets | None]]:
    """Compare samples with all training pictures; with too few of these, add a note instead.

    A sample for the caption of a training picture comes near that picture even without copying it. `control` measures
    how near: each of its samples is compared with the training pictures and the unseen picture that has its caption.
    """
    seen, unseen = data.seen, data.unseen
    if len(seen) < MIN_PICTURES:
        if len(seen):
            notes.append(f"{len(seen)} training pictures are too few to search for copies")
        return None, [], None
    samples, side = images_to_tensor(images), images[0].width
    excluded_calibration = None
    calibrated_on = HELD_OUT_PICTURES
    calibration = choose_subset(unseen, settings.calibrated, settings.seed, EvalSubset.CALIBRATION)
    if len(unseen) < MIN_PICTURES:
        rows = choose_subset(torch.arange(len(seen)), settings.calibrated, settings.seed, EvalSubset.CALIBRATION)
        calibration, excluded_calibration = seen[rows], rows
        calibrated_on = TRAINING_PICTURES
        notes.append("the alarm for copies was calibrated on training pictures: too few pictures are held out")
    feature_sets = FeatureSets(features(samples), *(yield from _features(data, features, side, calibration)))
    control_samples, control_pictures = samples[:0], samples[:0]  # the pictures are those with the samples' captions
    if control is not None:
        control_samples, control_pictures = images_to_tensor(control.images), data.squares(control.indices, side)
    queries = torch.cat([samples, control_samples, data.squares(calibration, side)])
    parts = _Rows(len(samples), len(samples) + len(control_samples))
    excluded = torch.full((len(queries),), -1)
    if excluded_calibration is not None:
        excluded[parts.num_before_calibration :] = excluded_calibration

    def search(queries: Tensor, extra_points: Tensor, blocks: PointBlocks) -> Generator[int, None, Nearest]:
        extra = torch.full_like(queries, torch.nan)
        extra[parts.num_samples : parts.num_before_calibration] = extra_points
        return find_nearest(queries, blocks, excluded, extra)

    work = search(queries.flatten(1).float(), control_pictures.flatten(1).float(), lambda: _pixels(data, side))
    by_pixels = yield from with_progress("nearest in pixels", len(seen), work)
    scale = feature_sets.seen.std(0).clamp(min=1e-6)
    control_features, extra_features = (
        features(pictures) if len(pictures) else feature_sets.samples[:0]
        for pictures in (control_samples, control_pictures)
    )
    rows = torch.cat([feature_sets.samples, control_features, feature_sets.unseen]) / scale
    work = search(rows, extra_features / scale, lambda: iter(torch.split(feature_sets.seen / scale, 4096)))
    by_features = yield from with_progress("nearest in features", len(seen), work)
    copies, is_copy = _check(by_pixels, by_features, parts, calibrated_on, notes)
    return copies, _neighbors(data, captions, images, by_pixels, by_features, is_copy), feature_sets


def _pixels(data: EvalData, side: int) -> Iterator[Tensor]:
    return (block.flatten(1).float() for block in data.square_blocks(data.seen, side))


def _features(
    data: EvalData, features: Features, side: int, calibration: Tensor
) -> Generator[StageProgress, None, tuple[Tensor, Tensor]]:
    """Features of all training pictures and of the calibration pictures."""
    rows = []

    def work() -> Generator[int, None, None]:
        for block in data.square_blocks(data.seen, side):
            rows.append(features(block))
            yield len(block)

    yield from with_progress("features of training pictures", len(data.seen), work())
    return torch.cat(rows), features(data.squares(calibration, side))


def _check(
    by_pixels: Nearest, by_features: Nearest, parts: _Rows, calibrated_on: str, notes: list[str]
) -> tuple[CopyCheck, Tensor]:
    """Calibrate the alarm and apply it to samples and control. Returns which samples raised it as well, bool [N]."""
    num, end = parts
    is_distinct = by_pixels.distance[end:] > 0
    num_leaked = int((~is_distinct).sum())
    if num_leaked:
        kind, other = ("held-out", "a") if calibrated_on == HELD_OUT_PICTURES else ("training", "another")
        pictures = f"{num_leaked} of {len(is_distinct)} {kind} pictures equal {other} training picture at this size"
        notes.append(f"{pictures}; the alarm for copies is calibrated without them")
    alarm = calibrate_alarm(by_pixels.relative[end:][is_distinct], by_features.relative[end:][is_distinct])
    if alarm.num < MIN_CALIBRATION:
        notes.append(f"calibrated on {alarm.num} pictures, the alarm only fires for samples nearer than all of them")
    is_copy = alarm.raised(by_pixels.relative[:end], by_features.relative[:end])
    num_alarmed, num_control = int(is_copy[:num].sum()), int(is_copy[num:].sum())
    copies = CopyCheck(
        share=proportion(num_alarmed, num),
        num_alarmed=num_alarmed,
        num=num,
        control=proportion(num_control, end - num) if end > num else None,
        rate=alarm.rate,
        num_calibrated=alarm.num,
        calibrated_on=calibrated_on,
        num_leaked=num_leaked,
        distance=float(by_pixels.distance[:num].median()),
        distance_unseen=float(by_pixels.distance[end:].median()),
    )
    return copies, is_copy[:num]


def _neighbors(
    data: EvalData,
    captions: Sequence[str],
    images: Sequence[Image.Image],
    by_pixels: Nearest,
    by_features: Nearest,
    is_copy: Tensor,
) -> list[SampleNeighbors]:
    """The samples nearest to training pictures, those that raised the alarm first."""
    nearness = torch.minimum(by_pixels.relative, by_features.relative)[: len(images)] - 2 * is_copy.double()
    order = nearness.argsort(stable=True)[:NUM_NEIGHBORS]
    side = images[0].width
    nearest_pixels, nearest_features = (
        data.squares(data.seen[nearest.indices[order]], side).permute(0, 2, 3, 1).contiguous().numpy()
        for nearest in (by_pixels, by_features)
    )
    return [
        SampleNeighbors(
            caption=captions[index],
            sample=images[index],
            by_pixels=Image.fromarray(nearest_pixels[row]),
            by_features=Image.fromarray(nearest_features[row]),
            distance=float(by_pixels.distance[index]),
            alarmed=bool(is_copy[index]),
        )
        for row, index in enumerate(order.tolist())
    ]
