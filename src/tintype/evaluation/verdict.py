"""The verdict: the results of an evaluation in sentences."""

from __future__ import annotations

import math
from typing import NamedTuple

from tintype.evaluation.eval_data import MIN_PICTURES
from tintype.evaluation.results import CopyCheck, EvalResult
from tintype.evaluation.shapes_accuracy import ATTRIBUTES
from tintype.metrics.intervals import (
    exact_proportion,
    format_estimate,
    format_percent,
    format_proportion,
    proportion,
    proportion_difference,
)

GOOD, FAIR, BAD, PLAIN = "good", "fair", "bad", "plain"
REFERENCE_SIGMA = 1.0  # the noise level whose error stands for all
STRONG_GAIN = 0.2  # of the right caption over another one
MEMORIZED, PARTLY_MEMORIZED = 0.5, 0.1  # memorization ratios
MIN_FOUND = 0.5  # share of planted copies below which a search for copies says little
MIN_JUDGED = 10  # images, to single out an attribute


class Finding(NamedTuple):
    """One or two sentences on a topic, with a rating."""

    topic: str
    text: str
    mark: str


def verdict(result: EvalResult) -> list[Finding]:
    """The findings, most important first; topics that were not measured are left out."""
    return [
        *_noise(result),
        *_caption_use(result),
        *_copies(result),
        *_memorization(result),
        *_accuracy(result),
        *_quality(result),
    ]


def _noise(result: EvalResult) -> list[Finding]:
    noise, sigmas = result.noise, result.sigmas
    on_unseen = result.about.num_measured_unseen > 0
    curve, pictures = (noise.unseen, "unseen pictures") if on_unseen else (noise.seen, "its training pictures")
    reference = min(range(len(sigmas)), key=lambda level: abs(math.log(sigmas[level] / REFERENCE_SIGMA)))
    explained = 1 - curve[reference].value
    text = f"It predicts {format_percent(explained)} of the noise in {pictures} at sigma {sigmas[reference]:.2g}."
    mark = GOOD if explained > 0.95 else FAIR if explained > 0.8 else BAD
    failed = [level for level, error in enumerate(curve) if error.low > 1]
    if failed:
        mark = FAIR if mark == GOOD else mark
        below = " and below" if len(failed) > 1 else ""
        text += f" At sigma {sigmas[failed[-1]]:.2g}{below}, its error is larger than that of predicting no noise."
    return [Finding("noise", text, mark)]


def _caption_use(result: EvalResult) -> list[Finding]:
    use, about = result.caption_use, result.about
    if use is None:
        return []
    gains = use.gain_over_other
    significant = [level for level, gain in enumerate(gains) if gain.low > 0]
    num = about.num_measured_unseen if use.on_unseen else about.num_measured_seen
    if not significant and num < MIN_PICTURES:
        return [Finding("captions", f"{num} pictures are too few to tell whether it follows captions.", PLAIN)]
    if not significant:
        text = "It ignores captions: another picture's caption serves as well as the right one, at every noise level."
        return [Finding("captions", text, BAD)]
    best = max(significant, key=lambda level: gains[level].value)
    strong = gains[best].value >= STRONG_GAIN
    text = (
        f"{'It follows captions' if strong else 'It follows captions a little'}: at sigma {result.sigmas[best]:.2g}, "
        f"the right caption lowers the error by {format_proportion(gains[best])} compared with another picture's "
        f"caption; the difference is significant from sigma {result.sigmas[significant[0]]:.2g} to "
        f"{result.sigmas[significant[-1]]:.2g}."
    )
    words = [word.word for word in use.words if word.effect.low > 0][:5]
    if words:
        text += f" Words that matter most: {', '.join(words)}."
    return [Finding("captions", text, GOOD if strong else FAIR)]


