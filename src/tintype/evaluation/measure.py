"""The evaluation of a model, from noise errors to the data of the report."""

from __future__ import annotations

import datetime
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from tintype._version import __version__
from tintype.config import Config
from tintype.diffusion.noise import EvalSubset
from tintype.evaluation.caption_accuracy import choose_tasks, measure_caption_accuracy
from tintype.evaluation.caption_use import shuffle_captions, summarize_caption_use, word_effects, word_probes
from tintype.evaluation.copies import Calibration, Control, choose_calibration, find_copies
from tintype.evaluation.eval_data import MIN_PICTURES, EvalData, choose_subset
from tintype.evaluation.features import Features, FeatureSets, features_of
from tintype.evaluation.noise_error_bench import NoiseErrorBench, captioned_denoiser
from tintype.evaluation.origins import sample_origins
from tintype.evaluation.progress import StageProgress, with_progress
from tintype.evaluation.quality import measure_quality
from tintype.evaluation.results import (
    CaptionAccuracy,
    CaptionUse,
    EvalResult,
    EvalSettings,
    EvaluationInfo,
    NoiseErrors,
    ReportData,
    TuningResult,
    WordEffect,
)
from tintype.evaluation.samples import denoising_sheet, images_to_tensor, sample_images
from tintype.evaluation.tuning import compare_settings, make_criterion
from tintype.metrics.intervals import UNKNOWN, column_means
from tintype.metrics.memorization import level_weights, memorization_ratio
from tintype.metrics.noise_error import noise_levels
from tintype.pipeline.pipeline import Pipeline

MAX_WORDS, WORD_PICTURES, WORD_LEVELS = 32, 12, 3
REPORT_SAMPLES = 24  # samples in the report


@dataclass
class _Errors:
    """Noise errors on unseen and training pictures."""

    unseen: Tensor  # [N, K]
    seen: Tensor  # [M, K]
    ideal: Tensor  # [M, K] of the ideal denoiser of the training set
    ideal_no_captions: Tensor


def evaluate(
    pipeline: Pipeline, data: EvalData, images_seen: int, settings: EvalSettings
) -> Generator[StageProgress, None, tuple[EvalResult, ReportData]]:
    """Measure everything that the data permit. Results depend only on the model, the data and the settings.

    Raises ConfigError or MissingExtraError for unavailable features, before the first measurement.
    """
    started = time.monotonic()
    features = features_of(settings.features)
    pipeline.batch_invariant = False  # images may share a batch: none of them is to be reproduced
    notes = list(data.notes)
    sigmas = noise_levels(pipeline.config.noise)
    bench = NoiseErrorBench(captioned_denoiser(pipeline), pipeline.codec, data, sigmas, settings.seed, pipeline.device)
    seen = choose_subset(data.seen, settings.num, settings.seed, EvalSubset.TRAINING)
    unseen = choose_subset(data.unseen, settings.num, settings.seed, EvalSubset.UNSEEN)
    _note_small_sets(notes, data, settings.num)
    errors = yield from _measure_errors(bench, seen, unseen)
    noise = _summarize_errors(errors, level_weights(pipeline.config.noise, sigmas), settings.seed)
    caption_use = yield from _measure_caption_use(bench, errors, seen, unseen, notes)
    captions, images = yield from sample_training_captions(pipeline, data, settings)
    control = yield from _sample_control(pipeline, data, settings)
    calibration = choose_calibration(data, settings, notes)
    copies, neighbors = yield from find_copies(data, captions, images, calibration, settings, notes, control)
    origins = yield from sample_origins(pipeline, data, neighbors, settings.seed)
    sets = yield from _features(data, images, features, calibration)
    quality = measure_quality(data, sets, settings, notes)
    accuracy, tuning = yield from _accuracy_and_tuning(pipeline, data, settings, notes)
    steps = pipeline.request([captions[0]]).steps
    work = denoising_sheet(pipeline, captions[0], settings.seed)
    sheet = yield from with_progress("one image, step by step", steps, work)
    result = EvalResult(
        about=_about(pipeline, data, images_seen, len(seen), len(unseen)),
        settings=settings,
        sigmas=sigmas.tolist(),
        noise=noise,
        caption_use=caption_use,
        copies=copies,
        quality=quality,
        accuracy=accuracy,
        tuning=tuning,
        notes=notes,
        seconds=round(time.monotonic() - started, 1),
    )
    sha256 = data.dataset.sha256
    report = ReportData(
        samples=list(zip(captions, images, strict=True))[:REPORT_SAMPLES],
        neighbors=neighbors,
        origins=origins,
        denoising=sheet,
        measured=[sha256[index] for index in unseen.tolist()],
        unseen_errors=errors.unseen,
        training=[sha256[index] for index in data.seen.tolist()],
    )
    return result, report


