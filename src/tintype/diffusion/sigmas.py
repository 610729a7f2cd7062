"""Sigma, the only clock: its other names, and schedules of it for sampling.

    x = x0 + sigma * noise

Timestep, alpha-bar, log-SNR and flow time are functions of sigma and are written here and nowhere else.
All functions are elementwise, keep dtype and device, and take sigma >= 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def per_sample(values: Tensor, x: Tensor) -> Tensor:
    """Give `values` [B] trailing dimensions of 1, so that they multiply x [B, ...] sample by sample."""
    return values.reshape(-1, *([1] * (x.ndim - 1))).to(x.dtype)


def log_snr(sigma: Tensor) -> Tensor:
    """Logarithm of the signal-to-noise ratio, 1 / sigma^2."""
    return -2 * torch.log(sigma)


def sigma_from_log_snr(value: Tensor) -> Tensor:
    """Inverse of `log_snr`."""
    return torch.exp(-0.5 * value)


def alpha_bar(sigma: Tensor) -> Tensor:
    """Signal variance of the form sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) noise (Ho et al. 2020, arXiv
    2006.11239, eq. 4)."""
    return 1 / (1 + sigma.square())


def sigma_from_alpha_bar(value: Tensor) -> Tensor:
    """Inverse of `alpha_bar`."""
    return torch.sqrt((1 - value) / value)


def flow_time(sigma: Tensor) -> Tensor:
    """Time t of the straight path (1 - t) x0 + t noise (Liu et al. 2022, arXiv 2209.03003): 0 is data, 1 is noise."""
    return sigma / (1 + sigma)


def sigma_from_flow_time(time: Tensor) -> Tensor:
    """Inverse of `flow_time`."""
    return time / (1 - time)


def shift(sigma: Tensor, factor: float) -> Tensor:
    """Timestep shift, t <- factor t / (1 + (factor - 1) t) (Esser et al. 2024, arXiv
    2403.03206, eq. 23): in sigma, a multiplication."""
    return factor * sigma


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Noise levels [steps + 1] float64, evenly spaced in sigma^(1 / rho), then 0 (Karras et al. 2022, arXiv 2206.00364,
    eq. 5).

    Raises ValueError for arguments out of range.
    """
    _check(steps, sigma_min, sigma_max)
    if not (math.isfinite(rho) and rho > 0):
        raise ValueError(f"rho must be positive, not {rho}")
    ends = (sigma_max ** (1 / rho), sigma_min ** (1 / rho))
    return _with_ends(_even(*ends, steps) ** rho, sigma_min, sigma_max)


def flow_sigmas(steps: int, sigma_min: float, sigma_max: float, shift: float = 1.0) -> Tensor:
    """Noise levels [steps + 1] float64, evenly spaced in flow time before a timestep shift, then 0.

    A shift above 1 spends more steps at large sigma. Raises ValueError for arguments out of range.
    """
    _check(steps, sigma_min, sigma_max)
    if not (math.isfinite(shift) and shift > 0):
        raise ValueError(f"shift must be positive, not {shift}")
    high, low = sigma_max / shift, sigma_min / shift
    time = _even(high / (1 + high), low / (1 + low), steps)
    return _with_ends(shift * sigma_from_flow_time(time), sigma_min, sigma_max)


def logistic_sigmas(steps: int, sigma_min: float, sigma_max: float, center: float = 0.7, width: float = 1.1) -> Tensor:
    """Noise levels [steps + 1] float64, as dense in ln sigma as a logistic distribution around `center`, then 0.

    Spaced evenly down to 0 itself, so that a few steps are not spent on noise too weak to see; sigma_min is reached
    where there are steps enough. Width 1 is even in flow time, with shift `center`; the wider, the more even in ln
    sigma. Raises ValueError for arguments out of range.
    """
    _check(steps, sigma_min, sigma_max)
    if not (math.isfinite(center) and center > 0 and math.isfinite(width) and width > 0):
        raise ValueError(f"center and width must be positive, not {center} and {width}")
    high, low = (1 / (1 + (sigma / center) ** (-1 / width)) for sigma in (sigma_max, sigma_min))
    last = max(low, high / steps)
    place = _even(high, last, steps)
    return _with_ends(center * (place / (1 - place)) ** width, sigma_min if last == low else 0.0, sigma_max)


def log_snr_sigmas(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Noise levels [steps + 1] float64, evenly spaced in ln sigma, then 0 (Lu et al. 2022, arXiv 2206.00927).

    Raises ValueError for arguments out of range.
    """
    _check(steps, sigma_min, sigma_max)
    return _with_ends(torch.exp(_even(math.log(sigma_max), math.log(sigma_min), steps)), sigma_min, sigma_max)


def _check(steps: int, sigma_min: float, sigma_max: float) -> None:
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    if not (0 < sigma_min < sigma_max < math.inf):
        raise ValueError(f"0 < sigma_min < sigma_max must hold, not sigma_min {sigma_min}, sigma_max {sigma_max}")


def _even(first: float, last: float, num: int) -> Tensor:
    return torch.linspace(first, last, num, dtype=torch.float64)


def _with_ends(sigmas: Tensor, sigma_min: float, sigma_max: float) -> Tensor:
    # The ends are the caller's own numbers, free of the rounding of powers and logarithms.
    if len(sigmas) > 1 and sigma_min > 0:
        sigmas[-1] = sigma_min
    sigmas[0] = sigma_max
    return torch.cat([sigmas, sigmas.new_zeros(1)])


# (steps, sigma_min, sigma_max, center, spread) -> [steps + 1]; center and spread: around which noise level the steps
# are, and how widely, for those schedules that have them.
Schedule = Callable[[int, float, float, float, float], Tensor]

SCHEDULES: dict[str, Schedule] = {
    "logistic": lambda steps, low, high, center, spread: logistic_sigmas(steps, low, high, center, spread),
    "log_snr": lambda steps, low, high, center, spread: log_snr_sigmas(steps, low, high),
    "karras": lambda steps, low, high, center, spread: karras_sigmas(steps, low, high),
    "flow": lambda steps, low, high, center, spread: flow_sigmas(steps, low, high, center),
}
