"""Samplers against closed forms: exact flows, orders of convergence, the same step under three names."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from scipy.integrate import quad

from tintype.diffusion.exact import finite_denoiser, gaussian_denoiser, gaussian_flow, mixture_denoiser
from tintype.diffusion.noise import Purpose, normal, step_noise
from tintype.diffusion.ode import dpmpp_2m, euler, heun, in_log_flow, midpoint, plan, unipc
from tintype.diffusion.samplers import SAMPLERS, Denoise, Sampler, num_evaluations, sample, steps_of
from tintype.diffusion.sde import ddpm, dpmpp_2m_sde, heun_churn
from tintype.diffusion.sigmas import flow_sigmas, karras_sigmas, log_snr_sigmas, logistic_sigmas
from tintype.diffusion.solver import exponential_weights

ORDERS = {"euler": 1, "heun": 2, "dpmpp_2m": 2, "unipc": 3, "deis_2": 2, "deis_3": 3, "deis_4": 4, "reference": 4}
DETERMINISTIC = list(ORDERS)
SCHEDULES = [karras_sigmas, flow_sigmas, log_snr_sigmas]
F64 = torch.float64
Schedule = Callable[..., torch.Tensor]


def static(num: int, channels: int = 2, sigma: float = 80.0) -> torch.Tensor:
    return sigma * normal(1, Purpose.START, torch.arange(num), (channels, 1, 1)).double()


def mixture() -> Denoise:
    means = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.2]], dtype=F64).reshape(3, 2, 1, 1)
    return mixture_denoiser(torch.tensor([0.5, 0.3, 0.2], dtype=F64), means, torch.tensor([0.05, 0.1, 0.02], dtype=F64))


def runge_kutta(denoise: Denoise, x: torch.Tensor, start: float, end: float, num: int) -> torch.Tensor:
    """The flow in ln sigma, dx / d ln sigma = x - denoised, by the classical fourth-order rule."""

    def slope(x: torch.Tensor, log_sigma: float) -> torch.Tensor:
        return x - denoise(x, x.new_full((len(x),), math.exp(log_sigma)))

    h = math.log(end / start) / num
    for n in range(num):
        at = math.log(start) + n * h
        k1 = slope(x, at)
        k2 = slope(x + h / 2 * k1, at + h / 2)
        k3 = slope(x + h / 2 * k2, at + h / 2)
        k4 = slope(x + h * k3, at + h)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


@pytest.fixture(scope="module")
def reference_end() -> torch.Tensor:
    return runge_kutta(mixture(), static(48), 80.0, 0.02, 1500)


@pytest.fixture(scope="module")
def truth(reference_end: torch.Tensor) -> torch.Tensor:
    return mixture()(reference_end, reference_end.new_full((48,), 0.02))


# The first steps of a multistep sampler are of lower order: with deis_4 they show where they are long.
@pytest.mark.parametrize(
    ("name", "schedule"),
    [(name, schedule) for name in DETERMINISTIC for schedule in (SCHEDULES if name != "deis_4" else SCHEDULES[-1:])],
)
def test_error_falls_with_the_order_of_the_sampler(name: str, schedule: Schedule, truth: torch.Tensor) -> None:
    errors = []
    for steps in (257, 513):
        picture = sample(mixture(), static(48), schedule(steps, 0.02, 80.0), name)
        errors.append((picture - truth).square().mean().sqrt().item())
    # Even in flow time the first steps stay long, and multistep samplers begin with lower orders.
    tolerance = 0.3 if schedule is flow_sigmas else 0.15
    assert math.log2(errors[0] / errors[1]) == pytest.approx(ORDERS[name], abs=tolerance)


def test_few_steps_are_good_already(truth: torch.Tensor) -> None:
    def error(name: str, steps: int) -> float:
        picture = sample(mixture(), static(48), logistic_sigmas(steps, 0.02, 80.0), name)
        return (picture - truth).square().mean().sqrt().item()

    assert error("unipc", 17) < 0.02
    assert max(error("unipc", 17), error("dpmpp_2m", 17)) < error("euler", 17) / 3


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_flow_of_a_gaussian(name: str, schedule: Schedule) -> None:
    mean, variance, x = 0.3, 0.25, static(16, 3)
    sigmas = schedule(400, 0.02, 80.0)
    scale = math.sqrt((variance + 0.02**2) / (variance + 80.0**2))
    at_end = mean + scale * (x - mean)
    picture = sample(gaussian_denoiser(mean, variance), x, sigmas[:-1], name)  # a schedule that ends above 0
    tolerance = {1: 0.05, 2: 2e-3, 3: 1e-4, 4: 1e-4}[ORDERS[name]]
    torch.testing.assert_close(picture, at_end, rtol=0, atol=tolerance)
    torch.testing.assert_close(gaussian_flow(x, 80.0, 0.02, mean, variance), at_end, rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_one_picture_as_data_is_exact_for_any_number_of_steps(name: str, steps: int, schedule: Schedule) -> None:
    only, x = normal(2, Purpose.INIT, 0, (2, 1, 1)).double(), static(4)
    steps_seen = steps_of(SAMPLERS[name], lambda x, sigma: only.expand_as(x), x, schedule(steps, 0.02, 80.0))
    for step in steps_seen:
        torch.testing.assert_close(step.x, only + step.sigma / 80.0 * (x - only), rtol=1e-11, atol=1e-12)
    picture = sample(lambda x, sigma: only.expand_as(x), x, schedule(steps, 0.02, 80.0), name)
    assert torch.equal(picture, only.expand_as(x))


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_a_step_to_zero_returns_the_last_denoised(name: str) -> None:
    steps = steps_of(SAMPLERS[name], mixture(), static(3), karras_sigmas(6, 0.02, 80.0), step_noise(0, 0, (2, 1, 1)))
    while True:
        try:
            last = next(steps)
        except StopIteration as finished:
            picture = finished.value
            break
    assert torch.equal(picture, last.denoised)


def test_euler_is_ddim_is_rectified_flow() -> None:
    x, sigmas, denoise = static(8), karras_sigmas(12, 0.02, 80.0), mixture()
    pictures = sample(denoise, x, sigmas, euler)

    levels = sigmas.tolist()
    bars = [1 / (1 + s * s) for s in levels]
    y = x * math.sqrt(bars[0])  # variance-preserving state, DDIM as in 2010.02502 eq. 12 with eta = 0
    for bar, bar_next in pairwise(bars):
        eps = (y / math.sqrt(bar) - denoise(y / math.sqrt(bar), x.new_full((8,), math.sqrt(1 / bar - 1)))) / math.sqrt(
            1 / bar - 1
        )
        x0 = (y - math.sqrt(1 - bar) * eps) / math.sqrt(bar)
        y = math.sqrt(bar_next) * x0 + math.sqrt(1 - bar_next) * eps
    torch.testing.assert_close(y, pictures, rtol=0, atol=1e-11)

    times = [s / (1 + s) for s in levels]
    z = x * (1 - times[0])  # straight path, Euler with velocity noise - x0
    for t, t_next in pairwise(times):
        x0 = denoise(z / (1 - t), x.new_full((8,), t / (1 - t)))
        z = z + (t_next - t) * (z - x0) / t
    torch.testing.assert_close(z, pictures, rtol=0, atol=1e-11)
    assert SAMPLERS["ddim"] is SAMPLERS["euler"]


@pytest.mark.parametrize("h", [1e-6, 1e-3, 0.1, 0.99, 1.0, 1.01, 3.0, 20.0, -1e-3, -0.99, -1.01, -3.0])
@pytest.mark.parametrize("nodes", [[0.0], [1.0, 0.0], [0.0, -0.7], [1.0, 0.0, -0.4], [1.0, 0.0, -3.0, -3.5]])
def test_exponential_weights_integrate_polynomials_exactly(nodes: list[float], h: float) -> None:
    weights = exponential_weights(nodes, h)
    for power in range(len(nodes)):
        integral, _ = quad(lambda v, power=power: h * math.exp(-h * (1 - v)) * v**power, 0, 1, epsabs=1e-15)
        terms = [weight * node**power for weight, node in zip(weights, nodes, strict=True)]
        assert sum(terms) == pytest.approx(integral, abs=1e-12 * (1 + abs(integral) + max(map(abs, terms))))


@pytest.mark.parametrize(("sigma", "sigma_next"), [(80.0, 79.9), (80.0, 0.02), (3.0, 1.0), (0.03, 0.02), (0.1, 5.0)])
@pytest.mark.parametrize("before", [(), (2.0,), (2.0, 6.0)])
def test_weights_in_log_flow_integrate_its_polynomials(
    before: tuple[float, ...], sigma: float, sigma_next: float
) -> None:
    seen = [sigma, *(sigma * factor for factor in before)]
    weights = in_log_flow(seen, sigma, sigma_next)
    h = math.log(sigma / sigma_next)
    for power in range(len(seen)):

        def answer(level: float, power: int = power) -> float:
            return math.log1p(level) ** power

        def part(v: float, answer: Callable[[float], float] = answer) -> float:
            return h * math.exp(-h * (1 - v)) * answer(sigma * math.exp(-h * v))

        integral, _ = quad(part, 0, 1, epsabs=1e-14, epsrel=1e-12)
        terms = [weight * answer(level) for weight, level in zip(weights, seen, strict=True)]
        assert sum(terms) == pytest.approx(integral, abs=1e-10 * (1 + max(map(abs, terms))))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_dpmpp_2m_is_as_published(schedule: Schedule) -> None:
    levels = tuple(schedule(9, 0.02, 80.0).tolist())
    stages = plan(levels, 2, 0, midpoint)
    for sigma, sigma_before, stage in zip(levels[1:-2], levels, stages[1:], strict=False):
        h, h_before = math.log(sigma / levels[levels.index(sigma) + 1]), math.log(sigma_before / sigma)
        growth = 1 - math.exp(-h)  # 2211.01095 algorithm 2
        expected = [growth * (1 + h / h_before / 2), -growth * h / h_before / 2]
        assert stage.predict == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_cautious_prediction_lies_between_two_orders(schedule: Schedule) -> None:
    levels = tuple(schedule(9, 0.02, 80.0).tolist())
    bold, between, mild = (
        plan(levels, *orders, in_log_flow, caution) for *orders, caution in ((3, 0, 0.0), (3, 0, 0.25), (2, 0, 0.0))
    )
    for one, middle, other in zip(bold[2:-1], between[2:-1], mild[2:-1], strict=True):
        expected = [0.75 * a + 0.25 * b for a, b in zip(one.predict, (*other.predict, 0.0), strict=True)]
        assert middle.predict == pytest.approx(expected)
    assert [stage.predict for stage in between[:2]] == [stage.predict for stage in bold[:2]]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("coefficients", [(0.3, 0.0, 0.0), (0.3, -0.2, 0.0), (0.1, 0.2, -0.15)])
def test_unipc_corrects_exactly_what_a_parabola_can_be(
    coefficients: tuple[float, float, float], schedule: Schedule
) -> None:
    """`denoised` is a parabola in ln(1 + sigma), whatever x is."""
    a, b, c = coefficients

    def answer(sigma: float) -> float:
        return a + b * math.log1p(sigma) + c * math.log1p(sigma) ** 2

    def exact(x: float, sigma: float, sigma_next: float) -> float:
        integral, _ = quad(lambda u: math.exp(u) * answer(math.exp(-u)), -math.log(sigma), -math.log(sigma_next))
        return sigma_next / sigma * x + sigma_next * integral

    levels = schedule(9, 0.02, 80.0)
    start = torch.full((1, 1, 1, 1), 40.0, dtype=F64)
    steps = list(steps_of(unipc, lambda x, sigma: torch.full_like(x, answer(float(sigma))), start, levels))
    errors = []
    for index, (step, after) in enumerate(pairwise(steps)):
        # Undo the prediction of the next state to see the corrected state it started from.
        stage = plan(tuple(levels.tolist()), 3, 3, in_log_flow, blend=0.5)[index]
        answers = [earlier.denoised.item() for earlier in steps[index::-1]]
        predicted = sum(weight * answer for weight, answer in zip(stage.predict, answers, strict=False))
        corrected = (after.x.item() - predicted) / stage.keep
        errors.append((corrected - (exact(40.0, 80.0, step.sigma) if index else 40.0)) / step.sigma)
    assert abs(errors[0]) < 1e-12
    if c == 0:  # a line needs two answers only, and has them from the first correction on
        assert max(map(abs, errors)) < 1e-8
    else:  # what the first correction missed is carried along unchanged; nothing is added to it
        assert max(abs(error - errors[1]) for error in errors[1:]) < 1e-8


def gaussian_end(
    sampler: Sampler, mean: float, variance: float, sigmas: torch.Tensor, num_draws: int
) -> tuple[float, float]:
    """Mean and variance that a sampler makes of a Gaussian at the end of a schedule, starting from the right ones.

    The sampler is affine in its start and in each draw: feed it a unit of each and read off the coefficients.
    """
    start = torch.full((num_draws + 2, 1, 1, 1), mean, dtype=F64)
    start[1] += 1.0
    impulses = torch.zeros(num_draws, num_draws + 2, 1, 1, 1, dtype=F64)
    for draw in range(num_draws):
        impulses[draw, draw + 2] = 1.0
    end = sample(gaussian_denoiser(mean, variance), start, sigmas, sampler, lambda n: impulses[n]).flatten()
    from_start = (end[1] - end[0]) ** 2 * (variance + sigmas[0].item() ** 2)
    return end[0].item(), (from_start + (end[2:] - end[0]).square().sum()).item()


def test_ddpm_carries_mean_and_variance_of_a_gaussian_exactly() -> None:
    mean, variance = 0.3, 0.25
    sigmas = karras_sigmas(7, 0.02, 80.0)[:-1]
    got_mean, got_variance = gaussian_end(ddpm, mean, variance, sigmas, len(sigmas) - 1)
    expected = variance + 80.0**2
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        # x_next | x, x0 as in DDPM, with x0 replaced by its mean given x.
        gain, keep = variance / (variance + sigma**2), sigma_next**2 / sigma**2
        expected = (gain + keep * (1 - gain)) ** 2 * expected + sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2
    assert got_mean == pytest.approx(mean, abs=1e-12)
    assert got_variance == pytest.approx(expected, rel=1e-12)
    assert SAMPLERS["ddpm"] is SAMPLERS["euler_ancestral"]


@pytest.mark.parametrize(("sampler", "order"), [(ddpm, 1), (dpmpp_2m_sde, 2)])
def test_variance_of_a_gaussian_converges_with_the_order_in_the_answers(sampler: Sampler, order: int) -> None:
    errors = []
    for steps in (200, 400):
        mean, variance = gaussian_end(sampler, 0.3, 0.25, log_snr_sigmas(steps, 0.02, 80.0)[:-1], steps - 1)
        assert mean == pytest.approx(0.3, abs=1e-9)
        errors.append(abs(variance - 0.25 - 0.02**2))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


def test_the_second_order_sde_sampler_begins_as_ddpm_does() -> None:
    x, sigmas = static(5), torch.tensor([80.0, 3.0], dtype=F64)
    randn = step_noise(0, torch.arange(5), (2, 1, 1))
    ends = [sample(mixture(), x, sigmas, sampler, lambda n: randn(n).double()) for sampler in (ddpm, dpmpp_2m_sde)]
    torch.testing.assert_close(*ends, rtol=0, atol=1e-12)


def test_churn_raises_the_noise_and_takes_it_off_again() -> None:
    x = static(4)
    outside = torch.tensor([70.0, 60.0, 51.0], dtype=F64)
    assert torch.equal(sample(mixture(), x, outside, heun_churn, failing), sample(mixture(), x, outside, heun))
    seen = list(steps_of(heun_churn, mixture(), x, karras_sigmas(100, 0.02, 80.0), lambda n: torch.zeros_like(x)))
    schedule = karras_sigmas(100, 0.02, 80.0).tolist()
    churn = min(40 / 100, math.sqrt(2) - 1)
    first = [step.sigma for step in seen[::2]]
    for level, queried in zip(schedule, first, strict=False):
        assert queried == pytest.approx(level * (1 + churn) if 0.05 <= level <= 50 else level)


def failing(num_drawn: int) -> torch.Tensor:
    raise AssertionError("noise was drawn")


def test_ancestral_draws_the_posterior_when_the_picture_is_known() -> None:
    only, num = 0.4, 100_000
    x = only + 2.0 * normal(0, Purpose.START, torch.arange(num), (1, 1, 1)).double()
    randn = step_noise(0, torch.arange(num), (1, 1, 1))
    sigmas = torch.tensor([2.0, 1.2, 0.5], dtype=F64)
    end = sample(lambda x, sigma: torch.full_like(x, only), x, sigmas, ddpm, lambda n: randn(n).double())
    assert end.mean().item() == pytest.approx(only, abs=0.01)
    assert end.var().item() == pytest.approx(0.25, rel=0.02)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_sampling_a_finite_set_lands_on_its_points(name: str) -> None:
    points = normal(3, Purpose.INIT, torch.arange(12), (2, 1, 1)).double()
    num = 256
    randn = step_noise(4, torch.arange(num), (2, 1, 1))
    pictures = sample(
        finite_denoiser(points),
        static(num),
        karras_sigmas(40, 0.002, 80.0),
        name,
        lambda n: randn(n).double(),
    )
    distance = torch.cdist(pictures.flatten(1), points.flatten(1))
    assert distance.min(1).values.max() < 1e-3
    assert len(distance.argmin(1).unique()) == 12


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_number_of_evaluations(steps: int) -> None:
    sigmas = karras_sigmas(steps, 0.02, 80.0)
    for name, sampler in SAMPLERS.items():
        per_step = {"heun": 2, "heun_churn": 2, "reference": 4, "etdrk4": 4}.get(name, 1)
        expected = per_step * (steps - 1) + 1
        assert num_evaluations(sampler, sigmas) == expected
        seen = list(steps_of(sampler, mixture(), static(2), sigmas, step_noise(0, 0, (2, 1, 1))))
        assert [step.index for step in seen] == list(range(expected))
        assert {step.total for step in seen} == {expected}
    if steps > 1:  # a schedule that ends above 0
        assert num_evaluations(SAMPLERS["heun"], sigmas[:-1]) == 2 * (steps - 1)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_a_picture_does_not_depend_on_its_batch(name: str) -> None:
    x, sigmas, denoise = static(5), karras_sigmas(6, 0.02, 80.0), gaussian_denoiser(0.1, 0.3)
    together = sample(denoise, x, sigmas, name, step_noise(0, torch.arange(5), (2, 1, 1)))
    alone = sample(denoise, x[3:4], sigmas, name, step_noise(0, 3, (2, 1, 1)))
    assert torch.equal(together[3:4], alone)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_state_is_float32_whatever_the_network_computes_in(name: str) -> None:
    def half(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        assert x.dtype == sigma.dtype == torch.float32
        return gaussian_denoiser(0.1, 0.3)(x, sigma).bfloat16()

    sigmas = karras_sigmas(6, 0.02, 80.0)
    steps = list(steps_of(SAMPLERS[name], half, static(2).float(), sigmas, step_noise(0, torch.arange(2), (2, 1, 1))))
    assert all(step.x.dtype == step.denoised.dtype == torch.float32 for step in steps)


def test_a_step_knows_its_predicted_noise() -> None:
    for step in steps_of(euler, gaussian_denoiser(0.1, 0.3), static(2), karras_sigmas(4, 0.02, 80.0)):
        torch.testing.assert_close(step.x - step.sigma * step.predicted_noise, step.denoised, rtol=0, atol=1e-12)


def test_closing_the_steps_stops_the_questions() -> None:
    queries = []

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        queries.append(float(sigma[0]))
        return x

    steps = steps_of(dpmpp_2m, denoise, static(1), karras_sigmas(9, 0.02, 80.0))
    next(steps)
    next(steps)
    steps.close()
    assert len(queries) == 2


@pytest.mark.parametrize("sampler", [ddpm, dpmpp_2m_sde, heun_churn])
def test_a_sampler_that_adds_noise_says_what_it_needs_at_once(sampler: Sampler) -> None:
    with pytest.raises(ValueError, match="randn"):
        steps_of(sampler, mixture(), static(1), karras_sigmas(4, 0.02, 80.0))


@pytest.mark.parametrize("name", list(SAMPLERS))
@pytest.mark.parametrize(
    "bad", [[1.0], [1.0, 1.0, 0.0], [0.1, 1.0, 0.0], [1.0, -0.1], [math.inf, 1.0], [math.nan, 0.0]]
)
def test_grids_that_do_not_fall_are_refused(name: str, bad: list[float]) -> None:
    with pytest.raises(ValueError, match="decreasing"):
        steps_of(SAMPLERS[name], mixture(), static(1), torch.tensor(bad), step_noise(0, 0, (2, 1, 1)))
