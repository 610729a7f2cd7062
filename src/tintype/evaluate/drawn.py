"""Caption accuracy of a model of the drawn world, and the settings under which it is best."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from dataclasses import replace

import torch

from tintype.config import SampleConfig
from tintype.data.shapes_check import Verdict
from tintype.diffusion.samplers import SAMPLERS, num_evaluations
from tintype.evaluate.accuracy import (
    SPLITS,
    Ask,
    Score,
    asks,
    chance,
    concept_distance,
    judged,
    mean_right,
    score,
    scores,
)
from tintype.evaluate.making import making
from tintype.evaluate.results import CaptionAccuracy, Setting, Settings
from tintype.evaluate.statistics import mean, share
from tintype.evaluate.work import Progress, told
from tintype.pipeline import Pipeline
from tintype.starting import sigmas_of

GUIDANCE = (1.0, 2.0, 3.0, 5.0)
STEPS = (8, 12, 16, 24)
Judged = tuple[list[Verdict], list[Ask]]


def caption_accuracy(
    pipeline: Pipeline, seen: Collection[str], settings: Settings
) -> Generator[Progress, None, CaptionAccuracy]:
    """Choose guidance and steps on some captions, then measure with the model's own settings on others.

    seen: captions trained on, which are not asked for.
    """
    sample = pipeline.config.sample
    num = settings.asked + settings.compared // 2
    asked = {name: asks(split, num, seen) for name, split in SPLITS.items()}
    compared = [ask for own in asked.values() for ask in own[settings.asked :]]
    tried, chosen = yield from _compared(pipeline, compared, sample, settings.seed)
    table: dict[str, dict[str, Score]] = {}
    every: Judged = ([], [])
    for name, own in asked.items():
        own = own[: settings.asked]
        verdicts = yield from _verdicts(pipeline, own, settings.seed, sample.steps, sample.guidance, name)
        table[name] = scores(verdicts, [ask.scene for ask in own])
        every[0].extend(verdicts)
        every[1].extend(own)
    table["chance"] = chance(every[1], pipeline.config.net.resolution, settings.seed)
    return CaptionAccuracy(scores=table, by_distance=_by_distance(*every), settings=tried, chosen=chosen)


def _by_distance(verdicts: Sequence[Verdict], asked: Sequence[Ask]) -> dict[int, Score]:
    found = {}
    for distance in sorted({concept_distance(ask.scene) for ask in asked}):
        own = [place for place, ask in enumerate(asked) if concept_distance(ask.scene) == distance]
        found[distance] = score([verdicts[place] for place in own], [asked[place].scene for place in own], "all")
    return found


def _verdicts(
    pipeline: Pipeline, asked: Sequence[Ask], seed: int, steps: int, guidance: float, what: str
) -> Generator[Progress, None, list[Verdict]]:
    work = making(pipeline, [ask.caption for ask in asked], seed, steps, guidance)
    total = steps * len(asked)
    pictures = yield from told(f"caption accuracy, {what}", total, work)
    return judged(pictures, asked)


def _compared(
    pipeline: Pipeline, asked: Sequence[Ask], sample: SampleConfig, seed: int
) -> Generator[Progress, None, tuple[list[Setting], Setting]]:
    """Try scales of guidance, then numbers of steps under the best of them."""
    tried: dict[tuple[int, float], tuple[Setting, torch.Tensor]] = {}

    def attempt(steps: int, guidance: float) -> Generator[Progress, None, None]:
        if (steps, guidance) in tried:
            return
        what = f"{steps} steps, guidance {guidance:g}"
        verdicts = yield from _verdicts(pipeline, asked, seed, steps, guidance, what)
        right = torch.tensor([mean_right(v, ask.scene) for v, ask in zip(verdicts, asked, strict=True)])
        whole = share(sum(verdict.all for verdict in verdicts), len(verdicts))
        work = _evaluations(pipeline, steps, guidance)
        setting = Setting(steps=steps, guidance=guidance, all_right=whole, mean_right=mean(right), evaluations=work)
        tried[steps, guidance] = setting, right

    for guidance in sorted({*GUIDANCE, sample.guidance}):
        yield from attempt(sample.steps, guidance)
    best = max(tried.values(), key=lambda one: one[0].mean_right.value)[0].guidance
    for steps in sorted({*STEPS, sample.steps}):
        yield from attempt(steps, best)
    under_best = [one for (_, guidance), one in sorted(tried.items()) if guidance == best]
    settings = [setting for setting, _ in sorted(tried.values(), key=lambda one: (one[0].guidance, one[0].steps))]
    return settings, fewest(under_best)


def fewest(tried: Sequence[tuple[Setting, torch.Tensor]]) -> Setting:
    """The setting with the fewest steps that is not clearly worse than the best, picture by picture."""
    best = max(tried, key=lambda one: one[0].mean_right.value)
    good = [setting for setting, right in tried if not mean(best[1] - right).low > 0]
    return min(good, key=lambda setting: setting.steps)


def _evaluations(pipeline: Pipeline, steps: int, guidance: float) -> float:
    """How often the network is asked for one picture: twice where guidance acts."""
    request = pipeline.request(["x"], steps=steps, guidance=guidance)
    sigmas = sigmas_of(request, pipeline.config.noise)
    low, high = request.interval
    guided = sum(low <= sigma <= high for sigma in sigmas[:-1].tolist()) if guidance != 1 else 0
    per_step = num_evaluations(SAMPLERS[request.sampler], sigmas) / max(1, len(sigmas) - 1)
    return per_step * (len(sigmas) - 1 + guided)


def with_chosen(sample: SampleConfig, chosen: Setting) -> SampleConfig:
    """A model's settings with those that were chosen."""
    return replace(sample, steps=chosen.steps, guidance=chosen.guidance)
