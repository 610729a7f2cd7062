"""Early stopping: is it known before a run when it will memorize, and does one that stops by itself end with its best?

    python bench/stopping.py DATA [DATA ...] [--pictures 50,100,200] [--seeds 0,1] [--quick] [--net.width 96 ...]
                             [--resolution 32] [--minutes 8] [--out FOLDER]

Trains on parts of each DATA of so many pictures, chosen by the seed, at a constant learning rate until memorizing has
begun for long, and measures the error of the predicted noise of the averaged weights, at all levels, on 64 pictures of
DATA that are never trained on. From some moments on it also lets the learning rate fall to zero, as the end of a
planned run does. A run that is in FOLDER already is only judged again. --quick: a network of a fifth of the weights, in
parts of 50 and 100 pictures (4 minutes a DATA on one core).

    begins      images where the mean error is 1 % above its minimum for good; "forecast" is what the plan says, and
                "ratio" the one over the other: 1.5 or 1 / 1.5 is as wrong as it should be
    stopped     images at which `training.monitor.early_stopping` ends the run, for half of the held-out pictures
    kept, best  errors on the other half of the average that such a run hands over, over that of the best average of
                all moments and of all ends of a falling rate; median, and the share of divisions in halves below 1.05
    end         the same of the last moment measured: of a run that goes on
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from tintype.config import Config
from tintype.data.cache.dataset_cache import DatasetCache
from tintype.data.order import Order
from tintype.diffusion.noise import EvalSubset, Purpose, permutation
from tintype.metrics.intervals import proportion
from tintype.model.denoiser import Denoiser
from tintype.training.core.device import keep_memory
from tintype.training.core.trainer import Trainer
from tintype.training.core.weights import snapshot
from tintype.training.monitor.early_stopping import EARLIEST, Trend
from tintype.training.setup.forecast import memorizing_begins
from tintype.training.setup.prepare import prepare
from tintype.training.setup.prepared import Prepared
from tintype.training.setup.request import TrainRequest

HELD_OUT = 64  # pictures that are never trained on
DIVISIONS = 40  # of these in halves: one to stop by, one to judge by
RISE = 1.01  # of the error above its minimum, where memorizing has begun
LONG = 2.0  # times the forecast, that a run is trained for
FIRST, EVERY, DECAYS = 0.08, 1.07, 1.3  # of the forecast: first moment; from moment to moment; from decay to decay
QUICK = {"width": 96, "depth": 3, "stem_width": 16}


class Part:
    """Some pictures of a data set as all of it: those to train on, and those held out."""

    def __init__(self, dataset: DatasetCache, num: int, seed: int) -> None:
        order = permutation(seed, Purpose.MEASURED, EvalSubset.TRAINING, dataset.num_samples)
        if num + HELD_OUT > len(order):
            raise SystemExit(f"{num} pictures and {HELD_OUT} held out are more than the {len(order)} there are")
        self.training, self.held_out = order[:num].sort().values, order[-HELD_OUT:].sort().values
        self._dataset = dataset

    def split(self, share: float) -> tuple[Tensor, Tensor]:
        return self.training, self.held_out

    def order(self, seed: int, indices: Tensor) -> Order:
        return self._dataset.order(seed, indices)

    def by_shape(self, indices: Tensor) -> list[Tensor]:
        return self._dataset.by_shape(indices)

    def pictures(self, indices: Tensor) -> Tensor:
        return self._dataset.pictures(indices)

    def mirrorable(self, indices: Tensor) -> Tensor:
        return self._dataset.mirrorable(indices)

    def text_embeddings(self, indices: Tensor, choice: Tensor) -> list[Tensor]:
        return self._dataset.text_embeddings(indices, choice)


@dataclass(frozen=True)
class Run:
    """A run to measure."""

    prepared: Prepared
    config: Config
    num: int
    seed: int

    @property
    def forecast(self) -> int:
        return memorizing_begins(self.config, self.num)

    def trainer(self, config: Config) -> Trainer:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            denoiser = Denoiser(config, self.prepared.tokenizer)
        denoiser.encoder = self.prepared.encoder
        assert isinstance(self.prepared.dataset, DatasetCache)
        return Trainer(denoiser, Part(self.prepared.dataset, self.num, self.seed), config, torch.device("cpu"))

    def rows(self, seconds: float) -> Iterator[dict[str, Any]]:
        """Errors [N, K] of both averages after some `images`; "decayed" where the learning rate fell to zero."""
        started = time.monotonic()
        trainer = self.trainer(with_images(self.config, 10**12))
        due, decay_due = FIRST * self.forecast, 0.3 * self.forecast
        for report in trainer.steps(int(LONG * self.forecast)):
            if report.images_seen >= due:
                due = EVERY * report.images_seen
                yield self._row(trainer)
            if report.images_seen >= decay_due:
                decay_due = DECAYS * report.images_seen
                yield self._decayed(trainer)
            if time.monotonic() - started > seconds:
                return

    def _decayed(self, trainer: Trainer) -> dict[str, Any]:
        train = self.config.train
        steps = -(-int(trainer.images_seen / (1 - train.decay_fraction)) // train.batch_size)
        ending = self.trainer(with_images(self.config, steps * train.batch_size))
        ending.load(snapshot(trainer.tensors()), trainer.counts())
        for _ in ending.steps(steps * train.batch_size):
            pass
        return {**self._row(ending), "decayed": True}

    def _row(self, trainer: Trainer) -> dict[str, Any]:
        row: dict[str, Any] = {"images": trainer.images_seen}
        for name, long in (("usual", False), ("longer", True)):
            with trainer.averaged(long=long):
                row[name] = trainer.noise_errors(None, ["true"])["true"].tolist()
                if not long:
                    part = trainer.samples_at(torch.arange(trainer.config.train.batch_size)).unique()
                    row["training"] = trainer.noise_errors(part, ["true"])["true"].tolist()
        return row


def with_images(config: Config, images: int) -> Config:
    return replace(config, train=replace(config.train, images=images))


def measured(run: Run, path: Path, seconds: float) -> list[dict[str, Any]]:
    """The rows of a run, from its file if there is one."""
    if not path.is_file():
        rows = []
        for row in run.rows(seconds):
            rows.append(row)
            print(f"{path.stem}: {row['images']:,} images", end="\r", flush=True)
        path.with_suffix(".part").write_text(json.dumps(rows))
        os.replace(path.with_suffix(".part"), path)
    rows = json.loads(path.read_text())
    return list(rows)


def geometric(errors: Tensor) -> Tensor:
    """Geometric means over levels of mean errors: of [..., N, K]."""
    return errors.mean(-2).log().mean(-1).exp()


def begins(images: list[int], errors: Tensor) -> int | None:
    """The images where errors [T, N, K] have begun to rise for good; None if they have not."""
    means = geometric(errors)
    lowest = int(means.argmin())
    risen = [seen for seen, mean in zip(images, means, strict=True) if mean > RISE * means[lowest]]
    after = [seen for seen in risen if seen > images[lowest]]
    return after[0] if after else None


def judged(rows: list[dict[str, Any]], forecast: int) -> dict[str, Any]:
    moments = [row for row in rows if "decayed" not in row]
    images = [row["images"] for row in moments]
    errors = torch.tensor([row["usual"] for row in moments], dtype=torch.float64)
    others = torch.tensor([row[name] for row in rows for name in ("usual", "longer")], dtype=torch.float64)
    begun = begins(images, errors)
    stops, kept = [], []
    for division in range(DIVISIONS):
        order = permutation(division, Purpose.MEASURED, EvalSubset.UNSEEN, errors.shape[1])
        watched, judge = order[: len(order) // 2], order[len(order) // 2 :]
        trend = Trend()
        looked = [(seen, now) for seen, now in zip(images, errors, strict=True) if seen >= EARLIEST * forecast]
        stop = next((seen for seen, now in looked if trend.rises(seen, now[watched])), None)
        best = float(geometric(others[:, judge]).min())
        stops.append(stop)
        kept.append(float(geometric(errors[images.index(trend.images), judge])) / best)
    found = [stop for stop in stops if stop is not None]
    return {
        "forecast": forecast,
        "begins": begun,
        "ratio": round(forecast / begun, 2) if begun else None,
        "stopped": [min(found), int(statistics.median(found)), max(found)] if found else None,
        "stops": proportion(len(found), DIVISIONS).value,
        "kept": round(statistics.median(kept), 3),
        "near_best": proportion(sum(ratio <= 1.05 for ratio in kept), DIVISIONS),
        "end": round(float(geometric(errors[-1])) / float(geometric(others).min()), 3),
        "last": images[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--pictures", default="")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=60.0, help="at most, of each run")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("stopping"))
    args = parser.parse_args()
    keep_memory()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "0")) or torch.get_num_threads())
    args.out.mkdir(parents=True, exist_ok=True)
    config = Config.from_preset("nano", args.resolution)
    if args.quick:
        config = replace(config, net=replace(config.net, **QUICK))
    for data in args.data:
        request = TrainRequest(data=data, out=args.out, config=config, cache=args.out / "cache")
        prepared = prepare(request, args.out, None, torch.device("cpu"), Console(stderr=True))
        for num in map(int, (args.pictures or ("50,100" if args.quick else "60,120")).split(",")):
            for seed in map(int, args.seeds.split(",")):
                train = replace(config.train, seed=seed)
                run = Run(prepared, replace(prepared.config, net=config.net, train=train), num, seed)
                name = f"{data.name}-{num}-{seed}-{config.net.width}-{args.resolution}"
                found = judged(measured(run, args.out / f"{name}.json", 60 * args.minutes), run.forecast)
                print(name, json.dumps(found))


if __name__ == "__main__":
    main()
