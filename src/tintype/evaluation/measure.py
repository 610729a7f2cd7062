"""One evaluation from beginning to end."""

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
from tintype.evaluation import caption_use as use
from tintype.evaluation.caption_accuracy import choose_tasks, measure_caption_accuracy
from tintype.evaluation.copies import Control, find_copies, measure_quality
from tintype.evaluation.eval_data import EvalData, choose_subset
from tintype.evaluation.features import features_of
from tintype.evaluation.network_errors import NoiseErrorBench, summarize_caption_use, word_effects
from tintype.evaluation.progress import Progress, with_progress
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
from tintype.evaluation.samples import denoising_sheet, sample_images
from tintype.evaluation.shapes_accuracy import is_shapes_data
from tintype.evaluation.tuning import compare_settings, make_criterion
from tintype.metrics.intervals import UNKNOWN, column_means
from tintype.metrics.memorization import level_weights, memorization_ratio
from tintype.metrics.noise_error import CaptionedDenoiser, noise_levels
from tintype.pipeline.pipeline import Pipeline

MAX_WORDS, WORD_PICTURES, WORD_LEVELS = 32, 12, 3
MIN_PICTURES = 20  # pictures, below which intervals are too wide to say much
SHEET = 24  # samples that are shown


@dataclass
class _NetworkErrors:
    """What one evaluation measures of the network."""

    unseen: Tensor  # [N, K]
    seen: Tensor  # [M, K]
    ideal: Tensor
    ideal_blind: Tensor


def evaluate(
    pipeline: Pipeline, material: EvalData, images_seen: int, settings: EvalSettings
) -> Generator[Progress, None, tuple[EvalResult, ReportData]]:
    """Measure everything that the data allow. Results depend on the model, the data and the settings alone.

    Raises ConfigError or MissingExtraError for features that cannot be had, before anything is measured.
    """
    started = time.monotonic()
    features = features_of(settings.features)
    pipeline.batch_invariant = False  # pictures may share a batch: they are looked at, not made again
    notes = list(material.notes)
    sigmas = noise_levels(pipeline.config.noise)
    bench = NoiseErrorBench(captioned_denoiser(pipeline), material, sigmas, settings.seed, pipeline.device)
    seen = choose_subset(material.seen, settings.num, settings.seed, EvalSubset.TRAINING)
    unseen = choose_subset(material.unseen, settings.num, settings.seed, EvalSubset.UNSEEN)
    _note_small_sets(notes, material, settings.num)
    found = yield from _measure_errors(bench, seen, unseen)
    noise = _noise_errors(found, level_weights(pipeline.config.noise, sigmas), settings.seed)
    heard = yield from _measure_caption_use(bench, found, seen, unseen, notes)
    captions, pictures = yield from _sample_training_captions(pipeline, material, settings)
    control = yield from _sample_control(pipeline, material, settings)
    work = find_copies(material, captions, pictures, features, settings, notes, control)
    copies, neighbors, described = yield from work
    quality = measure_quality(material, described, settings, notes)
    accuracy, choice = yield from _accuracy_and_tuning(pipeline, material, settings, notes)
    total = pipeline.request([captions[0]]).steps
    strip = yield from with_progress(
        "a picture developing", total, denoising_sheet(pipeline, captions[0], settings.seed)
    )
    result = EvalResult(
        about=_about(pipeline, material, images_seen, len(seen), len(unseen)),
        settings=settings,
        sigmas=sigmas.tolist(),
        noise=noise,
        captions=heard,
        copies=copies,
        quality=quality,
        accuracy=accuracy,
        choice=choice,
        notes=notes,
        seconds=round(time.monotonic() - started, 1),
    )
    sheet = list(zip(captions, pictures, strict=True))[:SHEET]
    measured = [material.pack.sha256[index] for index in unseen.tolist()]
    return result, ReportData(
        samples=sheet, neighbors=neighbors, developing=strip, measured=measured, unseen_errors=found.unseen
    )


