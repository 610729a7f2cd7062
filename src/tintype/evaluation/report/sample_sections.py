"""Sections of the report on samples, the training log, and the setup of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tintype.evaluation.report.plot import Curve, plot
from tintype.evaluation.report.tables import format_score, table
from tintype.evaluation.results import CaptionAccuracy, EvalResult, ReportData, SamplingSetting, TuningResult
from tintype.evaluation.shapes_accuracy import ATTRIBUTES
from tintype.metrics.intervals import UNKNOWN, Estimate, format_estimate, format_proportion
from tintype.printable import html_text
from tintype.training.monitor.memorization_gauge import OVERALL


def accuracy_section(results: Sequence[EvalResult]) -> str:
    """Caption accuracy by attribute."""
    several = len(results) > 1
    parts = [_accuracy(result, result.accuracy, several) for result in results if result.accuracy is not None]
    if not parts:
        return ""
    return f"<section><h2>Does it draw what the caption says?</h2>{''.join(parts)}</section>"


def _accuracy(result: EvalResult, accuracy: CaptionAccuracy, several: bool) -> str:
    scores = accuracy.scores
    rows = [
        [label, *(_proportion_of(column[name].right, column[name].num) for column in scores.values())]
        for name, label in ATTRIBUTES.items()
    ]
    shares = table(["right in", *map(html_text, scores)], rows)
    distances = ", ".join(
        f"{distance} new combination{'s' * (distance != 1)}: {format_proportion(score.right)} of {score.num}"
        for distance, score in accuracy.by_distance.items()
    )
    return (
        (f"<h3>{html_text(result.about.name)}</h3>" if several else "")
        + "<p>A program judges every sample. <em>Held out</em>: captions with a color and shape, or an arrangement of "
        "two colors, that no training picture shows. <em>Chance</em>: perfect pictures of other captions."
        f"</p>{shares}<p>All right, by the number of new combinations: {distances}.</p>"
    )


def _proportion_of(proportion: Estimate, num: int) -> str:
    return f"{format_proportion(proportion)} <span class=soft>of {num}</span>" if num else "–"


def tuning_section(results: Sequence[EvalResult]) -> str:
    """The comparison of guidance scales and numbers of steps."""
    parts = [_tuning(result, result.tuning) for result in results if result.tuning is not None]
    return f"<section><h2>Which guidance, how many steps?</h2>{''.join(parts)}</section>" if parts else ""


def _tuning(result: EvalResult, tuning: TuningResult) -> str:
    about, best = result.about, tuning.best
    by_guidance = [setting for setting in tuning.settings if setting.steps == about.steps]
    by_steps = [setting for setting in tuning.settings if setting.guidance == best.guidance]
    plots = _settings_plot(f"By guidance, {about.steps} steps ({about.name})", "guidance", by_guidance, tuning)
    plots += _settings_plot(f"By steps, guidance {best.guidance:g} ({about.name})", "steps", by_steps, tuning)
    present_name = f"{about.steps} steps, guidance {about.guidance:g}"
    best_name = f"{best.steps} steps, guidance {best.guidance:g}"
    return (
        f"<p>{html_text(tuning.criterion.capitalize())}, on {tuning.num} other captions, with the same noise for every "
        "setting. The best guidance has the best score; the best number of steps is the smallest that is not "
        "significantly worse than the best score.</p>"
        f"<div class=two>{plots}</div><p>Best for {html_text(about.name)}: {best_name}, with "
        f"{format_score(tuning, best)} for {best.evaluations:.0f} evaluations of the network per image. "
        + (
            "These are its settings.</p>"
            if present_name == best_name
            else f"Its settings are {present_name}; <code>--save</code> changes them.</p>"
        )
    )


def _settings_plot(title: str, x_name: str, settings: Sequence[SamplingSetting], tuning: TuningResult) -> str:
    values = [setting.guidance if x_name == "guidance" else float(setting.steps) for setting in settings]
    is_proportion = all(setting.all_right is not None for setting in settings)
    curves = [Curve(name=tuning.criterion, x=values, y=[setting.score for setting in settings], color=1)]
    if is_proportion:
        all_right = [setting.all_right or UNKNOWN for setting in settings]
        curves.append(Curve(name="everything right", x=values, y=all_right, color=0))
    low, high = (0.0, 1.0) if is_proportion else (None, None)
    log, y_name = x_name == "steps", "right" if is_proportion else "distance"
    return plot(title, x_name, y_name, curves, log_x=log, low=low, high=high, percent=is_proportion, x_ticks=values)


def quality_section(results: Sequence[EvalResult]) -> str:
    """Fréchet distance, precision and recall."""
    rows = []
    for result in results:
        quality = result.quality
        if quality is None:
            continue
        rows.append([html_text(result.about.name), *_quality_cells(quality.frechet, quality.precision, quality.recall)])
        real = _quality_cells(quality.frechet_real, quality.precision_real, quality.recall_real)
        rows.append([f"unseen real pictures ({quality.num})", *real])
    if not rows:
        return ""
    features = next(result.quality.features for result in results if result.quality is not None)
    return (
        "<section><h2>Are the images realistic and varied?</h2><p>The Fréchet distance between samples and training "
        "pictures, extrapolated to infinitely many samples; precision, the share of samples among real pictures; and "
        f"recall, the share of real pictures among samples. Features: <em>{html_text(features)}</em>. A perfect model "
        "would score like the unseen real pictures."
        f"</p>{table(['pictures', 'Fréchet distance', 'precision', 'recall'], rows)}</section>"
    )


def _quality_cells(frechet: Estimate, precision: Estimate, recall: Estimate) -> list[str]:
    return [format_estimate(frechet), format_proportion(precision), format_proportion(recall)]


def training_section(models: Sequence[tuple[EvalResult, ReportData]]) -> str:
    """Curves from the logs of the runs: held-out error, caption use and memorization during training."""
    figures = [figure for result, report in models if len(report.log) > 1 for figure in _training(result, report.log)]
    if not figures:
        return ""
    return (
        "<section><h2>During training</h2><p>From the log of the run: a few held-out pictures, the same every time.</p>"
        f"<div class=two>{''.join(figures)}</div></section>"
    )


def _training(result: EvalResult, rows: Sequence[dict[str, Any]]) -> list[str]:
    name, images = result.about.name, [float(row["images_seen"]) for row in rows]
    levels = sorted({level for row in rows for level in row["noise_error"]}, key=float)[:6]
    errors, gains = (
        [
            Curve(name=f"sigma {level}", x=images, y=[value(row, level) for row in rows], color=index, band=False)
            for index, level in enumerate(levels)
        ]
        for value in (_logged_error, _logged_gain)
    )
    gauge = Curve(name="all levels, weighted as in training", x=images, y=[_logged_gauge(row) for row in rows], color=0)
    return [
        plot(f"Error on held-out pictures ({name})", "images", "mean square", errors, log_y=True),
        plot(f"Error reduction from the right caption ({name})", "images", "of the error", gains, percent=True),
        plot(f"Memorization gauge ({name})", "images", "memorized", [gauge], low=-0.5, high=1.0, percent=True),
    ]


def _logged_error(row: dict[str, Any], level: str, captions: str = "") -> Estimate:
    value = (row.get(f"noise_error{captions}") or {}).get(level)
    return UNKNOWN if value is None else Estimate(value, value, value)


def _logged_gain(row: dict[str, Any], level: str) -> Estimate:
    right, other = (_logged_error(row, level, captions).value for captions in ("", "_shuffled"))
    gain = 1 - right / other if other else float("nan")
    return Estimate(gain, gain, gain)


def _logged_gauge(row: dict[str, Any]) -> Estimate:
    gauge = (row.get("memorization") or {}).get(OVERALL) or [None]
    return UNKNOWN if None in gauge else Estimate(*gauge)


def provenance_section(results: Sequence[EvalResult]) -> str:
    """The models, the data and the settings of the evaluation."""
    parts = []
    for result in results:
        about, settings = result.about, result.settings
        facts = {
            "model": f"{about.name}, preset {about.preset}, {about.num_weights:,} weights, text {about.text}",
            "sha256 of its weights": about.sha256,
            "images seen": f"{about.images_seen:,}",
            "training": about.plan,
            "data": f"{about.data}: {about.num_seen:,} training pictures, {about.num_unseen:,} unseen",
            "fingerprint of the data": about.fingerprint,
            "measured": f"{about.num_measured_unseen} unseen and {about.num_measured_seen} training pictures at "
            f"{len(result.sigmas)} noise levels",
            "samples": f"{settings.copies}, {about.sampler}, {about.steps} steps, guidance {about.guidance:g}",
            "seed": str(settings.seed),
            "evaluated": f"{about.time}, in {result.seconds:.0f} s, by tintype {about.version}",
        }
        rows = [[html_text(name), html_text(value)] for name, value in facts.items()]
        parts.append(table(["fact", "value"], rows, 9).replace("<table>", "<table class=facts>"))
    return f"<section><h2>Details of the evaluation</h2>{''.join(parts)}</section>"
