"""What is largest in a picture, its mean color, comes out of the presets' schedules as bright and as varied as it is.

The mean of all pixels has 1 / side of the noise of one pixel, so it is decided at more noise in larger pictures. Mean
colors that are Gaussian have a closed-form denoiser.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tintype.config import Config
from tintype.diffusion.samplers import SAMPLERS
from tintype.diffusion.sigmas import SCHEDULES, per_sample

MEAN, STD = 0.6, 0.2  # of mean colors in [-1, 1], as of watercolors on paper


def mean_colors(config: Config, num: int) -> Tensor:
    """Samples of the mean color [num, 1, 1, 1] with the settings of `config` and the ideal denoiser."""
    noise, sample, side = config.noise, config.sample, config.net.resolution
    sigmas = SCHEDULES[sample.schedule](
        sample.steps, noise.sigma_min, noise.sigma_max, sample.schedule_center, sample.schedule_spread
    )
    x = sigmas[0].float() / side * torch.randn(num, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    sampler = SAMPLERS[sample.sampler](x, sigmas, None)
    query = next(sampler)
    while True:
        variance = per_sample((query.sigma / side).square().expand(num), query.x)
        denoised = MEAN + STD**2 / (STD**2 + variance) * (query.x - MEAN)
        try:
            query = sampler.send(denoised)
        except StopIteration as end:
            colors: Tensor = end.value
            return colors


@pytest.mark.parametrize("resolution", [32, 128, 256])
def test_mean_colors_keep_their_mean_and_their_spread(resolution: int) -> None:
    colors = mean_colors(Config.from_preset("nano", resolution), 4000)
    assert float(colors.mean()) == pytest.approx(MEAN, abs=0.3 * STD)
    assert float(colors.std()) == pytest.approx(STD, rel=0.06)
