"""Estimates with 95 % confidence intervals: means, proportions, bootstrap and jackknife."""

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
    """A value and its 95 % confidence interval; NaN where it is unknown."""

    value: float
    low: float
    high: float


UNKNOWN = Estimate(math.nan, math.nan, math.nan)


def mean(values: Tensor) -> Estimate:
    """Mean of independent `values` [N] with Student's t interval; the interval of a single value is unbounded."""
    values = values.double()
    num = len(values)
    if num == 0:
        return UNKNOWN
    center = float(values.mean())
    if num == 1:
        return Estimate(center, -math.inf, math.inf)
    half = student_t_quantile(num - 1) * float(values.std()) / math.sqrt(num)
    return Estimate(center, center - half, center + half)


def column_means(values: Tensor) -> list[Estimate]:
    """`mean` of each column of `values` [N, K]."""
    return [mean(column) for column in values.unbind(1)]


@cache
def student_t_quantile(degrees: int) -> float:
    """97.5 % quantile of Student's t with `degrees` of freedom (Abramowitz and Stegun 1964, eq. 26.7.5).

    Accurate to 1 % at 3 degrees and better above; 1 and 2 degrees are tabulated.
    """
    if degrees <= 2:
        return (12.7062, 4.30265)[degrees - 1]
    z, n = Z, float(degrees)
    first = (z**3 + z) / (4 * n)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    return z + first + second + third


def proportion(num_successes: float, num: int) -> Estimate:
    """The proportion `num_successes` / `num` with its Wilson score interval (Wilson 1927); [0, 1] if `num` is 0.

    Fractional successes may be summed; the interval is then conservative.
    """
    if num == 0:
        return Estimate(math.nan, 0.0, 1.0)
    value, shrinkage = num_successes / num, Z * Z / num
    center = value + shrinkage / 2
    half = Z * math.sqrt(value * (1 - value) / num + shrinkage / num / 4)
    low, high = max(0.0, (center - half) / (1 + shrinkage)), min(1.0, (center + half) / (1 + shrinkage))
    return Estimate(value, min(low, value), max(high, value))  # rounding may not push the value out of its interval


def exact_proportion(num_successes: int, num: int) -> Estimate:
    """The proportion `num_successes` / `num` with its exact interval (Clopper and Pearson 1934); [0, 1] if `num` is 0.

    Its coverage is never below 95 %, however rare the successes: 0 of 1,000 is [0, 0.37 %]. Both ends are exact to
    1e-12.
    """
    if num == 0:
        return Estimate(math.nan, 0.0, 1.0)
    low = 0.0 if num_successes == 0 else 1 - _upper_end(num - num_successes, num)
    high = 1.0 if num_successes == num else _upper_end(num_successes, num)
    return Estimate(num_successes / num, low, high)


def _upper_end(num_successes: int, num: int) -> float:
    """The proportion at which `num_successes` or fewer of `num` have a probability of 2.5 %, by bisection."""
    k = torch.arange(num_successes + 1, dtype=torch.float64)
    total = torch.tensor(float(num), dtype=torch.float64)
    log_choices = torch.lgamma(total + 1) - torch.lgamma(k + 1) - torch.lgamma(total - k + 1)
    low, high = num_successes / num, 1.0
    while high - low > 1e-13:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        log_probabilities = log_choices + k * math.log(middle) + (total - k) * math.log1p(-middle)
        if float(torch.logsumexp(log_probabilities, 0)) > math.log(0.025):
            low = middle
        else:
            high = middle
    return high


def proportion_difference(first: Estimate, second: Estimate) -> Estimate:
    """How much larger one proportion is than an independent other (Newcombe 1998, method 10)."""
    value = first.value - second.value
    low = value - math.hypot(first.value - first.low, second.high - second.value)
    high = value + math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, low, high)


