"""Estimates and how sure they are: every figure of an evaluation has an interval of 95 %."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from tintype.diffusion.noise import Purpose, uniform

Z = 1.959964  # standard normal quantile of 97.5 %
RESAMPLES = 1000  # of a bootstrap


class Estimate(NamedTuple):
    """A figure and its 95 % interval; nan where nothing can be said."""

    value: float
    low: float
    high: float


UNKNOWN = Estimate(math.nan, math.nan, math.nan)


def mean(values: Tensor) -> Estimate:
    """Mean of independent `values` [N], with Student's interval; of one value, an interval without bounds."""
    values = values.double()
    num = len(values)
    if num == 0:
        return UNKNOWN
    middle = float(values.mean())
    if num == 1:
        return Estimate(middle, -math.inf, math.inf)
    half = student_t_quantile(num - 1) * float(values.std()) / math.sqrt(num)
    return Estimate(middle, middle - half, middle + half)


def column_means(values: Tensor) -> list[Estimate]:
    """`mean` of each column of `values` [N, K]."""
    return [mean(column) for column in values.unbind(1)]


@cache
def student_t_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's t with `freedom` degrees of freedom (Abramowitz and Stegun 26.7.5).

    To 1 % at 3 degrees and better above; the two below are written out.
    """
    if freedom <= 2:
        return (12.7062, 4.30265)[freedom - 1]
    z, n = Z, float(freedom)
    first = (z**3 + z) / (4 * n)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    return z + first + second + third


def proportion(num_right: float, num: int) -> Estimate:
    """`num_right` of `num` with Wilson's interval (1927); of nothing, 0 to 1.

    Of parts that are right in part, their sum: then the interval is on the wide side.
    """
    if num == 0:
        return Estimate(math.nan, 0.0, 1.0)
    part, spread = num_right / num, Z * Z / num
    middle = part + spread / 2
    half = Z * math.sqrt(part * (1 - part) / num + spread / num / 4)
    low, high = max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))
    return Estimate(part, min(low, part), max(high, part))  # rounding may not push the share out of its interval


def proportion_difference(first: Estimate, second: Estimate) -> Estimate:
    """How much larger one proportion is than an independent other (Newcombe 1998, method 10)."""
    value = first.value - second.value
    low = value - math.hypot(first.value - first.low, second.high - second.value)
    high = value + math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, low, high)


def bootstrap(groups: list[Tensor], figure: Callable[[list[Tensor]], Tensor], seed: int) -> list[Estimate]:
    """Intervals of figures that are no plain means, by resampling pictures (Efron 1979, percentiles).

    groups: [N_i, ...] each, resampled by themselves along their first dimension. figure: takes means of the groups,
    each [R, ...], and gives [R, K] figures.
    """
    middle = figure([group.double().mean(0, keepdim=True) for group in groups])[0]
    drawn = figure([_resampled(group.double(), seed, place) for place, group in enumerate(groups)])
    found = []
    for value, column in zip(middle.tolist(), drawn.unbind(1), strict=True):
        column = column[torch.isfinite(column)]
        if not math.isfinite(value) or len(column) < RESAMPLES // 2:
            found.append(UNKNOWN)
            continue
        low, high = torch.quantile(column, torch.tensor([0.025, 0.975], dtype=column.dtype)).tolist()
        found.append(Estimate(value, min(low, value), max(high, value)))
    return found


def _resampled(group: Tensor, seed: int, place: int) -> Tensor:
    """Means [R, ...] of samples drawn from `group` [N, ...] with replacement."""
    num = len(group)
    picks = (uniform(seed, Purpose.RESAMPLE, place, RESAMPLES * num)[0] * num).long().clamp(max=num - 1)
    counts = torch.zeros(RESAMPLES, num, dtype=torch.float64)
    counts.scatter_add_(1, picks.reshape(RESAMPLES, num), torch.ones(RESAMPLES, num, dtype=torch.float64))
    return ((counts / num) @ group.flatten(1)).reshape(RESAMPLES, *group.shape[1:])


def jackknife(num: int, figure: Callable[[Tensor], float], num_groups: int = 10) -> Estimate:
    """A smooth figure of `num` samples, given as indices, with the interval of a jackknife over groups (Tukey 1958)."""
    every = torch.arange(num)
    value = figure(every)
    num_groups = min(num_groups, num // 2)
    if num_groups < 2:
        return Estimate(value, -math.inf, math.inf)
    without = torch.tensor([figure(every[every % num_groups != group]) for group in range(num_groups)])
    error = math.sqrt((num_groups - 1) * float((without - without.mean()).square().mean()))
    half = student_t_quantile(num_groups - 1) * error
    return Estimate(value, value - half, value + half)


def format_percent(value: float) -> str:
    """A share as people write it: 3 %, 0.4 %, 99.93 %; near the ends with the digits that tell."""
    if not math.isfinite(value):
        return "unknown"
    shown = 100 * value
    away = min(abs(shown), abs(100 - shown))
    digits = 0 if away >= 10 else 1 if away >= 1 else 2 if away >= 0.1 or away == 0 else 3
    text = f"{shown:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def format_proportion(estimate: Estimate) -> str:
    """A share with its interval: 41 % [32, 51]."""
    low, high = (format_percent(end).removesuffix(" %") for end in (estimate.low, estimate.high))
    return f"{format_percent(estimate.value)} [{low}, {high}]"


def format_estimate(estimate: Estimate) -> str:
    """A figure with its interval."""
    return f"{estimate.value:.2g} [{estimate.low:.2g}, {estimate.high:.2g}]"
