"""An exported folder in diffusers: its pictures are those of Tintype's sampler of the same kind, on the same levels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from tests.export.in_diffusers import CAPTIONS, MARKS, SEEDS, difference, require_newer

from tintype.diffusion.samplers import SAMPLERS, sample
from tintype.errors import ConfigError
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.start import request_sigmas, seed_noise

pytestmark = MARKS


def by_tintype(pipe: Any, tintype: Pipeline, sampler: str, randn: Any = None, **options: Any) -> list[Image.Image]:
    """Tintype's pictures with the levels of the steps that diffusers made last; the network is asked within its own."""
    request = tintype.request(CAPTIONS, **options)
    levels = torch.tensor(pipe.noise_levels, dtype=torch.float64)
    denoise = tintype.denoise(request)

    def within(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        level = float(sigma[0])
        denoised = denoise(x * min(1.0, 80.0 / level), sigma.clamp(0.02, 80.0))
        return denoised if level >= 0.02 else x - (x - denoised) * level / 0.02  # the same noise, at a lower level

    start = seed_noise(request, (3, request.height, request.width))
    return tintype.pictures(sample(within, levels[0].item() * start, levels, SAMPLERS[sampler], randn))


SAME = [
    ("DPMSolverMultistepScheduler", {}, "dpmpp_2m"),
    ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, "dpmpp_2m"),
    ("DPMSolverMultistepScheduler", {"use_exponential_sigmas": True}, "dpmpp_2m"),
    ("DPMSolverMultistepScheduler", {"prediction_type": "sample"}, "dpmpp_2m"),
    ("DPMSolverMultistepScheduler", {"prediction_type": "v_prediction"}, "dpmpp_2m"),
    ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}, "dpmpp_2m"),
    ("DPMSolverMultistepScheduler", {"solver_order": 1}, "euler"),
    ("EulerDiscreteScheduler", {}, "euler"),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True}, "euler"),
    ("EulerDiscreteScheduler", {"prediction_type": "v_prediction"}, "euler"),
    ("DDIMScheduler", {}, "euler"),
    ("HeunDiscreteScheduler", {}, "heun"),
    ("UniPCMultistepScheduler", {"solver_order": 1, "disable_corrector": list(range(99))}, "euler"),
]


@pytest.mark.parametrize("steps", [4, 9])
@pytest.mark.parametrize(("scheduler", "settings", "sampler"), SAME)
def test_a_picture_is_that_of_the_sampler_of_the_same_kind(
    scheduler: str, settings: dict[str, Any], sampler: str, steps: int, diffusers: Any, pipe: Any, tintype: Pipeline
) -> None:
    pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config, **settings)
    pictures = pipe(CAPTIONS, seeds=SEEDS, num_inference_steps=steps).images
    # DDIM takes for granted that the number of steps divides 1000; its levels are a little off otherwise.
    assert difference(pictures, by_tintype(pipe, tintype, sampler, seeds=SEEDS)) <= (3 if "DDIM" in scheduler else 1)


@pytest.mark.parametrize("steps", [4, 9])
def test_schedulers_that_take_levels_get_those_of_the_model(
    steps: int, diffusers: Any, pipe: Any, tintype: Pipeline
) -> None:
    require_newer(diffusers)
    own = tintype.generate(CAPTIONS, seeds=SEEDS, sampler="euler", steps=steps)
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    settings = pipe.scheduler.config
    for scheduler in (
        diffusers.FlowMatchEulerDiscreteScheduler(),
        diffusers.EulerDiscreteScheduler.from_config(settings),
        diffusers.UniPCMultistepScheduler.from_config(
            settings, solver_order=1, disable_corrector=list(range(99)), **flow
        ),
    ):
        pipe.scheduler = scheduler
        assert difference(pipe(CAPTIONS, seeds=SEEDS, num_inference_steps=steps).images, own) <= 1


def test_the_scheduler_that_comes_with_it_has_the_schedule_of_the_model(
    diffusers: Any, loaded: Any, tintype: Pipeline
) -> None:
    assert isinstance(loaded.scheduler, diffusers.UniPCMultistepScheduler)
    loaded(CAPTIONS, seeds=SEEDS)
    own = request_sigmas(tintype.request(CAPTIONS), tintype.config.noise).tolist()
    assert loaded.noise_levels == pytest.approx(own, rel=1e-4)
    loaded.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(loaded.scheduler.config)
    pictures = loaded(CAPTIONS, seeds=SEEDS).images
    assert difference(pictures, tintype.generate(CAPTIONS, seeds=SEEDS, sampler="dpmpp_2m")) <= 1


