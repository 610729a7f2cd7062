"""The sections of the report about what a network knows: noise, captions, its training pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tintype.evaluation.report.plot import Curve, plot
from tintype.evaluation.report.tables import escape, table
from tintype.evaluation.results import EvalResult
from tintype.metrics.intervals import Estimate, format_percent, format_proportion

SIGMA = "sigma, more noise"


def _named(result: EvalResult, what: str, several: bool) -> str:
    return f"{result.about.name}, {what}" if several else what


def noise_section(results: Sequence[EvalResult], before: dict[str, Any] | None, gap: dict[str, Any] | None) -> str:
    """Errors of the predicted noise, and between two models the gain of the second."""
    several, first = len(results) > 1, results[0]
    curves = [
        Curve(
            name="predicting nothing", x=first.sigmas, y=[Estimate(1.0, 1.0, 1.0)] * len(first.sigmas),
            color=5, dashed=True, band=False,
        )
    ]  # fmt: skip
    for place, result in enumerate(results):
        own = result.noise
        curves.append(
            Curve(name=_named(result, "unseen pictures", several), x=result.sigmas, y=own.unseen, color=place)
        )
        curves.append(
            Curve(
                name=_named(result, "training pictures", several), x=result.sigmas, y=own.seen,
                color=place if several else 1, dashed=several, band=not several,
            )
        )  # fmt: skip
    curves.append(
        Curve(name="best possible by heart", x=first.sigmas, y=first.noise.ideal, color=4, dashed=True, band=False)
    )
    curves.append(
        Curve(
            name="best possible by heart, without captions", x=first.sigmas, y=first.noise.ideal_blind,
            color=3, dashed=True, band=False,
        )
    )  # fmt: skip
    if before is not None:
        curves.append(_earlier(before))
    floor = min(e.value for result in results for e in (*result.noise.unseen, *result.noise.seen) if e.value > 0)
    main = plot("Error of the predicted noise", SIGMA, "mean square", curves, log_y=True, low=floor / 30)
    side = _gauge(results) + ("" if gap is None else _gains(gap, results))
    rows = [
        [f"{sigma:.3g}", *(_cell(curve, level) for result in results for curve in _curves(result))]
        for level, sigma in enumerate(first.sigmas)
    ]
    names = ("unseen", "training", "by heart", "by heart, no captions", "gauge")
    head = ["sigma", *(escape(_named(result, name, several)) for result in results for name in names)]
    return (
        "<section><h2>Does it see the noise?</h2><p>A picture is covered with noise; the network has to say which "
        "noise. 1 is as wrong as saying there is none. By heart: what a program would reach that keeps every training "
        "picture and looks it up, with captions to go by or without; where it is not drawn it is next to nothing.</p>"
        f"<div class=two>{main}{side}</div>"
        f"<details><summary>All figures</summary>{table(head, rows, 0)}</details></section>"
    )


def _curves(result: EvalResult) -> tuple[list[Estimate], ...]:
    own = result.noise
    return own.unseen, own.seen, own.ideal, own.ideal_blind, own.gauge


def _cell(curve: Sequence[Estimate], level: int) -> str:
    if level >= len(curve) or curve[level].value != curve[level].value:
        return "–"
    one = curve[level]
    return f"{one.value:.3g} <span class=soft>[{one.low:.2g}, {one.high:.2g}]</span>"


def _earlier(before: dict[str, Any]) -> Curve:
    rows = before["noise"]["unseen"]
    values = [Estimate(*(float("nan") if row[key] is None else row[key] for key in ("value",) * 3)) for row in rows]
    seen = before["about"]["images_seen"]
    return Curve(name=f"unseen, at {seen:,} images", x=before["sigmas"], y=values, color=2, dashed=True, band=False)


def _gains(gap: dict[str, Any], results: Sequence[EvalResult]) -> str:
    found = [Estimate(**row) for row in gap["gains"]]
    title = f"How much less wrong {results[1].about.name} is than {results[0].about.name}, on the same pictures"
    low = min(0.0, *(one.value for one in found))
    curve = Curve(name="gain", x=gap["sigmas"], y=found, color=1)
    return plot(title, SIGMA, "of the error", [curve], percent=True, low=low)


def _gauge(results: Sequence[EvalResult]) -> str:
    several = len(results) > 1
    curves = [
        Curve(name=_named(result, "gauge", several), x=result.sigmas, y=result.noise.gauge, color=place)
        for place, result in enumerate(results)
    ]
    title = "Memorization gauge: 0 % understands, 100 % knows by heart"
    return plot(title, SIGMA, "of the way", curves, low=-0.5, high=1.0, percent=True)


def caption_section(results: Sequence[EvalResult]) -> str:
    """What captions are worth."""
    several = len(results) > 1
    curves, words = [], []
    for place, result in enumerate(results):
        heard = result.captions
        if heard is None:
            continue
        against = (("another caption", heard.gain_over_other, False), ("no caption", heard.gain_over_empty, True))
        for what, gain, dashed in against:
            name = _named(result, f"against {what}", several)
            color = place if several else int(dashed)
            curves.append(Curve(name=name, x=result.sigmas, y=gain, color=color, dashed=dashed, band=not dashed))
        words.append(_words(result, several))
    if not curves:
        return ""
    low = min([0.0, *(one.value for curve in curves for one in curve.y)])
    figure = plot("What the right caption takes off the error", SIGMA, "of the error", curves, percent=True, low=low)
    return (
        "<section><h2>Does it listen?</h2><p>The same noisy pictures with their own caption, with the caption of "
        "another "
        "picture, and with none. Where the gap is zero the model does not use the caption.</p>"
        f"<div class=two>{figure}{''.join(words)}</div></section>"
    )


def _words(result: EvalResult, several: bool) -> str:
    heard = result.captions
    if heard is None or not heard.words:
        return ""
    most = max(max(word.effect.value for word in heard.words), 1e-9)
    rows = [
        [
            escape(word.word),
            f'<span class=bar style="width:{max(0.0, 7 * word.effect.value / most):.2f}rem"></span>',
            format_proportion(word.effect),
        ]
        for word in heard.words[:12]
    ]
    of_whom = f", {escape(result.about.name)}" if several else ""
    levels = ", ".join(f"{sigma:.2g}" for sigma in heard.word_sigmas)
    return (
        f"<div><h3>Words it misses most when they are left out{of_whom}</h3><p class=soft>Rise of the error at sigma "
        f"{levels}, "
        f"in about {heard.words[0].num} pictures each.</p>{table(['word', 'how much', 'rise'], rows, 2)}</div>"
    )


def copy_section(results: Sequence[EvalResult]) -> str:
    """The share of near copies."""
    rows = []
    for result in results:
        copies = result.copies
        if copies is None:
            continue
        overall = result.noise.gauge_overall
        gauge = "–" if overall is None else format_proportion(overall)
        by_caption = "–" if copies.honest is None else format_proportion(copies.honest)
        rows.append([
            escape(result.about.name), gauge, f"{copies.num_alarmed} of {copies.num}", format_proportion(copies.share),
            format_percent(copies.rate), by_caption, f"{copies.distance:.1f}", f"{copies.distance_unseen:.1f}",
        ])  # fmt: skip
    if not rows:
        return ""
    head = ["model", "gauge", "near copies", "share", "by chance", "by caption", "distance", "of unseen"]
    on = next(result.copies for result in results if result.copies is not None)
    return (
        "<section><h2>Does it copy?</h2><p>A sample raises the alarm if it lies nearer to a training picture, for "
        f"where it lies, than all but {format_percent(on.rate)} of {on.num_calibrated:,} {escape(on.calibrated_on)} "
        f"do: the "
        "share by chance. <em>By caption</em>: of samples for captions of pictures held out, where these are counted "
        "as trained on; so near does following a caption bring a model that does not copy. Distances are medians to "
        f"the nearest training picture, in levels of 255.</p>{table(head, rows)}</section>"
    )
