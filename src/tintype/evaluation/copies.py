"""What samples tell: whether they are copies of training pictures, and how they compare with real ones as a whole."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from tintype.diffusion.noise import EvalSubset
from tintype.evaluation.eval_data import EvalData, choose_subset
from tintype.evaluation.features import Features
from tintype.evaluation.neighbors import Nearest, PointBlocks, calibrate_alarm, find_nearest
from tintype.evaluation.progress import Progress, with_progress
from tintype.evaluation.quality import MIN_SAMPLES, Projection, corrected_frechet, precision_recall
from tintype.evaluation.results import CopyCheck, EvalSettings, Quality, SampleNeighbors
from tintype.evaluation.samples import images_to_tensor
from tintype.metrics.intervals import proportion

MIN_PICTURES = 20  # pictures on either side, below which near and far mean nothing
REFERENCE = 20_000  # training pictures that samples are compared with as a whole, at most
SHOWN = 16  # samples shown beside their nearest training pictures


class Control(NamedTuple):
    """Samples for captions of pictures held out: as near as a model comes to a picture that it cannot have copied."""

    pictures: Sequence[Image.Image]
    indices: Tensor  # [C] of the pictures whose captions they have


class FeatureSets(NamedTuple):
    """Features, each made once."""

    samples: Tensor  # [N, D]
    seen: Tensor  # of all training pictures
    unseen: Tensor  # of the pictures that the alarm is calibrated on


def find_copies(
    material: EvalData,
    captions: Sequence[str],
    pictures: Sequence[Image.Image],
    features: Features,
    settings: EvalSettings,
    notes: list[str],
    control: Control | None = None,
) -> Generator[Progress, None, tuple[CopyCheck | None, list[SampleNeighbors], FeatureSets | None]]:
    """Compare samples with all training pictures. Where there are too few of these, it says so in `notes`.

    A sample of a training picture's caption comes near that picture, copied or not. How near, copied not, `control`
    tells: each of its samples is compared with the training pictures and the one held out that has its caption.
    """
    seen, unseen = material.seen, material.unseen
    if len(seen) < MIN_PICTURES:
        if len(seen):
            notes.append(f"with {len(seen)} training pictures, near and far mean nothing: no search for copies")
        return None, [], None
    samples, side = images_to_tensor(pictures), pictures[0].width
    own = None
    calibrated_on = "held-out pictures"
    known = choose_subset(unseen, settings.calibrated, settings.seed, EvalSubset.CALIBRATION)
    if len(unseen) < MIN_PICTURES:
        places = torch.arange(len(seen))
        chosen = choose_subset(places, settings.calibrated, settings.seed, EvalSubset.CALIBRATION)
        known, own, calibrated_on = seen[chosen], chosen, "training pictures, each without itself"
        notes.append("the alarm for copies was calibrated on training pictures, since next to none are held out")
    described = FeatureSets(features(samples), *(yield from _features(material, features, side, known)))
    tried, theirs = samples[:0], samples[:0]  # of the control, and the pictures held out that have their captions
    if control is not None:
        tried, theirs = images_to_tensor(control.pictures), material.squares(control.indices, side)
    queries = torch.cat([samples, tried, material.squares(known, side)])
    num, last = len(samples), len(samples) + len(tried)
    excluded = torch.full((len(queries),), -1)
    if own is not None:
        excluded[last:] = own

    def searched(rows: Tensor, added: Tensor, blocks: PointBlocks) -> Generator[int, None, Nearest]:
        beside = torch.full_like(rows, torch.nan)
        beside[num:last] = added
        return find_nearest(rows, blocks, excluded, beside)

    work = searched(queries.flatten(1).float(), theirs.flatten(1).float(), lambda: _pixels(material, side))
    pixels = yield from with_progress("nearest pictures", len(seen), work)
    scale = described.seen.std(0).clamp(min=1e-6)
    about_control = [features(some) if len(some) else described.samples[:0] for some in (tried, theirs)]
    rows = torch.cat([described.samples, about_control[0], described.unseen]) / scale
    work = searched(rows, about_control[1] / scale, lambda: iter(torch.split(described.seen / scale, 4096)))
    alike = yield from with_progress("nearest in features", len(seen), work)
    copies, alarmed = _judged(pixels, alike, num, last, calibrated_on, notes)
    shown = _shown(material, captions, pictures, pixels, alike, alarmed, side)
    return copies, shown, described


def _pixels(material: EvalData, side: int) -> Iterator[Tensor]:
    return (block.flatten(1).float() for block in material.blocks(material.seen, side))


def _features(
    material: EvalData, features: Features, side: int, known: Tensor
) -> Generator[Progress, None, tuple[Tensor, Tensor]]:
    """Features of all training pictures, and of the pictures `known`."""
    rows = []

    def work() -> Generator[int, None, None]:
        for block in material.blocks(material.seen, side):
            rows.append(features(block))
            yield len(block)

    yield from with_progress("features of training pictures", len(material.seen), work())
    return torch.cat(rows), features(material.squares(known, side))


def _judged(
    pixels: Nearest, alike: Nearest, num: int, last: int, calibrated_on: str, notes: list[str]
) -> tuple[CopyCheck, Tensor]:
    """Set the alarm on what follows the first `last`, and raise it on these: `num` samples, then the control."""
    unseen = pixels.distance[last:] > 0
    leaked = int((~unseen).sum())
    if leaked:
        notes.append(f"{leaked} of the pictures held out equal a training picture; the alarm leaves them aside")
    alarm = calibrate_alarm(pixels.relative[last:][unseen], alike.relative[last:][unseen])
    if alarm.num < 99:
        notes.append(f"with {alarm.num} pictures to calibrate it on, the alarm is for what is nearer than all of them")
    alarmed = alarm.raised(pixels.relative[:last], alike.relative[:last])
    raised, by_control = int(alarmed[:num].sum()), int(alarmed[num:].sum())
    copies = CopyCheck(
        share=proportion(raised, num),
        num_alarmed=raised,
        num=num,
        honest=proportion(by_control, last - num) if last > num else None,
        rate=alarm.rate,
        num_calibrated=alarm.num,
        calibrated_on=calibrated_on,
        num_leaked=leaked,
        distance=float(pixels.distance[:num].median()),
        distance_unseen=float(pixels.distance[last:].median()),
    )
    return copies, alarmed[:num]


def _shown(
    material: EvalData,
    captions: Sequence[str],
    pictures: Sequence[Image.Image],
    pixels: Nearest,
    alike: Nearest,
    alarmed: Tensor,
    side: int,
) -> list[SampleNeighbors]:
    """The samples that come nearest, those with an alarm first."""
    nearness = torch.minimum(pixels.relative, alike.relative)[: len(pictures)] - 2 * alarmed.double()
    order = nearness.argsort(stable=True)[:SHOWN]
    near = material.squares(material.seen[pixels.place[order]], side).permute(0, 2, 3, 1).contiguous().numpy()
    close = material.squares(material.seen[alike.place[order]], side).permute(0, 2, 3, 1).contiguous().numpy()
    return [
        SampleNeighbors(
            caption=captions[place],
            sample=pictures[place],
            by_pixels=Image.fromarray(near[row]),
            by_features=Image.fromarray(close[row]),
            distance=float(pixels.distance[place]),
            alarmed=bool(alarmed[place]),
        )
        for row, place in enumerate(order.tolist())
    ]


def measure_quality(
    material: EvalData, described: FeatureSets | None, settings: EvalSettings, notes: list[str]
) -> Quality | None:
    """Compare samples with real pictures, and unseen pictures with them in the same way and number."""
    if described is None:
        return None
    on_unseen = len(material.unseen) >= MIN_PICTURES  # else `unseen` holds training pictures
    num = min(len(described.samples), len(described.unseen), len(described.seen))
    if num < MIN_SAMPLES or not on_unseen:
        few = f"fewer than {MIN_SAMPLES} pictures made or held out" if on_unseen else "no pictures held out"
        notes.append(f"quality and variety as a whole were not measured: {few}")
        return None
    everything = torch.arange(len(described.seen))
    reference = described.seen[choose_subset(everything, REFERENCE, settings.seed, EvalSubset.CALIBRATION)]
    project = Projection(reference)
    samples, unseen, seen = (project(rows) for rows in (described.samples[:num], described.unseen[:num], reference))
    order = choose_subset(torch.arange(len(seen)), num, settings.seed, EvalSubset.CALIBRATION)
    precision, recall = precision_recall(samples, seen[order])
    precision_real, recall_real = precision_recall(unseen, seen[order])
    return Quality(
        features=settings.features,
        frechet=corrected_frechet(samples, seen),
        frechet_real=corrected_frechet(unseen, seen),
        precision=precision,
        recall=recall,
        precision_real=precision_real,
        recall_real=recall_real,
        num=num,
    )
