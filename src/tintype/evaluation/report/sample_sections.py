"""The sections of the report about the pictures that a model makes, and about how all was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tintype.evaluation.report.plot import Curve, plot
from tintype.evaluation.report.tables import escape, format_setting, table
from tintype.evaluation.results import CaptionAccuracy, EvalResult, ReportData, SamplingSetting, TuningResult
from tintype.evaluation.shapes_accuracy import ATTRIBUTES
from tintype.metrics.intervals import UNKNOWN, Estimate, format_estimate, format_proportion
from tintype.training.monitor.memorization_gauge import OVERALL


def accuracy_section(results: Sequence[EvalResult]) -> str:
    """How often pictures show what captions say."""
    several = len(results) > 1
    parts = [_accuracy(result, found, several) for result in results if (found := result.accuracy) is not None]
    if not parts:
        return ""
    return f"<section><h2>Does it draw what is said?</h2>{''.join(parts)}</section>"


def _accuracy(result: EvalResult, found: CaptionAccuracy, several: bool) -> str:
    columns = list(found.scores)
    rows = [
        [label, *(_score(found.scores[column][name].right, found.scores[column][name].num) for column in columns)]
        for name, label in ATTRIBUTES.items()
    ]
    shares = table(["right in", *(escape(column) for column in columns)], rows)
    distances = ", ".join(
        f"{distance} new combination{'s' * (distance != 1)}: {format_proportion(one.right)} of {one.num}"
        for distance, one in found.by_distance.items()
    )
    return (
        (f"<h3>{escape(result.about.name)}</h3>" if several else "")
        + "<p>A program looks at every picture. <em>Held out</em>: the caption has a color and shape, or an "
        "arrangement of two colors, that no training picture shows. <em>Chance</em>: good pictures of other captions."
        f"</p>{shares}<p>All right, by how much is new: {distances}.</p>"
    )


def _score(right: Estimate, num: int) -> str:
    return f"{format_proportion(right)} <span class=soft>of {num}</span>" if num else "–"


def tuning_section(results: Sequence[EvalResult]) -> str:
    """Which guidance and how many steps are best."""
    parts = [_choice(result, found) for result in results if (found := result.choice) is not None]
    return f"<section><h2>Which guidance, how many steps?</h2>{''.join(parts)}</section>" if parts else ""


def _choice(result: EvalResult, found: TuningResult) -> str:
    about, chosen = result.about, found.chosen
    by_guidance = [one for one in found.settings if one.steps == about.steps]
    by_steps = [one for one in found.settings if one.guidance == chosen.guidance]
    plots = _compared(f"By guidance, {about.steps} steps ({about.name})", "guidance", by_guidance, found)
    plots += _compared(f"By steps, guidance {chosen.guidance:g} ({about.name})", "steps", by_steps, found)
    own = f"{about.steps} steps, guidance {about.guidance:g}"
    best = f"{chosen.steps} steps, guidance {chosen.guidance:g}"
    return (
        f"<p>{escape(found.criterion.capitalize())}, on {found.num} captions of their own, the same noise for all. The "
        "guidance taken is the best; the steps are the fewest that are not clearly worse than the best.</p>"
        f"<div class=two>{plots}</div><p>Taken for {escape(about.name)}: {best}, with {format_setting(found, chosen)} for "
        f"{chosen.evaluations:.0f} evaluations of the network a picture. "
        + ("The model is set so.</p>" if own == best else f"It is set to {own}; <code>--save</code> changes that.</p>")
    )


def _compared(title: str, x_name: str, some: Sequence[SamplingSetting], found: TuningResult) -> str:
    values = [one.guidance if x_name == "guidance" else float(one.steps) for one in some]
    shares = all(one.all_right is not None for one in some)
    curves = [Curve(name=found.criterion, x=values, y=[one.figure for one in some], color=1)]
    if shares:
        all_right = [one.all_right or UNKNOWN for one in some]
        curves.append(Curve(name="all of it right", x=values, y=all_right, color=0))
    low, high = (0.0, 1.0) if shares else (None, None)
    log, name = x_name == "steps", "right" if shares else "distance"
    return plot(title, x_name, name, curves, log_x=log, low=low, high=high, percent=shares, x_ticks=values)


def quality_section(results: Sequence[EvalResult]) -> str:
    """Samples as a whole."""
    rows = []
    for result in results:
        own = result.quality
        if own is None:
            continue
        name = escape(result.about.name)
        rows.append(
            [name, format_estimate(own.frechet), format_proportion(own.precision), format_proportion(own.recall)]
        )
        real = (
            format_estimate(own.frechet_real),
            format_proportion(own.precision_real),
            format_proportion(own.recall_real),
        )
        rows.append([f"unseen real pictures ({own.num})", *real])
    if not rows:
        return ""
    features = next(result.quality.features for result in results if result.quality is not None)
    return (
        "<section><h2>Does it look real, and varied?</h2><p>Distance of the samples as a whole from training pictures, "
        "corrected for their number; the share of samples that lie among real pictures; and the share of real pictures "
        f"among which samples lie. In the space of features <em>{escape(features)}</em>; the second row is what a "
        "perfect model "
        f"would reach.</p>{table(['pictures', 'Fréchet distance', 'precision', 'recall'], rows)}</section>"
    )


def training_section(found: Sequence[tuple[EvalResult, ReportData]]) -> str:
    """What the logs of the runs say: the error on held-out pictures, and what captions were worth, as it trained."""
    figures = []
    for result, pictures in found:
        rows = pictures.log
        if len(rows) < 2:
            continue
        images = [float(row["images_seen"]) for row in rows]
        levels = sorted({level for row in rows for level in row["noise_error"]}, key=float)
        errors = [
            Curve(name=f"sigma {level}", x=images, y=[_logged(row, "", level) for row in rows], color=place, band=False)
            for place, level in enumerate(levels[:6])
        ]
        gains = [
            Curve(name=f"sigma {level}", x=images, y=[_worth(row, level) for row in rows], color=place, band=False)
            for place, level in enumerate(levels[:6])
        ]
        name = result.about.name
        figures.append(plot(f"Error on held-out pictures ({name})", "images", "mean square", errors, log_y=True))
        figures.append(
            plot(f"What the right caption takes off it ({name})", "images", "of the error", gains, percent=True)
        )
        gauges = [_gauged(row) for row in rows]
        overall = Curve(name="all levels, weighted as in training", x=images, y=gauges, color=0)
        figures.append(
            plot(f"Memorization gauge ({name})", "images", "of the way", [overall], low=-0.5, high=1.0, percent=True)
        )
    if not figures:
        return ""
    return (
        "<section><h2>While it trained</h2><p>From the log of the run: a few held-out pictures, the same every "
        "time.</p>"
        f"<div class=two>{''.join(figures)}</div></section>"
    )


def _logged(row: dict[str, Any], captions: str, level: str) -> Estimate:
    value = (row.get(f"noise_error{captions}") or {}).get(level)
    return UNKNOWN if value is None else Estimate(value, value, value)


def _worth(row: dict[str, Any], level: str) -> Estimate:
    right, other = (_logged(row, captions, level).value for captions in ("", "_shuffled"))
    gain = 1 - right / other if other else float("nan")
    return Estimate(gain, gain, gain)


def _gauged(row: dict[str, Any]) -> Estimate:
    found = (row.get("memorization") or {}).get(OVERALL) or [None]
    return UNKNOWN if None in found else Estimate(*found)


def provenance_section(results: Sequence[EvalResult]) -> str:
    """What was measured, on what, with what."""
    parts = []
    for result in results:
        about, plan = result.about, result.settings
        facts = {
            "model": f"{about.name}, preset {about.preset}, {about.num_weights:,} weights, text {about.text}",
            "sha256 of its weights": about.sha256,
            "images seen": f"{about.images_seen:,}",
            "plan of its training": about.plan,
            "data": f"{about.data}: {about.num_seen:,} pictures trained on, {about.num_unseen:,} unseen",
            "fingerprint of the data": about.fingerprint,
            "measured": f"{about.num_measured_unseen} unseen and {about.num_measured_seen} training pictures at "
            f"{len(result.sigmas)} noise levels",
            "samples": f"{plan.samples}, {about.sampler}, {about.steps} steps, guidance {about.guidance:g}",
            "seed": str(plan.seed),
            "made": f"{about.time}, in {result.seconds:.0f} s, by tintype {about.version}",
        }
        rows = [[escape(name), escape(value)] for name, value in facts.items()]
        parts.append(table(["fact", "value"], rows, 9).replace("<table>", "<table class=facts>"))
    return f"<section><h2>What was measured, and how</h2>{''.join(parts)}</section>"
