"""What an evaluation means, in words."""

from __future__ import annotations

import math
from typing import NamedTuple

from tintype.evaluation.results import EvalResult
from tintype.metrics.intervals import format_estimate, format_percent, format_proportion, proportion_difference

GOOD, FAIR, BAD, PLAIN = "good", "fair", "bad", "plain"
MIN_PICTURES = 20  # pictures, below which a difference that is not clear means nothing
MIDDLE = 1.0  # the noise level that one figure is given for
COPYING, LEARNING_BY_HEART = 0.5, 0.1  # of the gauge


class Finding(NamedTuple):
    """One sentence, and how good the news is."""

    topic: str
    text: str
    mark: str


def verdict(result: EvalResult) -> list[Finding]:
    """The findings, most important first; what was not measured is not mentioned."""
    lines = [*_noise(result), *_caption_use(result), *_copies(result), *_accuracy(result), *_quality(result)]
    return lines


def _noise(result: EvalResult) -> list[Finding]:
    noise, sigmas = result.noise, result.sigmas
    unseen = result.about.num_measured_unseen > 0
    curve, of_what = (noise.unseen, "pictures it has never seen") if unseen else (noise.seen, "its training pictures")
    place = min(range(len(sigmas)), key=lambda level: abs(math.log(sigmas[level] / MIDDLE)))
    found = 1 - curve[place].value
    text = f"It identifies {format_percent(found)} of the noise in {of_what} at sigma {sigmas[place]:.2g}."
    mark = GOOD if found > 0.95 else FAIR if found > 0.8 else BAD
    blind = [level for level, error in enumerate(curve) if error.low > 1]
    if blind:
        mark = FAIR if mark == GOOD else mark
        where = f"at sigma {sigmas[blind[-1]]:.2g}" + (" and below" if len(blind) > 1 else "")
        text += f" The slightest noise it does not see: {where} its error is larger than that of saying nothing."
    return [Finding("noise", text, mark)]


def _caption_use(result: EvalResult) -> list[Finding]:
    heard = result.captions
    if heard is None:
        return []
    gains = heard.gain_over_other
    clear = [level for level, gain in enumerate(gains) if gain.low > 0]
    about = result.about
    num = about.num_measured_unseen if heard.on_unseen else about.num_measured_seen
    if not clear and num < MIN_PICTURES:
        return [Finding("captions", f"{num} pictures are too few to tell whether it listens.", PLAIN)]
    if not clear:
        text = "It does not listen: another picture's caption serves it as well as the right one, at every level."
        return [Finding("captions", text, BAD)]
    best = max(clear, key=lambda level: gains[level].value)
    span = f"from sigma {result.sigmas[clear[0]]:.2g} to {result.sigmas[clear[-1]]:.2g}"
    strong = gains[best].value
    how = "It listens" if strong >= 0.2 else "It listens a little"
    text = (
        f"{how}: the right caption takes {format_proportion(gains[best])} off the error that another picture's "
        f"caption leaves, "
        f"at sigma {result.sigmas[best]:.2g}; a difference is clear {span}."
    )
    words = [word for word in heard.words if word.effect.low > 0][:5]
    if words:
        text += f" Words that matter most: {', '.join(word.word for word in words)}."
    return [Finding("captions", text, GOOD if strong >= 0.2 else FAIR)]


def _copies(result: EvalResult) -> list[Finding]:
    lines = []
    overall = result.noise.gauge_overall
    if overall is not None and math.isfinite(overall.value):
        begun = [level for level, one in enumerate(result.noise.gauge) if one.low > LEARNING_BY_HEART]
        mark = BAD if overall.low > COPYING else FAIR if begun or overall.low > LEARNING_BY_HEART else GOOD
        if mark != BAD and overall.high > COPYING:
            mark = PLAIN
        how = {
            BAD: "It knows its training pictures by heart",
            FAIR: "It has begun to learn its training pictures by heart",
            GOOD: "It has not learned its training pictures by heart",
            PLAIN: "These are too few pictures to tell whether it knows its training pictures by heart",
        }[mark]
        gauge = (
            format_proportion(overall)
            if overall.value > 0
            else f"not above 0, at most {format_percent(max(0.0, overall.high))}"
        )
        text = f"{how}: memorization gauge {gauge}, where 0 is not at all and 100 entirely."
        if begun:
            most = max(begun, key=lambda level: result.noise.gauge[level].value)
            text += f" Most at sigma {result.sigmas[most]:.2g}: {format_proportion(result.noise.gauge[most])}."
        lines.append(Finding("memory", text, mark))
    copies = result.copies
    if copies is not None:
        many, how = copies.share.low > max(copies.rate, 0.01), "It copies"
        if not many:
            how = "No more near copies than chance"
        elif copies.honest is not None and not proportion_difference(copies.share, copies.honest).low > 0:
            many, how = False, "No more near copies than following a caption brings"
        text = (
            f"{how}: {copies.num_alarmed} of {copies.num} "
            f"samples, {format_proportion(copies.share)}, are near copies of a training picture; of "
            f"{copies.calibrated_on}, "
            f"{format_percent(copies.rate)} would count as such"
        )
        if copies.honest is not None:
            text += (
                f", and of those it makes for unseen captions, next to their pictures, "
                f"{format_proportion(copies.honest)}"
            )
        text += "."
        lines.append(Finding("copies", text, GOOD if not many else BAD if copies.share.low > 0.1 else FAIR))
    return lines


def _accuracy(result: EvalResult) -> list[Finding]:
    found = result.accuracy
    if found is None:
        return []
    new, held_out, by_chance = (found.scores[name]["all"].right for name in ("new", "held out", "chance"))
    mark = GOOD if new.value >= 0.8 else FAIR if new.low > by_chance.high else BAD
    text = (
        f"It draws all that a new caption says {format_proportion(new)} of the time, and "
        f"{format_proportion(held_out)} where the "
        f"combination is one it has never seen; chance would do {format_percent(by_chance.value)}."
    )
    said = [
        (name, score.right.value) for name, score in found.scores["new"].items() if name != "all" and score.num >= 10
    ]
    if said and min(value for _, value in said) < 1:
        name, value = min(said, key=lambda one: one[1])
        text += f" Hardest for it: {_called(name)}, {format_percent(value)}."
    return [Finding("accuracy", text, mark)]


def _called(attribute: str) -> str:
    from tintype.evaluation.shapes_accuracy import ATTRIBUTES

    return ATTRIBUTES[attribute]


def _quality(result: EvalResult) -> list[Finding]:
    quality = result.quality
    if quality is None:
        return []
    apart = quality.frechet.low > quality.frechet_real.high
    text = (
        f"As a whole its pictures {'differ from' if apart else 'are like'} real ones: Fréchet distance "
        f"{format_estimate(quality.frechet)}, where unseen real ones have {format_estimate(quality.frechet_real)} "
        f"and gray ones 1. "
        f"{format_percent(quality.precision.value)} of them lie among real ones (of real ones "
        f"{format_percent(quality.precision_real.value)}), and they cover {format_percent(quality.recall.value)} of "
        f"the variety "
        f"({format_percent(quality.recall_real.value)})."
    )
    return [Finding("quality", text, FAIR if apart else GOOD)]
