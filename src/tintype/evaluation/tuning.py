"""Tuning of guidance and steps: settings compared on the same captions and noise, and the best one."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from PIL import Image
from torch import Tensor

from tintype.config import SampleConfig
from tintype.diffusion.noise import EvalSubset
from tintype.diffusion.samplers import num_evaluations
from tintype.evaluation.caption_accuracy import choose_tasks
from tintype.evaluation.eval_data import EvalData, choose_subset
from tintype.evaluation.features import Features, features_of
from tintype.evaluation.progress import StageProgress, with_progress
from tintype.evaluation.quality import MAX_REFERENCE, MIN_SAMPLES, Projection, corrected_frechet, frechet_difference
from tintype.evaluation.results import EvalSettings, SamplingSetting, TuningResult
from tintype.evaluation.samples import images_to_tensor, sample_images
from tintype.evaluation.shapes_accuracy import CaptionTask, fraction_correct, judge_pictures
from tintype.metrics.intervals import Estimate, mean, proportion
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.start import request_sampler, request_sigmas

GUIDANCE = (1.0, 2.0, 3.0, 5.0)
STEPS = (8, 12, 16, 24)


class Criterion(Protocol):
    """Scores samples for fixed captions."""

    captions: Sequence[str]
    name: str
    higher_is_better: bool

    def measure(self, images: Sequence[Image.Image]) -> Tensor:
        """The measurements that scores are computed from: [N, ...], one row per image."""

    def score(self, measurements: Tensor) -> Estimate: ...

    def all_right(self, measurements: Tensor) -> Estimate | None: ...

    def advantage(self, first: Tensor, second: Tensor) -> Estimate:
        """How much better the first measurements are than the second, paired by image: above 0 if better."""


class CaptionCriterion:
    """For shapes: the mean share of the specified attributes that images have right."""

    name, higher_is_better = "share of what captions say", True

    def __init__(self, tasks: Sequence[CaptionTask]) -> None:
        self.captions: Sequence[str] = [task.caption for task in tasks]
        self._tasks = tasks

    def measure(self, images: Sequence[Image.Image]) -> Tensor:
        """Whether an image is right, in part and entirely: [N, 2]."""
        verdicts = judge_pictures(images, self._tasks)
        rows = [
            (fraction_correct(verdict, task.scene), float(verdict.all))
            for verdict, task in zip(verdicts, self._tasks, strict=True)
        ]
        return torch.tensor(rows, dtype=torch.float64)

    def score(self, measurements: Tensor) -> Estimate:
        return proportion(float(measurements[:, 0].sum()), len(measurements))  # has an interval even where all is right

    def all_right(self, measurements: Tensor) -> Estimate | None:
        return proportion(int(measurements[:, 1].sum()), len(measurements))

    def advantage(self, first: Tensor, second: Tensor) -> Estimate:
        return mean(first[:, 0] - second[:, 0])


class FrechetCriterion:
    """For other data: the Fréchet distance between samples and training pictures.

    Captions are those of unseen pictures, if there are enough. The distance shows what guidance does to colors and
    variety, but hardly how well images match their captions.
    """

    name, higher_is_better = "Fréchet distance to training pictures", False

    def __init__(self, data: EvalData, features: Features, side: int, settings: EvalSettings) -> None:
        pool = data.unseen if len(data.unseen) >= MIN_SAMPLES else data.seen
        indices = pool[torch.arange(settings.samples) % len(pool)]
        if len(pool) > settings.samples:
            indices = choose_subset(pool, settings.samples, settings.seed, EvalSubset.TUNING)
        self.captions: Sequence[str] = data.captions(indices)
        reference = choose_subset(data.seen, MAX_REFERENCE, settings.seed, EvalSubset.TUNING_REFERENCE)
        rows = torch.cat([features(block) for block in data.square_blocks(reference, side)])
        self._features, self._project = features, Projection(rows)
        self._real = self._project(rows)

    def measure(self, images: Sequence[Image.Image]) -> Tensor:
        """Projected features: [N, D]."""
        return self._project(self._features(images_to_tensor(images)))

    def score(self, measurements: Tensor) -> Estimate:
        return corrected_frechet(measurements, self._real)

    def all_right(self, measurements: Tensor) -> Estimate | None:
        return None

    def advantage(self, first: Tensor, second: Tensor) -> Estimate:
        return frechet_difference(second, first, self._real)


def make_criterion(
    pipeline: Pipeline, data: EvalData, settings: EvalSettings, num_captions: int, notes: list[str]
) -> CaptionCriterion | FrechetCriterion | None:
    """The criterion for this data: caption accuracy on `num_captions` captions for shapes, else Fréchet distance.

    None, with a note, for too few pictures and for a distilled model, whose guidance and steps are fixed.
    """
    if pipeline.config.distill.steps:
        notes.append("guidance and steps were not compared: they are built into a distilled model")
        return None
    if data.is_drawn:
        return CaptionCriterion(choose_tasks(set(data.dataset.unique), settings.captions, num_captions)[1])
    if len(data.seen) < MIN_SAMPLES or settings.samples < MIN_SAMPLES:
        notes.append(f"guidance and steps were not compared: that takes {MIN_SAMPLES} training pictures and samples")
        return None
    return FrechetCriterion(data, features_of(settings.features), pipeline.config.net.resolution, settings)


def tune(
    pipeline: Pipeline, data: EvalData, settings: EvalSettings, notes: list[str]
) -> Generator[StageProgress, None, TuningResult | None]:
    """Only tune guidance and steps, on more captions than a whole evaluation uses."""
    pipeline.batch_invariant = False
    criterion = make_criterion(pipeline, data, settings, 2 * settings.captions, notes)
    return None if criterion is None else (yield from compare_settings(pipeline, criterion, settings.seed))


class Trial(NamedTuple):
    """A setting and the measurements of its samples."""

    setting: SamplingSetting
    measurements: Tensor


def compare_settings(
    pipeline: Pipeline, criterion: Criterion, seed: int
) -> Generator[StageProgress, None, TuningResult]:
    """Compare guidance scales at the model's own number of steps, then numbers of steps at the best scale."""
    sample = pipeline.config.sample
    trials: dict[tuple[int, float], Trial] = {}

    def run_trial(steps: int, guidance: float) -> Generator[StageProgress, None, None]:
        if (steps, guidance) in trials:
            return
        work = sample_images(pipeline, criterion.captions, seed, steps, guidance)
        stage = f"{steps} steps, guidance {guidance:g}"
        images = yield from with_progress(stage, steps * len(criterion.captions), work)
        measurements = criterion.measure(images)
        setting = SamplingSetting(
            steps=steps,
            guidance=guidance,
            score=criterion.score(measurements),
            all_right=criterion.all_right(measurements),
            evaluations=evaluations_per_image(pipeline, steps, guidance),
        )
        trials[steps, guidance] = Trial(setting, measurements)

    for guidance in sorted({*GUIDANCE, sample.guidance}):
        yield from run_trial(sample.steps, guidance)
    guidance = best_trial(list(trials.values()), criterion).setting.guidance
    for steps in sorted({*STEPS, sample.steps}):
        yield from run_trial(steps, guidance)
    best = fewest_steps([trial for trial in trials.values() if trial.setting.guidance == guidance], criterion)
    settings = [trials[key].setting for key in sorted(trials, key=lambda key: (key[1], key[0]))]
    return TuningResult(criterion=criterion.name, num=len(criterion.captions), settings=settings, best=best)