@pytest.mark.parametrize(
    ("scheduler", "settings", "sampler"),
    [
        ("EulerAncestralDiscreteScheduler", {}, "ddpm"),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, "dpmpp_2m_sde"),
    ],
)
def test_schedulers_that_add_noise_do_what_the_samplers_do_with_that_noise(
    scheduler: str, settings: dict[str, Any], sampler: str, diffusers: Any, pipe: Any, tintype: Pipeline
) -> None:
    pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config, **settings)
    generator = torch.Generator().manual_seed(3)
    x0 = pipe(CAPTIONS, generator=generator, output_type="latent").images
    draws = torch.Generator().manual_seed(3)
    request = tintype.request(CAPTIONS)
    levels = torch.tensor(pipe.noise_levels, dtype=torch.float64)
    start = torch.randn(x0.shape, generator=draws)
    expected = sample(
        tintype.denoise(request),
        levels[0].item() * start,
        levels,
        SAMPLERS[sampler],
        lambda _: torch.randn(x0.shape, generator=draws),
    )
    torch.testing.assert_close(x0, expected, atol=2e-3, rtol=0)


def test_own_noise_levels(diffusers: Any, pipe: Any, tintype: Pipeline) -> None:
    levels = [60.0, 9.0, 1.5, 0.3, 0.0]
    pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    own = tintype.generate(CAPTIONS, seeds=SEEDS, sampler="euler", schedule=levels)
    assert difference(pipe(CAPTIONS, seeds=SEEDS, sigmas=levels).images, own) <= 1
    pipe.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    with pytest.raises(ConfigError, match="takes no sigmas"):
        pipe(CAPTIONS, seeds=SEEDS, sigmas=levels)


def test_levels_beyond_those_of_training_are_asked_at_the_last(diffusers: Any) -> None:
    from tintype.export.diffusers.clock import Amounts, denoise_sample

    asked: list[tuple[torch.Tensor, torch.Tensor]] = []

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        asked.append((x, sigma))
        return x / 2

    noise = torch.ones(1, 1, 1, 1)
    for amounts, x, sigma, denoised in [
        (Amounts(0.0, 1.0), 80.0, 80.0, 40.0),
        (Amounts(0.5, 0.5), 2.0, 1.0, 1.0),
        (Amounts(1.0, 0.002), 1.0, 0.02, 0.95),  # a tenth of the noise that is seen at 0.02
    ]:
        answer = denoise_sample(denoise, noise, amounts, (0.02, 80.0))
        values = [*asked[-1], answer]
        assert [float(value.reshape(-1)[0]) for value in values] == pytest.approx([x, sigma, denoised])


@pytest.mark.parametrize("scheduler", ["FlowMatchHeunDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"])
def test_a_schedule_from_pure_noise_to_almost_none_follows_the_flow_of_gaussian_data(
    scheduler: str, diffusers: Any, loaded: Any
) -> None:
    """x0 ~ N(0, 0.5^2): its flow takes pure noise to half of it, whatever the levels between."""
    from tintype.export.diffusers.clock import Clock

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        assert bool((sigma >= 0.02).all())
        assert bool((sigma <= 80).all())
        return x * 0.25 / (0.25 + sigma[:, None, None, None] ** 2)

    loaded.scheduler = getattr(diffusers, scheduler)()
    clock = Clock(loaded.scheduler)
    clock.start(60, None, torch.device("cpu"))  # levels of its own, from flow time 1 to 0.001
    assert clock.amounts(0).signal == 0
    noise = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    x0 = loaded._finish(loaded._steps(clock, denoise, noise, None), None, ())
    torch.testing.assert_close(x0, noise / 2, atol=0, rtol=0.02 if "Heun" in scheduler else 0.05)


def test_a_scheduler_that_cannot_represent_the_model_is_refused(diffusers: Any, pipe: Any) -> None:
    pipe.scheduler = diffusers.LCMScheduler()
    with pytest.raises(ConfigError, match="LCMScheduler cannot run this model; make one of these"):
        pipe("a red circle")
    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    with pytest.raises(ConfigError, match="invert"):
        pipe("a red circle")


def test_seeds_start_from_tintypes_noise(diffusers: Any, pipe: Any, tintype: Pipeline) -> None:
    request = tintype.request(CAPTIONS, seeds=SEEDS)
    noise = seed_noise(request, (3, 16, 16))
    assert difference(pipe(CAPTIONS, latents=noise).images, pipe(CAPTIONS, seeds=SEEDS).images) == 0


def test_guidance_negative_prompt_and_size_act_as_in_tintype(pipe: Any, tintype: Pipeline) -> None:
    options = {"seeds": SEEDS, "width": 24, "height": 16, "guidance_interval": (0.3, 20.0), "negative_prompt": "a star"}
    pictures = pipe(CAPTIONS, guidance_scale=6.5, **options).images
    assert difference(pictures, by_tintype(pipe, tintype, "dpmpp_2m", guidance=6.5, **options)) <= 1
    assert pictures[0].size == (24, 16)
