"""What samples tell: whether they are copies of training pictures, and how they compare with real ones as a whole."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from tintype.evaluate.features import Features
from tintype.evaluate.making import as_tensor
from tintype.evaluate.material import Material, some_of
from tintype.evaluate.neighbors import Nearest, calibrate, nearest
from tintype.evaluate.quality import MIN_SAMPLES, Projection, corrected_frechet, precision_recall
from tintype.evaluate.results import Copies, Neighbor, Quality, Settings
from tintype.evaluate.work import Progress, told
from tintype.statistics import share

FEWEST = 20  # pictures on either side, below which near and far mean nothing
REFERENCE = 20_000  # training pictures that samples are compared with as a whole, at most
SHOWN = 16  # samples shown beside their nearest training pictures
CALIBRATED = 3  # kind of pictures, for `some_of`


class Described(NamedTuple):
    """Features, each made once."""

    samples: Tensor  # [N, D]
    seen: Tensor  # of all training pictures
    unseen: Tensor  # of the pictures that the alarm is calibrated on


def near_copies(
    material: Material,
    captions: Sequence[str],
    pictures: Sequence[Image.Image],
    features: Features,
    settings: Settings,
    notes: list[str],
) -> Generator[Progress, None, tuple[Copies | None, list[Neighbor], Described | None]]:
    """Compare samples with all training pictures. Where there are too few of these, it says so in `notes`."""
    seen, unseen = material.seen, material.unseen
    if len(seen) < FEWEST:
        if len(seen):
            notes.append(f"with {len(seen)} training pictures, near and far mean nothing: no search for copies")
        return None, [], None
    samples, side = as_tensor(pictures), pictures[0].width
    own = None
    calibrated_on = "held-out pictures"
    known = some_of(unseen, settings.calibrated, settings.seed, CALIBRATED)
    if len(unseen) < FEWEST:
        places = torch.arange(len(seen))
        chosen = some_of(places, settings.calibrated, settings.seed, CALIBRATED)
        known, own, calibrated_on = seen[chosen], chosen, "training pictures, each without itself"
        notes.append("the alarm for copies was calibrated on training pictures, since next to none are held out")
    described = Described(features(samples), *(yield from _features(material, features, side, known)))
    queries = torch.cat([samples, material.squares(known, side)])
    excluded = torch.full((len(queries),), -1)
    if own is not None:
        excluded[len(samples) :] = own
    pixels = yield from told(
        "nearest pictures", len(seen), nearest(queries.flatten(1).float(), lambda: _pixels(material, side), excluded)
    )
    scale = described.seen.std(0).clamp(min=1e-6)
    rows = torch.cat([described.samples, described.unseen]) / scale
    alike = yield from told(
        "nearest in features",
        len(seen),
        nearest(rows, lambda: iter(torch.split(described.seen / scale, 4096)), excluded),
    )
    copies, alarmed = _judged(pixels, alike, len(samples), calibrated_on, notes)
    shown = _shown(material, captions, pictures, pixels, alike, alarmed, side)
    return copies, shown, described


def _pixels(material: Material, side: int) -> Iterator[Tensor]:
    return (block.flatten(1).float() for block in material.blocks(material.seen, side))


def _features(
    material: Material, features: Features, side: int, known: Tensor
) -> Generator[Progress, None, tuple[Tensor, Tensor]]:
    """Features of all training pictures, and of the pictures `known`."""
    rows = []

    def work() -> Generator[int, None, None]:
        for block in material.blocks(material.seen, side):
            rows.append(features(block))
            yield len(block)

    yield from told("features of training pictures", len(material.seen), work())
    return torch.cat(rows), features(material.squares(known, side))


def _judged(pixels: Nearest, alike: Nearest, num: int, calibrated_on: str, notes: list[str]) -> tuple[Copies, Tensor]:
    """Set the alarm on what follows the first `num`, which are samples, and raise it on those."""
    unseen = pixels.distance[num:] > 0
    leaked = int((~unseen).sum())
    if leaked:
        notes.append(f"{leaked} of the pictures held out equal a training picture; the alarm leaves them aside")
    alarm = calibrate(pixels.relative[num:][unseen], alike.relative[num:][unseen])
    if alarm.num < 99:
        notes.append(f"with {alarm.num} pictures to calibrate it on, the alarm is for what is nearer than all of them")
    alarmed = alarm.raised(pixels.relative[:num], alike.relative[:num])
    raised = int(alarmed.sum())
    copies = Copies(
        share=share(raised, num),
        num_alarmed=raised,
        num=num,
        rate=alarm.rate,
        num_calibrated=alarm.num,
        calibrated_on=calibrated_on,
        num_leaked=leaked,
        distance=float(pixels.distance[:num].median()),
        distance_unseen=float(pixels.distance[num:].median()),
    )
    return copies, alarmed


def _shown(
    material: Material,
    captions: Sequence[str],
    pictures: Sequence[Image.Image],
    pixels: Nearest,
    alike: Nearest,
    alarmed: Tensor,
    side: int,
) -> list[Neighbor]:
    """The samples that come nearest, those with an alarm first."""
    nearness = torch.minimum(pixels.relative, alike.relative)[: len(pictures)] - 2 * alarmed.double()
    order = nearness.argsort(stable=True)[:SHOWN]
    near = material.squares(material.seen[pixels.place[order]], side).permute(0, 2, 3, 1).contiguous().numpy()
    close = material.squares(material.seen[alike.place[order]], side).permute(0, 2, 3, 1).contiguous().numpy()
    return [
        Neighbor(
            caption=captions[place],
            sample=pictures[place],
            by_pixels=Image.fromarray(near[row]),
            by_features=Image.fromarray(close[row]),
            distance=float(pixels.distance[place]),
            alarmed=bool(alarmed[place]),
        )
        for row, place in enumerate(order.tolist())
    ]


def as_a_whole(material: Material, described: Described | None, settings: Settings, notes: list[str]) -> Quality | None:
    """Compare samples with real pictures, and unseen pictures with them in the same way and number."""
    if described is None:
        return None
    on_unseen = len(material.unseen) >= FEWEST  # else `unseen` holds training pictures
    num = min(len(described.samples), len(described.unseen), len(described.seen))
    if num < MIN_SAMPLES or not on_unseen:
        few = f"fewer than {MIN_SAMPLES} pictures made or held out" if on_unseen else "no pictures held out"
        notes.append(f"quality and variety as a whole were not measured: {few}")
        return None
    everything = torch.arange(len(described.seen))
    reference = described.seen[some_of(everything, REFERENCE, settings.seed, CALIBRATED)]
    project = Projection(reference)
    samples, unseen, seen = (project(rows) for rows in (described.samples[:num], described.unseen[:num], reference))
    order = some_of(torch.arange(len(seen)), num, settings.seed, CALIBRATED)
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
