"""Line plots with interval bands as SVG, for phones, dark mode and print; colors come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tintype.metrics.intervals import Estimate
from tintype.printable import html_text

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 12, 40


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line through estimates, with their intervals as a band."""

    name: str
    x: Sequence[float]
    y: Sequence[Estimate]
    color: int  # of those in the style, c0 to c5
    dashed: bool = False
    band: bool = True


@dataclass(frozen=True)
class _Axis:
    position: Callable[[float], float]
    ticks: list[float]


def plot(
    title: str,
    x_name: str,
    y_name: str,
    curves: Sequence[Curve],
    *,
    log_x: bool = True,
    log_y: bool = False,
    low: float | None = None,
    high: float | None = None,
    percent: bool = False,
    x_ticks: Sequence[float] | None = None,
) -> str:
    """A figure with its legend. `low` and `high` bound the vertical axis and clip the curves."""
    visible = [curve for curve in curves if _points(curve, log_y)]
    if not visible:
        return ""
    values = [y for curve in visible for _, y in _points(curve, log_y)]
    bottom, top = min(values) if low is None else low, max(values) if high is None else high
    x = _axis([x for curve in visible for x in curve.x], log_x, LEFT, WIDTH - RIGHT)
    if x_ticks is not None:
        x = _Axis(x.position, list(x_ticks))
    y = _axis([bottom, top], log_y, HEIGHT - BOTTOM, TOP)
    parts = [_grid(x, y, percent), _axis_names(x_name, y_name)]
    parts += [_band(curve, x, y, bottom, top, log_y) for curve in visible if curve.band]
    parts += [_line(curve, x, y, bottom, top, log_y) for curve in visible]
    description = html_text(f"{title}: " + "; ".join(_description(curve, log_y) for curve in visible))
    svg = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{description}">'
        f'<clipPath id="{_identity(title)}"><rect x="{LEFT}" y="{TOP - 2}" width="{WIDTH - LEFT - RIGHT}" '
        f'height="{HEIGHT - TOP - BOTTOM + 4}"/></clipPath>{"".join(parts[:2])}'
        f'<g clip-path="url(#{_identity(title)})">{"".join(parts[2:])}</g></svg>'
    )
    return f"<figure class=plot><figcaption>{html_text(title)}</figcaption>{svg}{_legend(visible)}</figure>"


def _identity(title: str) -> str:
    return "clip-" + "".join(letter if letter.isalnum() else "-" for letter in title.lower())


def _points(curve: Curve, log_y: bool) -> list[tuple[float, float]]:
    return [
        (x, y.value)
        for x, y in zip(curve.x, curve.y, strict=False)
        if math.isfinite(y.value) and (not log_y or y.value > 0)
    ]


def _axis(values: Sequence[float], log: bool, start: float, end: float) -> _Axis:
    low, high = min(values), max(values)
    if low == high:
        low, high = (low / 2, high * 2) if log else (low - 1, high + 1)
    scale: Callable[[float], float] = math.log10 if log else float

    def position(value: float) -> float:
        return start + (scale(value) - scale(low)) / (scale(high) - scale(low)) * (end - start)

    if log:
        decades = math.log10(high / low)
        factors = (1,) if decades > 2.5 else (1, 2, 5)
        powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
        ticks = [factor * 10.0**power for power in powers for factor in factors]
    else:
        rough = 10 ** math.floor(math.log10((high - low) / 4))
        step = next((k * rough for k in (1, 2, 5, 10) if (high - low) / (k * rough) <= 5), 10 * rough)
        ticks = [step * number for number in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]
    return _Axis(position, [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001 or not log])


def _tick_label(value: float, percent: bool = False) -> str:
    if percent:
        return f"{100 * value:.0f} %"
    for size, letter in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e6 if letter == 'M' else 1e3):.3g}{letter}"
    if 0 < abs(value) < 1e-3:
        digits, power = f"{value:.0e}".split("e")
        return f"{digits}e{int(power)}"
    return f"{value:.3g}"


def _grid(x: _Axis, y: _Axis, percent: bool) -> str:
    parts = []
    for tick in y.ticks:
        at = y.position(tick)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_tick_label(tick, percent)}</text>')
    for tick in x.ticks:
        at = x.position(tick)
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_tick_label(tick)}</text>')
    return "".join(parts)


def _axis_names(x_name: str, y_name: str) -> str:
    return (
        f'<text class="name" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{html_text(x_name)} →</text>'
        f'<text class="name" x="{LEFT}" y="{HEIGHT - 6}">↑ {html_text(y_name)}</text>'
    )


def _clamped(value: float, bottom: float, top: float, log_y: bool) -> float:
    """A value clamped to near the plot, so that no path runs far off."""
    reach = 0.2 * (top - bottom)
    return min(max(value, bottom / 2 if log_y else bottom - reach), top * 2 if log_y else top + reach)


def _band(curve: Curve, x: _Axis, y: _Axis, bottom: float, top: float, log_y: bool) -> str:
    finite = [
        (at, estimate)
        for at, estimate in zip(curve.x, curve.y, strict=False)
        if all(map(math.isfinite, (estimate.low, estimate.high)))
    ]
    if len(finite) < 2:
        return ""
    upper = [
        f"{x.position(at):.1f} {y.position(_clamped(estimate.high, bottom, top, log_y)):.1f}" for at, estimate in finite
    ]
    lower = [
        f"{x.position(at):.1f} {y.position(_clamped(estimate.low, bottom, top, log_y)):.1f}"
        for at, estimate in reversed(finite)
    ]
    return f'<path class="band c{curve.color}" d="M{"L".join([*upper, *lower])}Z"/>'


def _line(curve: Curve, x: _Axis, y: _Axis, bottom: float, top: float, log_y: bool) -> str:
    points = [
        f"{x.position(at):.1f} {y.position(_clamped(value, bottom, top, log_y)):.1f}"
        for at, value in _points(curve, log_y)
    ]
    dash = " dashed" if curve.dashed else ""
    dots = ""
    if len(points) <= 6:
        dots = "".join(
            f'<circle class="dot c{curve.color}" cx="{point.split()[0]}" cy="{point.split()[1]}" r="3.5"/>'
            for point in points
        )
    return f'<path class="line c{curve.color}{dash}" d="M{"L".join(points)}"/>{dots}'


def _description(curve: Curve, log_y: bool) -> str:
    points = _points(curve, log_y)
    return f"{curve.name}, from {points[0][1]:.3g} at {points[0][0]:.3g} to {points[-1][1]:.3g} at {points[-1][0]:.3g}"


def _legend(curves: Sequence[Curve]) -> str:
    rows = "".join(
        f'<li><svg viewBox="0 0 26 8" aria-hidden="true"><path class="line c{curve.color}'
        f'{" dashed" if curve.dashed else ""}" d="M1 4L25 4"/></svg>{html_text(curve.name)}</li>'
        for curve in curves
    )
    return f"<ul class=legend>{rows}</ul>"