def _memorization(result: EvalResult) -> list[Finding]:
    gauge, overall = result.noise.gauge, result.noise.gauge_overall
    if overall is None or not math.isfinite(overall.value):
        return []
    memorized = [level for level, ratio in enumerate(gauge) if ratio.low > PARTLY_MEMORIZED]
    mark = BAD if overall.low > MEMORIZED else FAIR if memorized or overall.low > PARTLY_MEMORIZED else GOOD
    if mark != BAD and overall.high > MEMORIZED:
        mark = PLAIN
    conclusion = {
        BAD: "its error says that it has memorized its training pictures",
        FAIR: "its error says that it has begun to memorize its training pictures",
        GOOD: "its error shows no memorizing",
        PLAIN: "these are too few pictures to tell from its error whether it memorizes",
    }[mark]
    value = format_proportion(overall)
    if overall.value <= 0:
        value = f"at or below 0, at most {format_percent(max(0.0, overall.high))}"
    text = f"Early warning: {conclusion}; memorization gauge {value}, where 0 is not at all and 100 is completely."
    if memorized:
        highest = max(memorized, key=lambda level: gauge[level].value)
        text += f" It is highest at sigma {result.sigmas[highest]:.2g}: {format_proportion(gauge[highest])}."
    return [Finding("memory", text, mark)]


def _copies(result: EvalResult) -> list[Finding]:
    copies = result.copies
    if copies is None:
        return []
    mark, conclusion = _conclusion(copies)
    text = (
        f"{conclusion}: {count_text(copies.num_alarmed, copies.num)}; of {copies.num_calibrated:,} "
        f"{copies.calibrated_on}, {format_percent(copies.rate)} are as near to one, and of planted copies, "
        f"{format_percent(copies.found)}"
    )
    if copies.control is not None:
        text += f"; of samples for unseen captions, compared with their pictures, {format_proportion(copies.control)}"
    return [Finding("copies", f"{text}.", mark)]


def count_text(num_copies: int, num: int) -> str:
    """The count of copies in words, with its exact interval: 0 of 1,000 samples are copies ..., at most 0.37 %."""
    share = exact_proportion(num_copies, num)
    bounds = f"at most {format_percent(share.high)}" if num_copies == 0 else format_proportion(share)
    return f"{num_copies:,} of {num:,} samples are copies of training pictures, {bounds}"


def _conclusion(copies: CopyCheck) -> tuple[str, str]:
    """Whether copies are more frequent than chance and captions explain: the mark and the conclusion."""
    chance = proportion(copies.rate * copies.num_calibrated, copies.num_calibrated)
    if not proportion_difference(copies.share, chance).low > 0:
        if copies.found < MIN_FOUND:
            return PLAIN, "Its pictures are so alike that copies can hardly be told"
        return GOOD, "It does not copy" if copies.num_alarmed == 0 else "No more copies than by chance"
    if copies.control is not None and not proportion_difference(copies.share, copies.control).low > 0:
        if proportion_difference(copies.control, chance).low > 0:
            return GOOD, "No more copies than from following captions"
        return FAIR, "It may copy, or only follow captions: more samples would tell"
    return BAD if copies.share.low > 0.1 else FAIR, "It copies"


def _accuracy(result: EvalResult) -> list[Finding]:
    accuracy = result.accuracy
    if accuracy is None:
        return []
    new, held_out, chance = (accuracy.scores[name]["all"].right for name in ("new", "held out", "chance"))
    mark = GOOD if new.value >= 0.8 else FAIR if new.low > chance.high else BAD
    text = (
        f"It draws everything right for {format_proportion(new)} of new captions and {format_proportion(held_out)} of "
        f"captions with combinations that it has never seen; chance would be {format_percent(chance.value)}."
    )
    rates = {
        name: score.right.value
        for name, score in accuracy.scores["new"].items()
        if name != "all" and score.num >= MIN_JUDGED
    }
    if rates and min(rates.values()) < 1:
        hardest = min(rates, key=lambda name: rates[name])
        text += f" Hardest for it: {ATTRIBUTES[hardest]}, {format_percent(rates[hardest])}."
    return [Finding("accuracy", text, mark)]


def _quality(result: EvalResult) -> list[Finding]:
    quality = result.quality
    if quality is None:
        return []
    differs = quality.frechet.low > quality.frechet_real.high
    text = (
        f"As a whole, its samples {'differ from' if differs else 'resemble'} real pictures: their Fréchet distance is "
        f"{format_estimate(quality.frechet)}, that of unseen real pictures {format_estimate(quality.frechet_real)}, "
        f"that of a constant mean picture 1. Precision is {format_percent(quality.precision.value)} (real pictures: "
        f"{format_percent(quality.precision_real.value)}), recall {format_percent(quality.recall.value)} (real "
        f"pictures: {format_percent(quality.recall_real.value)})."
    )
    return [Finding("quality", text, FAIR if differs else GOOD)]