def best_trial(trials: Sequence[Trial], criterion: Criterion) -> Trial:
    """The trial with the best score; the first of equals."""
    sign = 1 if criterion.higher_is_better else -1
    return max(trials, key=lambda trial: sign * trial.setting.score.value)


def fewest_steps(trials: Sequence[Trial], criterion: Criterion) -> SamplingSetting:
    """The setting with the fewest steps that is not significantly worse than the best, paired by image."""
    best = best_trial(trials, criterion).measurements
    good = [trial.setting for trial in trials if not criterion.advantage(best, trial.measurements).low > 0]
    return min(good, key=lambda setting: setting.steps)


def evaluations_per_image(pipeline: Pipeline, steps: int, guidance: float) -> float:
    """Evaluations of the network per image: two for each denoising where guidance acts."""
    request = pipeline.request(["x"], steps=steps, guidance=guidance)
    sigmas = request_sigmas(request, pipeline.config.noise)
    low, high = request.guidance_interval
    guided = sum(low <= sigma <= high for sigma in sigmas[:-1].tolist()) if guidance != 1 else 0
    per_step = num_evaluations(request_sampler(request), sigmas) / max(1, len(sigmas) - 1)
    return per_step * (len(sigmas) - 1 + guided)


def apply_setting(sample: SampleConfig, setting: SamplingSetting) -> SampleConfig:
    """The sampling configuration with the steps and guidance of a setting."""
    return replace(sample, steps=setting.steps, guidance=setting.guidance)
