"""Guidance and steps chosen from data: what is tried, on the same captions and noise, and what is taken."""

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
from tintype.evaluation.progress import Progress, with_progress
from tintype.evaluation.quality import MIN_SAMPLES, Projection, corrected_frechet, frechet_difference
from tintype.evaluation.results import EvalSettings, SamplingSetting, TuningResult
from tintype.evaluation.samples import images_to_tensor, sample_images
from tintype.evaluation.shapes_accuracy import CaptionTask, fraction_correct, is_shapes_data, judge_pictures
from tintype.metrics.intervals import Estimate, mean, proportion
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.start import request_sampler, request_sigmas

GUIDANCE = (1.0, 2.0, 3.0, 5.0)
STEPS = (8, 12, 16, 24)
REFERENCE = 20_000  # training pictures that pictures are compared with as a whole, at most


class Criterion(Protocol):
    """Says how good the pictures of some captions are."""

    captions: Sequence[str]
    criterion: str
    more_is_better: bool

    def evidence(self, pictures: Sequence[Image.Image]) -> Tensor:
        """What is judged by: [N, ...]."""

    def figure(self, evidence: Tensor) -> Estimate: ...

    def all_right(self, evidence: Tensor) -> Estimate | None: ...

    def lead(self, first: Tensor, second: Tensor) -> Estimate:
        """How much better the first is than the second, picture by picture: above 0 if it is."""


class CaptionCriterion:
    """In the drawn world: the share of what captions say that pictures show."""

    criterion, more_is_better = "share of what captions say", True

    def __init__(self, asked: Sequence[CaptionTask]) -> None:
        self.captions: Sequence[str] = [ask.caption for ask in asked]
        self._asked = asked

    def evidence(self, pictures: Sequence[Image.Image]) -> Tensor:
        verdicts = judge_pictures(pictures, self._asked)
        rows = [
            (fraction_correct(verdict, ask.scene), float(verdict.all))
            for verdict, ask in zip(verdicts, self._asked, strict=True)
        ]
        return torch.tensor(rows, dtype=torch.float64)

    def figure(self, evidence: Tensor) -> Estimate:
        return proportion(float(evidence[:, 0].sum()), len(evidence))  # all right in all is not beyond doubt

    def all_right(self, evidence: Tensor) -> Estimate | None:
        return proportion(int(evidence[:, 1].sum()), len(evidence))

    def lead(self, first: Tensor, second: Tensor) -> Estimate:
        return mean(first[:, 0] - second[:, 0])


class FrechetCriterion:
    """Where no program can check captions: how like training pictures the pictures are as a whole.

    The captions are those of pictures held out, where there are enough. What guidance does to the distance is what it
    does to color and variety; it says little about how well captions are followed.
    """

    criterion, more_is_better = "Fréchet distance to training pictures", False

    def __init__(self, material: EvalData, features: Features, side: int, settings: EvalSettings) -> None:
        pool = material.unseen if len(material.unseen) >= MIN_SAMPLES else material.seen
        chosen = pool[torch.arange(settings.samples) % len(pool)]
        if len(pool) > settings.samples:
            chosen = choose_subset(pool, settings.samples, settings.seed, EvalSubset.TUNING)
        self.captions: Sequence[str] = material.captions(chosen)
        reference = choose_subset(material.seen, REFERENCE, settings.seed, EvalSubset.TUNING_REFERENCE)
        rows = torch.cat([features(block) for block in material.blocks(reference, side)])
        self._features, self._project = features, Projection(rows)
        self._real = self._project(rows)

    def evidence(self, pictures: Sequence[Image.Image]) -> Tensor:
        return self._project(self._features(images_to_tensor(pictures)))

    def figure(self, evidence: Tensor) -> Estimate:
        return corrected_frechet(evidence, self._real)

    def all_right(self, evidence: Tensor) -> Estimate | None:
        return None

    def lead(self, first: Tensor, second: Tensor) -> Estimate:
        return frechet_difference(second, first, self._real)