def captioned_denoiser(pipeline: Pipeline) -> CaptionedDenoiser:
    """The network of a pipeline, told captions."""
    return lambda captions: pipeline.denoiser.given(pipeline.encode(captions))


def _measure_errors(bench: NoiseErrorBench, seen: Tensor, unseen: Tensor) -> Generator[Progress, None, _NetworkErrors]:
    """Noise errors on seen and unseen pictures, and the best there could be."""
    material, num = bench.material, len(bench.sigmas)
    errors = {}
    for kind, indices in (("unseen pictures", unseen), ("training pictures", seen)):
        work = bench.errors(indices, material.captions(indices))
        errors[kind] = yield from with_progress(f"noise error, {kind}", num * len(indices), work)
    ideal = blind = torch.empty(0, num, dtype=torch.float64)
    if len(seen):
        ideal, blind = yield from with_progress("the best there could be", 3 * len(material.seen), bench.ideal(seen))
    return _NetworkErrors(errors["unseen pictures"], errors["training pictures"], ideal, blind)


def _noise_errors(found: _NetworkErrors, weights: Tensor, seed: int) -> NoiseErrors:
    curve = [UNKNOWN] * len(weights)
    gauges = None
    if len(found.unseen) >= MIN_PICTURES and len(found.seen) >= MIN_PICTURES:
        gauges = memorization_ratio(found.unseen, found.seen, found.ideal, weights, seed)
    return NoiseErrors(
        unseen=column_means(found.unseen),
        seen=column_means(found.seen),
        ideal=column_means(found.ideal),
        ideal_blind=column_means(found.ideal_blind),
        gauge=curve if gauges is None else gauges[:-1],
        gauge_overall=None if gauges is None else gauges[-1],
    )


def _measure_caption_use(
    bench: NoiseErrorBench, found: _NetworkErrors, seen: Tensor, unseen: Tensor, notes: list[str]
) -> Generator[Progress, None, CaptionUse | None]:
    """What captions are worth, on unseen pictures where there are enough of them."""
    on_unseen = len(unseen) >= min(MIN_PICTURES, len(seen))
    indices, right = (unseen, found.unseen) if on_unseen else (seen, found.seen)
    captions = bench.material.captions(indices)
    if len(set(captions)) < 2:
        notes.append("all pictures measured have the same caption, so what captions are worth cannot be measured")
        return None
    if not on_unseen:
        notes.append("what captions are worth was measured on training pictures, since next to none were held out")
    total = len(bench.sigmas) * len(indices)
    others = bench.errors(indices, use.shuffle_captions(captions, bench.seed))
    other = yield from with_progress("captions of other pictures", total, others)
    empty = yield from with_progress("no captions", total, bench.errors(indices, [""] * len(indices)))
    levels = _telling_levels(right, other)
    words = yield from _words(bench, indices, captions, right[:, levels], bench.sigmas[levels])
    return summarize_caption_use(right, other, empty, words, bench.sigmas[levels].tolist(), on_unseen)


def _telling_levels(right: Tensor, other: Tensor) -> Tensor:
    """The levels at which captions matter most, ascending."""
    gap = 1 - right.mean(0) / other.mean(0).clamp(min=1e-30)
    return gap.topk(WORD_LEVELS).indices.sort().values


def _words(
    bench: NoiseErrorBench, indices: Tensor, captions: Sequence[str], right: Tensor, sigmas: Tensor
) -> Generator[Progress, None, list[WordEffect]]:
    probes = use.word_probes(captions, MAX_WORDS, WORD_PICTURES)
    if not probes:
        return []
    pictures = indices[torch.tensor([probe.picture for probe in probes])]
    work = bench.errors(pictures, [probe.without for probe in probes], sigmas)
    without = yield from with_progress("single words", len(sigmas) * len(probes), work)
    return word_effects(probes, right, without)