def _measure_errors(bench: NoiseErrorBench, seen: Tensor, unseen: Tensor) -> Generator[StageProgress, None, _Errors]:
    """Noise errors of the model on seen and unseen pictures, and of the ideal denoiser on seen ones."""
    data, num_levels = bench.data, len(bench.sigmas)
    errors = {}
    for name, indices in (("unseen pictures", unseen), ("training pictures", seen)):
        work = bench.errors(indices, data.captions(indices))
        errors[name] = yield from with_progress(f"noise error, {name}", num_levels * len(indices), work)
    ideal = ideal_no_captions = torch.empty(0, num_levels, dtype=torch.float64)
    if len(seen):
        ideal, ideal_no_captions = yield from with_progress("ideal denoiser", 3 * len(data.seen), bench.ideal(seen))
    return _Errors(errors["unseen pictures"], errors["training pictures"], ideal, ideal_no_captions)


def _summarize_errors(errors: _Errors, weights: Tensor, seed: int) -> NoiseErrors:
    ratios = None
    if min(len(errors.unseen), len(errors.seen)) >= MIN_PICTURES:
        ratios = memorization_ratio(errors.unseen, errors.seen, errors.ideal, weights, seed)
    return NoiseErrors(
        unseen=column_means(errors.unseen),
        seen=column_means(errors.seen),
        ideal=column_means(errors.ideal),
        ideal_no_captions=column_means(errors.ideal_no_captions),
        gauge=[UNKNOWN] * len(weights) if ratios is None else ratios[:-1],
        gauge_overall=None if ratios is None else ratios[-1],
    )


def _measure_caption_use(
    bench: NoiseErrorBench, errors: _Errors, seen: Tensor, unseen: Tensor, notes: list[str]
) -> Generator[StageProgress, None, CaptionUse | None]:
    """How much the error depends on captions, on unseen pictures if there are enough."""
    on_unseen = len(unseen) >= min(MIN_PICTURES, len(seen))
    indices, right = (unseen, errors.unseen) if on_unseen else (seen, errors.seen)
    captions = bench.data.captions(indices)
    if len(set(captions)) < 2:
        notes.append("caption use was not measured: all measured pictures have the same caption")
        return None
    if not on_unseen:
        notes.append("caption use was measured on training pictures: too few pictures are held out")
    total = len(bench.sigmas) * len(indices)
    work = bench.errors(indices, shuffle_captions(captions, bench.seed))
    other = yield from with_progress("captions of other pictures", total, work)
    empty = yield from with_progress("no captions", total, bench.errors(indices, [""] * len(indices)))
    levels = _most_captioned_levels(right, other)
    words = yield from _measure_words(bench, indices, captions, right[:, levels], bench.sigmas[levels])
    return summarize_caption_use(right, other, empty, words, bench.sigmas[levels].tolist(), on_unseen)


def _most_captioned_levels(right: Tensor, other: Tensor) -> Tensor:
    """The noise levels where captions matter most, ascending."""
    gain = 1 - right.mean(0) / other.mean(0).clamp(min=1e-30)
    return gain.topk(WORD_LEVELS).indices.sort().values


def _measure_words(
    bench: NoiseErrorBench, indices: Tensor, captions: Sequence[str], right: Tensor, sigmas: Tensor
) -> Generator[StageProgress, None, list[WordEffect]]:
    probes = word_probes(captions, MAX_WORDS, WORD_PICTURES)
    if not probes:
        return []
    pictures = indices[torch.tensor([probe.row for probe in probes])]
    work = bench.errors(pictures, [probe.without for probe in probes], sigmas)
    without = yield from with_progress("captions without a word", len(sigmas) * len(probes), work)
    return word_effects(probes, right, without)


def sample_training_captions(
    pipeline: Pipeline,
    data: EvalData,
    settings: EvalSettings,
    steps: int | None = None,
    guidance: float | None = None,
) -> Generator[StageProgress, None, tuple[list[str], list[Image.Image]]]:
    """Samples for captions of training pictures, where copies are most likely.

    `steps` and `guidance` default to the model's own.
    """
    pool = data.seen if len(data.seen) else data.unseen
    indices = pool[torch.arange(settings.copies) % len(pool)]
    if len(pool) > settings.copies:
        indices = choose_subset(pool, settings.copies, settings.seed, EvalSubset.SAMPLED)
    captions = data.captions(indices)
    total = pipeline.request(captions[:1], steps=steps).steps * len(captions)
    work = sample_images(pipeline, captions, settings.seed, steps, guidance)
    images = yield from with_progress("samples", total, work)
    return captions, images


