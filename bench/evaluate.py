"""The cost of an evaluation, and tests of its claims.

    python bench/evaluate.py ideal [--num 50000] [--size 32]      the ideal denoiser against its matrix products alone
    python bench/evaluate.py whole --model MODEL [--data DATA]    seconds and peak memory of `tintype evaluate`
    python bench/evaluate.py seeds --model MODEL [--data DATA]    overlap of intervals between two seeds; repeatability
    python bench/evaluate.py gauge --data DATA                    cost of the gauge in a run of the preset nano
    python bench/evaluate.py alarm --data DATA                    alarm rate of held-out pictures; copies found

Results are printed as JSON, one object per line.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from tintype.config import nano
from tintype.copies.alarm import count_copies, set_alarm, which_planted
from tintype.copies.index import Nearest, PictureIndex
from tintype.copies.planted import planted
from tintype.data.cache.open_or_build import build_cache
from tintype.data.images.decode import preprocess_for
from tintype.data.sources.find import find_pairs
from tintype.data.thread_pool import finished
from tintype.diffusion.exact import finite_errors
from tintype.diffusion.noise import Purpose, normal, permutation
from tintype.evaluation.eval_data import open_eval_data
from tintype.evaluation.measure import evaluate
from tintype.evaluation.results import EvalResult, EvalSettings, to_json
from tintype.metrics.noise_error import noise_levels
from tintype.model import store
from tintype.model.denoiser import Denoiser
from tintype.model.nets.tokens import learn_tokenizer
from tintype.pipeline.pipeline import Pipeline
from tintype.training.core.device import bf16_is_faster
from tintype.training.core.trainer import Trainer
from tintype.training.monitor.memorization_gauge import MemorizationGauge

BLOCK = 2**22  # numbers, as in metrics/memorization.py


def ideal(options: argparse.Namespace) -> None:
    """CPU seconds of the ideal denoiser and of its matrix products alone, in turn."""
    num, size, queries = options.num, options.size, options.queries
    values = 3 * size * size
    pixels = torch.randint(0, 256, (num, values), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    if options.alike:  # pictures with few details, so that many are near each other
        coarse = pixels.reshape(num, 3, size, size)[:, :, ::8, ::8].float()
        pixels = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear").to(torch.uint8).flatten(1)
    step = max(16, BLOCK // values)

    def blocks() -> Iterator[Tensor]:
        return (pixels[start : start + step].float() / 127.5 - 1 for start in range(0, num, step))

    x0 = pixels[:queries].float() / 127.5 - 1
    noise = normal(0, Purpose.EVALUATE, torch.arange(queries), (values,))
    sigmas = noise_levels(nano().noise)
    ratios = []
    for _ in range(options.rounds):
        start = time.process_time()
        errors = finished(finite_errors(blocks, x0, noise, sigmas, [torch.zeros(num)]))
        seconds = time.process_time() - start
        products = _products(blocks, x0, noise, len(sigmas))
        ratios.append(seconds / products)
        _print(num=num, size=size, queries=queries, seconds=seconds, products=products, ratio=ratios[-1])
    _print(median_ratio=sorted(ratios)[len(ratios) // 2], finite=bool(torch.isfinite(errors).all()), peak_mb=_peak())


def _products(blocks: Callable[[], Iterator[Tensor]], x0: Tensor, noise: Tensor, num_levels: int) -> float:
    """CPU seconds of the matrix products alone: two in float64 for the distances, one in float32 for each level."""
    shares = torch.rand(num_levels * len(x0), len(next(blocks())))
    doubled, drawn = x0.double(), noise.double()
    seconds = 0.0
    for block in blocks():
        double = block.double()
        start = time.process_time()
        doubled @ double.T
        drawn @ double.T
        shares[:, : len(block)] @ block
        seconds += time.process_time() - start
    return seconds


def _evaluated(options: argparse.Namespace, settings: EvalSettings) -> EvalResult:
    model, pipeline = store.find(options.model), Pipeline.load(options.model, options.device)
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(options.cache or scratch)
        work = open_eval_data(model, pipeline.config, pipeline.denoiser.encoder, options.data, cache)
        result, _ = finished(evaluate(pipeline, finished(work), 0, settings))
    return result


def whole(options: argparse.Namespace) -> None:
    """Seconds and peak memory of an evaluation with default settings."""
    start, cpu = time.perf_counter(), time.process_time()
    result = _evaluated(options, EvalSettings())
    _print(
        seconds=time.perf_counter() - start, cpu_seconds=time.process_time() - cpu, threads=torch.get_num_threads(),
        peak_mb=_peak(), training_pictures=result.about.num_seen,
    )  # fmt: skip


def seeds(options: argparse.Namespace) -> None:
    """Two seeds, the first twice: figures that repeat exactly, and intervals that overlap."""
    settings = EvalSettings(num=options.num, samples=options.samples, captions=8)
    first, repeated, other = (_evaluated(options, replace(settings, seed=seed)) for seed in (0, 0, 1))

    def figures(result: EvalResult) -> str:
        return to_json(replace(result, seconds=0.0, about=replace(result.about, time="")))

    pairs = [
        (a, b)
        for name in ("unseen", "seen", "ideal_no_captions", "gauge")
        for a, b in zip(getattr(first.noise, name), getattr(other.noise, name), strict=True)
        if a.value == a.value and b.value == b.value
    ]
    overlap = sum(a.low <= b.high and b.low <= a.high for a, b in pairs)
    _print(repeats_exactly=figures(first) == figures(repeated), intervals=len(pairs), overlap=overlap)


def gauge(options: argparse.Namespace) -> None:
    """CPU seconds that the memorization gauge adds to a validation in training, and to the ideal denoiser once."""
    config = nano(options.size)
    device = torch.device("cpu")
    pairs, _ = find_pairs(options.data)
    tokenizer, vocabulary = learn_tokenizer([caption for pair in pairs for caption in pair.captions])
    config = replace(config, text=replace(config.text, encoder="learned", vocabulary=vocabulary))
    denoiser = Denoiser(config, tokenizer)
    with tempfile.TemporaryDirectory() as scratch:
        preprocess = preprocess_for(options.size, config.data, config.net.patch)
        copy = finished(build_cache(pairs, preprocess, Path(options.cache or scratch), denoiser.encoder))
        trainer = Trainer(denoiser, copy, config, device, bf16=bf16_is_faster(device))
        gauge = MemorizationGauge(copy, config)
        seconds = {
            "look": lambda: trainer.noise_errors(gauge.indices, ["true"]),
            "best_by_heart": lambda: finished(gauge.ideal_errors(1e9)),
        }
        cpu_seconds = {name: _cpu_seconds(work) for name, work in seconds.items()}
    every = 60 * config.train.sample_minutes
    _print(
        training_pictures=len(copy.split(config.train.held_out)[0]),
        **cpu_seconds,
        share_of_time=cpu_seconds["look"] / every,
    )


def _cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def alarm(options: argparse.Namespace) -> None:
    """Held-out pictures, split in half at random several times: one half calibrates the alarm, the other tests it."""
    preprocess = preprocess_for(options.size, patch=8)
    pairs, _ = find_pairs(options.data)
    with tempfile.TemporaryDirectory() as scratch:
        copy = finished(build_cache(pairs, preprocess, Path(scratch), _NoEncoder()))
        everything = torch.arange(copy.num_samples)
        square = everything[torch.from_numpy(copy.shape_of == copy.shapes.index((options.size, options.size)))]
        mixed = square[permutation(0, Purpose.MEASURED, 0, len(square))]
        held, seen = mixed[: options.num], mixed[options.num :]
        pixels = copy.pictures(torch.cat([seen, held]))
    training, new = pixels[: len(seen)], pixels[len(seen) :]
    index = PictureIndex.of([training])
    nearest = index.nearest(new)
    to_plant = training[which_planted(len(training), 0)]
    others = training[which_planted(len(training), 1)]
    rates, found, exact, limits = [], [], [], []
    for turn in range(options.rounds):
        order = permutation(turn, Purpose.MEASURED, 1, len(held))
        calibration, test = order[: len(held) // 2], order[len(held) // 2 :]
        rows = Nearest(*(column[calibration] for column in nearest))
        calibrated = set_alarm(index, new[calibration], rows, to_plant)
        rates.append(float((nearest.relative[test].double() <= calibrated.limit).double().mean()))
        exact.append(count_copies(others, index, calibrated) / len(others))
        found.append(count_copies(planted(others, 1), index, calibrated) / len(others))
        limits.append(calibrated.limit)
    _print(
        pictures=len(seen), held_out=len(held), alarm_rate=sum(rates) / len(rates), copies_found=min(exact),
        planted_copies_found=sum(found) / len(found), limit=sum(limits) / len(limits), twins=calibrated.num_twins,
    )  # fmt: skip


class _NoEncoder:
    identity = "unread"

    def text_embeddings(self, captions: list[str]) -> list[Tensor]:
        return [torch.zeros(1, dtype=torch.int64) for _ in captions]


def _peak() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _print(**figures: object) -> None:
    print(json.dumps({name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}))


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of an evaluation, and tests of its claims.")
    parser.add_argument("what", choices=("ideal", "whole", "seeds", "gauge", "alarm"))
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--data")
    parser.add_argument("--cache", help="with gauge, whole, seeds: keep the decoded pictures here")
    parser.add_argument("--device")
    parser.add_argument("--num", type=int, help="pictures: of the set (50,000), measured (64) or held out (1,000)")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--queries", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alike", action="store_true", help="with ideal: pictures that are near each other")
    options = parser.parse_args()
    options.num = options.num or {"ideal": 50_000, "alarm": 1000}.get(options.what, 64)
    {"ideal": ideal, "whole": whole, "seeds": seeds, "gauge": gauge, "alarm": alarm}[options.what](options)


if __name__ == "__main__":
    main()