def _sample_training_captions(
    pipeline: Pipeline, material: EvalData, settings: EvalSettings
) -> Generator[Progress, None, tuple[list[str], list[Image.Image]]]:
    """Pictures for captions of training pictures, of which copies are most likely."""
    pool = material.seen if len(material.seen) else material.unseen
    chosen = pool[torch.arange(settings.samples) % len(pool)]
    if len(pool) > settings.samples:
        chosen = choose_subset(pool, settings.samples, settings.seed, EvalSubset.SAMPLED)
    captions = material.captions(chosen)
    steps = pipeline.request(captions[:1]).steps
    pictures = yield from with_progress(
        "making pictures", steps * len(captions), sample_images(pipeline, captions, settings.seed)
    )
    return captions, pictures


def _accuracy_and_tuning(
    pipeline: Pipeline, material: EvalData, settings: EvalSettings, notes: list[str]
) -> Generator[Progress, None, tuple[CaptionAccuracy | None, TuningResult | None]]:
    """Caption accuracy where a program can check it, and guidance and steps chosen on captions of their own."""
    accuracy = choice = None
    drawn = is_shapes_data(material.pack.unique)
    if drawn:
        asked, _ = choose_tasks(set(material.pack.unique), settings.asked, 0)
        accuracy = yield from measure_caption_accuracy(pipeline, asked, settings)
    if drawn or settings.choose:
        judge = make_criterion(pipeline, material, settings, settings.compared, notes)
        if judge is not None:
            choice = yield from compare_settings(pipeline, judge, settings.seed)
    return accuracy, choice


def _sample_control(
    pipeline: Pipeline, material: EvalData, settings: EvalSettings
) -> Generator[Progress, None, Control | None]:
    """Pictures for captions of pictures held out, where there are enough to compare with copies."""
    if len(material.unseen) < MIN_PICTURES or not len(material.seen):
        return None
    indices = choose_subset(material.unseen, settings.samples, settings.seed, EvalSubset.CONTROL)
    captions = material.captions(indices)
    total = pipeline.request(captions[:1]).steps * len(captions)
    pictures = yield from with_progress(
        "pictures for unseen captions", total, sample_images(pipeline, captions, settings.seed)
    )
    return Control(pictures, indices)


def _note_small_sets(notes: list[str], material: EvalData, num: int) -> None:
    """Say what cannot be said, for want of pictures or because only `num` of each kind are measured."""
    num_seen, num_unseen = len(material.seen), len(material.unseen)
    if not num_unseen:
        notes.append(
            "no pictures are held out, so nothing can be said of new pictures; all errors are of training pictures"
        )
    elif num_unseen < MIN_PICTURES:
        notes.append(f"only {num_unseen} pictures are held out: what is said of new ones is little more than a guess")
    if not num_seen:
        notes.append("none of these pictures is known to have been trained on, so whether it copies cannot be told")
    elif num_seen < MIN_PICTURES:
        notes.append(f"the model was trained on {num_seen} pictures: too few to tell copying from drawing")
    if num < MIN_PICTURES <= min(num_seen, num_unseen):
        notes.append(
            f"{num} pictures of each kind are too few for the memorization gauge; it takes --num {MIN_PICTURES}"
        )


def _about(pipeline: Pipeline, material: EvalData, images_seen: int, num_seen: int, num_unseen: int) -> EvaluationInfo:
    config = pipeline.config
    return EvaluationInfo(
        name=pipeline.name,
        sha256=pipeline.model_hash,
        images_seen=images_seen,
        preset=config.preset,
        num_weights=sum(weight.numel() for weight in pipeline.denoiser.parameters()),
        resolution=config.net.resolution,
        text=config.text.encoder,
        data=material.name,
        fingerprint=material.pack.fingerprint,
        num_seen=len(material.seen),
        num_unseen=len(material.unseen),
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