def bootstrap(groups: list[Tensor], statistic: Callable[[list[Tensor]], Tensor], seed: int) -> list[Estimate]:
    """Percentile bootstrap intervals (Efron 1979) of statistics of group means.

    groups: [N_i, ...] each, resampled independently along the first dimension. statistic: maps the means of the groups,
    each [R, ...], to [R, K].
    """
    center = statistic([group.double().mean(0, keepdim=True) for group in groups])[0]
    resampled = statistic([_resampled_means(group.double(), seed, index) for index, group in enumerate(groups)])
    estimates = []
    for value, column in zip(center.tolist(), resampled.unbind(1), strict=True):
        column = column[torch.isfinite(column)]
        if not math.isfinite(value) or len(column) < RESAMPLES // 2:
            estimates.append(UNKNOWN)
            continue
        low, high = torch.quantile(column, torch.tensor([0.025, 0.975], dtype=column.dtype)).tolist()
        estimates.append(Estimate(value, min(low, value), max(high, value)))
    return estimates


def _resampled_means(group: Tensor, seed: int, group_index: int) -> Tensor:
    """Means [R, ...] of samples drawn from `group` [N, ...] with replacement."""
    num = len(group)
    picks = (uniform(seed, Purpose.RESAMPLE, group_index, RESAMPLES * num)[0] * num).long().clamp(max=num - 1)
    counts = torch.zeros(RESAMPLES, num, dtype=torch.float64)
    counts.scatter_add_(1, picks.reshape(RESAMPLES, num), torch.ones(RESAMPLES, num, dtype=torch.float64))
    return ((counts / num) @ group.flatten(1)).reshape(RESAMPLES, *group.shape[1:])


def jackknife(num: int, statistic: Callable[[Tensor], float], num_groups: int = 10) -> Estimate:
    """A smooth statistic of `num` samples, computed from indices, with a grouped jackknife interval (Tukey 1958)."""
    indices = torch.arange(num)
    value = statistic(indices)
    num_groups = min(num_groups, num // 2)
    if num_groups < 2:
        return Estimate(value, -math.inf, math.inf)
    left_out = torch.tensor([statistic(indices[indices % num_groups != group]) for group in range(num_groups)])
    error = math.sqrt((num_groups - 1) * float((left_out - left_out.mean()).square().mean()))
    half = student_t_quantile(num_groups - 1) * error
    return Estimate(value, value - half, value + half)


def relative_reduction(lower: Tensor, higher: Tensor) -> Estimate:
    """Relative reduction from paired errors `higher` [N] to `lower` [N]: 1 - mean(lower) / mean(higher).

    The interval is that of a ratio of means by the delta method.
    """
    total = float(higher.double().mean())
    if not total > 0:
        return Estimate(0.0, 0.0, 0.0)
    ratio = float(lower.double().mean()) / total
    residual = mean((ratio * higher.double() - lower.double()) / total)
    return Estimate(1 - ratio, 1 - ratio + residual.low, 1 - ratio + residual.high)


def format_percent(value: float) -> str:
    """A proportion in percent, with more digits near 0 and 100: 3 %, 0.4 %, 99.93 %."""
    if not math.isfinite(value):
        return "unknown"
    percent = 100 * value
    margin = min(abs(percent), abs(100 - percent))
    digits = 0 if margin >= 10 else 1 if margin >= 1 else 2 if margin >= 0.1 or margin == 0 else 3
    text = f"{percent:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def format_proportion(estimate: Estimate) -> str:
    """A proportion with its interval, in percent: 41 % [32, 51]."""
    low, high = (format_percent(end).removesuffix(" %") for end in (estimate.low, estimate.high))
    return f"{format_percent(estimate.value)} [{low}, {high}]"


def format_estimate(estimate: Estimate) -> str:
    """A value with its interval: 0.47 [0.31, 0.62]."""
    return f"{estimate.value:.2g} [{estimate.low:.2g}, {estimate.high:.2g}]"
