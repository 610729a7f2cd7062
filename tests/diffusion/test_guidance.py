"""Guidance against the flow it must have on Gaussians, and its edges."""

import math

import pytest
import torch

from tintype.diffusion.exact import gaussian_denoiser, gaussian_flow
from tintype.diffusion.guidance import RAMP, guide, guide_pair, window
from tintype.diffusion.noise import Purpose, normal
from tintype.diffusion.ode import unipc
from tintype.diffusion.samplers import sample
from tintype.diffusion.sigmas import log_snr_sigmas

WITH, WITHOUT, VARIANCE = 0.6, -0.2, 0.2
CONDITIONAL, UNCONDITIONAL = gaussian_denoiser(WITH, VARIANCE), gaussian_denoiser(WITHOUT, VARIANCE)


def static(num: int) -> torch.Tensor:
    return 80.0 * normal(1, Purpose.START, torch.arange(num), (2, 1, 1)).double()


def never(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    raise AssertionError("the reference was called")


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0, 7.5])
def test_guided_flow_is_that_of_the_gaussian_between_or_beyond(scale: float) -> None:
    x, sigmas = static(8), log_snr_sigmas(801, 0.02, 80.0)[:-1]
    beyond = WITHOUT + scale * (WITH - WITHOUT)
    guided = guide(CONDITIONAL, UNCONDITIONAL, scale)
    picture = sample(guided, x, sigmas, unipc)
    torch.testing.assert_close(picture, gaussian_flow(x, 80.0, 0.02, beyond, VARIANCE), rtol=0, atol=1e-5)
    sigma = torch.logspace(-2, 2, 8, dtype=torch.float64)
    torch.testing.assert_close(guided(x, sigma), gaussian_denoiser(beyond, VARIANCE)(x, sigma), rtol=0, atol=1e-12)


def test_scale_one_or_outside_the_interval_is_the_denoiser_itself() -> None:
    x, sigma = static(3), torch.tensor([0.1, 1.0, 50.0], dtype=torch.float64)
    assert torch.equal(guide(CONDITIONAL, never, 1.0)(x, sigma), CONDITIONAL(x, sigma))
    assert torch.equal(guide(CONDITIONAL, never, torch.ones(3))(x, sigma), CONDITIONAL(x, sigma))
    assert torch.equal(guide(CONDITIONAL, never, 3.0, (2.0, 20.0))(x, sigma), CONDITIONAL(x, sigma))


def test_scale_and_interval_act_sample_by_sample() -> None:
    x, sigma = static(4), torch.tensor([0.1, 2.0, 2.5, 5.0], dtype=torch.float64)
    guided = guide(CONDITIONAL, UNCONDITIONAL, torch.tensor([3.0, 3.0, 1.0, 2.0]), (1.0, 10.0))(x, sigma)
    plain, base = CONDITIONAL(x, sigma), UNCONDITIONAL(x, sigma)
    assert torch.equal(guided[0], plain[0])  # below the interval
    torch.testing.assert_close(guided[1], base[1] + 3 * (plain[1] - base[1]))  # a doubling away from both ends
    assert torch.equal(guided[2], plain[2])  # scale 1
    torch.testing.assert_close(guided[3], base[3] + 2 * (plain[3] - base[3]))
    for row in range(4):
        scale = [3.0, 3.0, 1.0, 2.0][row]
        alone = guide(CONDITIONAL, UNCONDITIONAL, scale, (1.0, 10.0))(x[row : row + 1], sigma[row : row + 1])
        assert torch.equal(alone[0], guided[row])


@pytest.mark.parametrize("interval", [(0.5, 10.0), (1.0, 1.5), (0.0, 3.0), (0.02, 80.0)])
def test_guidance_comes_and_goes_without_a_jump(interval: tuple[float, float]) -> None:
    sigma = torch.logspace(-3, 3, 4001, dtype=torch.float64)
    share = window(sigma, interval)
    outside = (sigma < interval[0]) | (sigma > interval[1])
    assert (share[outside] == 0).all()
    assert ((share >= 0) & (share <= 1)).all()
    assert share.max() > 0.99
    narrowest = math.log(interval[1] / interval[0]) / 2 if interval[0] else math.inf
    steepest = share.diff().abs().max() / sigma.log().diff()[0]
    assert steepest <= 1.51 / min(RAMP, narrowest)  # that of a smooth step of this width
    # Zero is as far as can be: guidance stays to the end.
    assert interval[0] or bool((share[sigma < 1.4] == 1).all())


def test_an_interval_of_one_level_or_none_does_not_guide() -> None:
    x, sigma = static(2), torch.tensor([2.0, 3.0], dtype=torch.float64)
    for interval in ((2.0, 2.0), (0.0, 0.0)):
        assert torch.equal(guide(CONDITIONAL, UNCONDITIONAL, 3.0, interval)(x, sigma), CONDITIONAL(x, sigma))


def test_two_answers_of_one_call_are_guided_alike() -> None:
    x, sigma = static(5), torch.tensor([0.1, 1.0, 2.0, 5.0, 50.0], dtype=torch.float64)
    calls: list[int] = []

    def pair(x: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(len(x))
        return CONDITIONAL(x, sigma), UNCONDITIONAL(x, sigma)

    scale = torch.tensor([3.0, 3.0, 1.0, 2.0, 4.0])
    together = guide_pair(never, pair, scale, (1.0, 5.0))(x, sigma)
    assert torch.equal(together, guide(CONDITIONAL, UNCONDITIONAL, scale, (1.0, 5.0))(x, sigma))
    assert calls == [5]
    outside = torch.full((5,), 0.1, dtype=torch.float64)
    assert torch.equal(guide_pair(CONDITIONAL, pair, scale, (1.0, 5.0))(x, outside), CONDITIONAL(x, outside))
    assert calls == [5]