def _features(
    data: EvalData, images: Sequence[Image.Image], features: Features, calibration: Calibration
) -> Generator[StageProgress, None, FeatureSets | None]:
    """Features of samples, of all training pictures and of unseen ones."""
    if len(data.seen) < MIN_PICTURES:
        return None
    size, rows = (images[0].height, images[0].width), []

    def work() -> Generator[int, None, None]:
        for block in data.blocks(data.seen, size):
            rows.append(features(block))
            yield len(block)

    yield from with_progress("features of training pictures", len(data.seen), work())
    unseen = features(data.resized(calibration.indices, size))
    return FeatureSets(features(images_to_tensor(images)), torch.cat(rows), unseen)


def _sample_control(
    pipeline: Pipeline, data: EvalData, settings: EvalSettings
) -> Generator[StageProgress, None, Control | None]:
    """Samples for captions of unseen pictures, if there are enough to compare with copies."""
    if len(data.unseen) < MIN_PICTURES or not len(data.seen):
        return None
    indices = choose_subset(data.unseen, settings.samples, settings.seed, EvalSubset.CONTROL)
    captions = data.captions(indices)
    total = pipeline.request(captions[:1]).steps * len(captions)
    work = sample_images(pipeline, captions, settings.seed)
    images = yield from with_progress("samples for unseen captions", total, work)
    return Control(images, indices)


def _accuracy_and_tuning(
    pipeline: Pipeline, data: EvalData, settings: EvalSettings, notes: list[str]
) -> Generator[StageProgress, None, tuple[CaptionAccuracy | None, TuningResult | None]]:
    """Caption accuracy where a program can judge it, and guidance and steps tuned on other captions."""
    accuracy = tuning = None
    if data.is_drawn:
        tasks, _ = choose_tasks(set(data.dataset.unique), settings.captions, 0)
        accuracy = yield from measure_caption_accuracy(pipeline, tasks, settings)
    if data.is_drawn or settings.tune:
        criterion = make_criterion(pipeline, data, settings, settings.tuning_captions, notes)
        if criterion is not None:
            tuning = yield from compare_settings(pipeline, criterion, settings.seed)
    return accuracy, tuning


def _note_small_sets(notes: list[str], data: EvalData, num: int) -> None:
    """Note what remains unknown because there are few pictures, or because only `num` are measured."""
    num_seen, num_unseen = len(data.seen), len(data.unseen)
    if not num_unseen:
        notes.append("no pictures are held out: all errors are on training pictures and say nothing about new ones")
    elif num_unseen < MIN_PICTURES:
        notes.append(f"only {num_unseen} pictures are held out: results on unseen pictures are rough")
    if not num_seen:
        notes.append("none of these pictures is recorded as a training picture: copies were not searched for")
    elif num_seen < MIN_PICTURES:
        notes.append(f"{num_seen} training pictures are too few to distinguish copying from drawing")
    if num < MIN_PICTURES <= min(num_seen, num_unseen):
        notes.append(f"--num {num} is too small for the memorization gauge, which needs --num {MIN_PICTURES}")


def _about(pipeline: Pipeline, data: EvalData, images_seen: int, num_seen: int, num_unseen: int) -> EvaluationInfo:
    config = pipeline.config
    return EvaluationInfo(
        name=pipeline.name,
        sha256=pipeline.model_hash,
        images_seen=images_seen,
        preset=config.preset,
        num_weights=sum(weight.numel() for weight in pipeline.denoiser.parameters()),
        resolution=config.net.resolution,
        text=config.text.encoder,
        data=data.name,
        fingerprint=data.dataset.fingerprint,
        num_seen=len(data.seen),
        num_unseen=len(data.unseen),
        num_measured_seen=num_seen,
        num_measured_unseen=num_unseen,
        steps=config.sample.steps,
        guidance=config.sample.guidance,
        sampler=config.sample.sampler,
        plan=_plan(config),
        version=__version__,
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _plan(config: Config) -> str:
    train, noise = config.train, config.noise
    return (
        f"{train.images:,} images in batches of {train.batch_size}, learning rate {train.lr:g}, predicts "
        f"{noise.prediction}, "
        f"weight {noise.weighting}, captions dropped {100 * train.caption_dropout:g} %, seed {train.seed}"
    )
