"""Sections of the report on the network: noise error, caption use, memorization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tintype.evaluation.report.plot import Curve, plot
from tintype.evaluation.report.tables import table
from tintype.evaluation.results import EvalResult, PreviousResult
from tintype.metrics.intervals import Estimate, format_percent, format_proportion
from tintype.printable import html_text

SIGMA = "sigma, more noise"


def _label(result: EvalResult, name: str, several: bool) -> str:
    return f"{result.about.name}, {name}" if several else name


def noise_section(
    results: Sequence[EvalResult], previous: PreviousResult | None, comparison: dict[str, Any] | None
) -> str:
    """Noise errors by noise level, the memorization gauge, and the gain of the second model of two."""
    several, first = len(results) > 1, results[0]
    curves = [
        Curve(
            name="predicting nothing", x=first.sigmas, y=[Estimate(1.0, 1.0, 1.0)] * len(first.sigmas),
            color=5, dashed=True, band=False,
        )
    ]  # fmt: skip
    for index, result in enumerate(results):
        errors = result.noise
        curves.append(
            Curve(name=_label(result, "unseen pictures", several), x=result.sigmas, y=errors.unseen, color=index)
        )
        curves.append(
            Curve(
                name=_label(result, "training pictures", several), x=result.sigmas, y=errors.seen,
                color=index if several else 1, dashed=several, band=not several,
            )
        )  # fmt: skip
    curves.append(
        Curve(name="complete memorization", x=first.sigmas, y=first.noise.ideal, color=4, dashed=True, band=False)
    )
    curves.append(
        Curve(
            name="complete memorization, without captions", x=first.sigmas, y=first.noise.ideal_no_captions,
            color=3, dashed=True, band=False,
        )
    )  # fmt: skip
    if previous is not None:
        curves.append(_previous_curve(previous))
    floor = min(e.value for result in results for e in (*result.noise.unseen, *result.noise.seen) if e.value > 0)
    main = plot("Error of the predicted noise", SIGMA, "mean square", curves, log_y=True, low=floor / 30)
    side = _gauge_plot(results) + ("" if comparison is None else _comparison_plot(comparison, results))
    rows = [
        [f"{sigma:.3g}", *(_cell(curve, level) for result in results for curve in _columns(result))]
        for level, sigma in enumerate(first.sigmas)
    ]
    names = ("unseen", "training", "memorized", "memorized, no captions", "gauge")
    head = ["sigma", *(html_text(_label(result, name, several)) for result in results for name in names)]
    return (
        "<section><h2>Does it predict the noise?</h2><p>The network predicts the noise that was added to a picture. "
        "Predicting nothing has an error of 1. Complete memorization is the error of the ideal denoiser of the "
        "training set, with captions and without; where it is not drawn it is close to 0.</p>"
        f"<div class=two>{main}{side}</div>"
        f"<details><summary>All numbers</summary>{table(head, rows, 0)}</details></section>"
    )


def _columns(result: EvalResult) -> tuple[list[Estimate], ...]:
    errors = result.noise
    return errors.unseen, errors.seen, errors.ideal, errors.ideal_no_captions, errors.gauge


def _cell(curve: Sequence[Estimate], level: int) -> str:
    if level >= len(curve) or curve[level].value != curve[level].value:
        return "–"
    estimate = curve[level]
    return f"{estimate.value:.3g} <span class=soft>[{estimate.low:.2g}, {estimate.high:.2g}]</span>"


def _previous_curve(previous: PreviousResult) -> Curve:
    values = [Estimate(error, error, error) for error in previous.unseen]
    name = f"unseen, at {previous.images_seen:,} images"
    return Curve(name=name, x=previous.sigmas, y=values, color=2, dashed=True, band=False)


def _comparison_plot(comparison: dict[str, Any], results: Sequence[EvalResult]) -> str:
    gains = [Estimate(**row) for row in comparison["gains"]]
    title = f"Error reduction from {results[0].about.name} to {results[1].about.name}, on the same pictures"
    low = min(0.0, *(gain.value for gain in gains))
    curve = Curve(name="reduction", x=comparison["sigmas"], y=gains, color=1)
    return plot(title, SIGMA, "of the error", [curve], percent=True, low=low)


def _gauge_plot(results: Sequence[EvalResult]) -> str:
    several = len(results) > 1
    curves = [
        Curve(name=_label(result, "gauge", several), x=result.sigmas, y=result.noise.gauge, color=index)
        for index, result in enumerate(results)
    ]
    title = "Memorization gauge: 0 % is none, 100 % is complete memorization"
    return plot(title, SIGMA, "memorized", curves, low=-0.5, high=1.0, percent=True)


def caption_section(results: Sequence[EvalResult]) -> str:
    """Caption use: the gain of the right caption, and the words that matter."""
    several = len(results) > 1
    curves, words = [], []
    for index, result in enumerate(results):
        use = result.caption_use
        if use is None:
            continue
        alternatives = (("another caption", use.gain_over_other, False), ("no caption", use.gain_over_empty, True))
        for alternative, gain, dashed in alternatives:
            name = _label(result, f"against {alternative}", several)
            color = index if several else int(dashed)
            curves.append(Curve(name=name, x=result.sigmas, y=gain, color=color, dashed=dashed, band=not dashed))
        words.append(_words(result, several))
    if not curves:
        return ""
    low = min([0.0, *(gain.value for curve in curves for gain in curve.y)])
    figure = plot("Error reduction from the right caption", SIGMA, "of the error", curves, percent=True, low=low)
    return (
        "<section><h2>Does it follow captions?</h2><p>The noise error on the same noisy pictures with their own "
        "caption, with another picture's caption, and without a caption. Where the reduction is zero the model ignores "
        f"the caption.</p><div class=two>{figure}{''.join(words)}</div></section>"
    )


def _words(result: EvalResult, several: bool) -> str:
    use = result.caption_use
    if use is None or not use.words:
        return ""
    largest = max(max(word.effect.value for word in use.words), 1e-9)
    rows = [
        [
            html_text(word.word),
            f'<span class=bar style="width:{max(0.0, 7 * word.effect.value / largest):.2f}rem"></span>',
            format_proportion(word.effect),
        ]
        for word in use.words[:12]
    ]
    model = f", {html_text(result.about.name)}" if several else ""
    levels = ", ".join(f"{sigma:.2g}" for sigma in use.word_sigmas)
    return (
        f"<div><h3>Words that matter most{model}</h3><p class=soft>Rise of the error at sigma {levels} when the word "
        f"is removed, in about {use.words[0].num} pictures each.</p>"
        f"{table(['word', 'effect', 'rise'], rows, 2)}</div>"
    )


def copy_section(results: Sequence[EvalResult]) -> str:
    """The share of copies among samples."""
    rows = []
    for result in results:
        copies = result.copies
        if copies is None:
            continue
        overall = result.noise.gauge_overall
        gauge = "–" if overall is None else format_proportion(overall)
        control = "–" if copies.control is None else format_proportion(copies.control)
        rows.append([
            html_text(result.about.name), gauge, f"{copies.num_alarmed} of {copies.num}",
            format_proportion(copies.share), format_percent(copies.rate), format_percent(copies.found), control,
            f"{copies.distance:.1f}", f"{copies.distance_unseen:.1f}",
        ])  # fmt: skip
    if not rows:
        return ""
    head = ["model", "early warning", "copies", "share", "by chance", "planted found", "control", "distance",
            "of unseen"]  # fmt: skip
    first = next(result.copies for result in results if result.copies is not None)
    return (
        "<section><h2>Does it copy?</h2><p>The verdict is about samples: each is compared with every training picture, "
        "mirrored and not, at small shifts, whatever its colors. It is a copy if it is nearer to a training picture, "
        f"relative to its neighbors, than all but {format_percent(first.rate)} of {first.num_calibrated:,} "
        f"{html_text(first.calibrated_on)}, which is the share by chance, and than 95 % of {first.num_planted} planted "
        "copies: training pictures with noise, blur, shifts, other colors, mirrored. <em>Planted found</em>: the share "
        "of these that raise the alarm. The gauge is only an early warning. <em>Control</em>: the share for samples of "
        "unseen captions, with the pictures of these captions counted as training pictures. A model that follows "
        "captions comes that near without copying. Distances are medians of the root mean square distance to the "
        f"nearest training picture, in levels of 255.</p>{table(head, rows)}</section>"
    )