def make_criterion(
    pipeline: Pipeline, material: EvalData, settings: EvalSettings, num: int, notes: list[str]
) -> CaptionCriterion | FrechetCriterion | None:
    """What guidance and steps are judged by: on `num` captions in the drawn world, else on pictures as a whole.

    None, and a note, where there are too few pictures to judge by, and for a distilled model, which has both built in.
    """
    if pipeline.config.distill.steps:
        notes.append("guidance and steps were not compared: this model is distilled, and has them built in")
        return None
    if is_shapes_data(material.pack.unique):
        return CaptionCriterion(choose_tasks(set(material.pack.unique), settings.asked, num)[1])
    if len(material.seen) < MIN_SAMPLES or settings.samples < MIN_SAMPLES:
        notes.append(f"guidance and steps were not compared: that takes {MIN_SAMPLES} training pictures and samples")
        return None
    side = pipeline.config.net.resolution
    return FrechetCriterion(material, features_of(settings.features), side, settings)


def tune(
    pipeline: Pipeline, material: EvalData, settings: EvalSettings, notes: list[str]
) -> Generator[Progress, None, TuningResult | None]:
    """Only choose guidance and steps, on more captions than a whole evaluation does."""
    pipeline.batch_invariant = False
    judge = make_criterion(pipeline, material, settings, 2 * settings.asked, notes)
    return None if judge is None else (yield from compare_settings(pipeline, judge, settings.seed))


class Trial(NamedTuple):
    """A setting and what it was judged by."""

    setting: SamplingSetting
    evidence: Tensor


def compare_settings(pipeline: Pipeline, judge: Criterion, seed: int) -> Generator[Progress, None, TuningResult]:
    """Try scales of guidance with the model's own number of steps, then numbers of steps with the best of them."""
    sample = pipeline.config.sample
    tried: dict[tuple[int, float], Trial] = {}

    def attempt(steps: int, guidance: float) -> Generator[Progress, None, None]:
        if (steps, guidance) in tried:
            return
        work = sample_images(pipeline, judge.captions, seed, steps, guidance)
        what = f"{steps} steps, guidance {guidance:g}"
        evidence = judge.evidence((yield from with_progress(what, steps * len(judge.captions), work)))
        setting = SamplingSetting(
            steps=steps,
            guidance=guidance,
            figure=judge.figure(evidence),
            all_right=judge.all_right(evidence),
            evaluations=evaluations_per_image(pipeline, steps, guidance),
        )
        tried[steps, guidance] = Trial(setting, evidence)

    for guidance in sorted({*GUIDANCE, sample.guidance}):
        yield from attempt(sample.steps, guidance)
    guidance = best_trial(list(tried.values()), judge).setting.guidance
    for steps in sorted({*STEPS, sample.steps}):
        yield from attempt(steps, guidance)
    chosen = fewest_steps([one for one in tried.values() if one.setting.guidance == guidance], judge)
    settings = [tried[key].setting for key in sorted(tried, key=lambda key: (key[1], key[0]))]
    return TuningResult(criterion=judge.criterion, num=len(judge.captions), settings=settings, chosen=chosen)


def best_trial(tried: Sequence[Trial], judge: Criterion) -> Trial:
    """The one with the best figure; of equals the first."""
    sign = 1 if judge.more_is_better else -1
    return max(tried, key=lambda one: sign * one.setting.figure.value)


def fewest_steps(tried: Sequence[Trial], judge: Criterion) -> SamplingSetting:
    """The setting with the fewest steps that is not clearly worse than the best, picture by picture."""
    most = best_trial(tried, judge)
    good = [one.setting for one in tried if not judge.lead(most.evidence, one.evidence).low > 0]
    return min(good, key=lambda setting: setting.steps)


def evaluations_per_image(pipeline: Pipeline, steps: int, guidance: float) -> float:
    """How often the network is asked for one picture: twice where guidance acts."""
    request = pipeline.request(["x"], steps=steps, guidance=guidance)
    sigmas = request_sigmas(request, pipeline.config.noise)
    low, high = request.guidance_interval
    guided = sum(low <= sigma <= high for sigma in sigmas[:-1].tolist()) if guidance != 1 else 0
    per_step = num_evaluations(request_sampler(request), sigmas) / max(1, len(sigmas) - 1)
    return per_step * (len(sigmas) - 1 + guided)


def apply_setting(sample: SampleConfig, chosen: SamplingSetting) -> SampleConfig:
    """A model's settings with those that were chosen."""
    return replace(sample, steps=chosen.steps, guidance=chosen.guidance)
