"""An exported folder in diffusers: its pictures are those of Tintype's sampler of the same kind, on the same levels."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tintype.diffusion.samplers import SAMPLERS, sample
from tintype.errors import ConfigError
from tintype.export.forms import export_model
from tintype.export.record import read_record
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.start import request_sigmas, seed_noise

pytestmark = [
    pytest.mark.skipif(find_spec("diffusers") is None, reason="needs diffusers, of the extra bench"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # of diffusers itself
]

CAPTIONS = ["a red circle", "a blue square left of a green star", "東京"]
SEEDS = [7, 8, 9]


@pytest.fixture(scope="module")
def diffusers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The library, silent, with a folder of its own for the code that it copies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        import diffusers

        diffusers.logging.set_verbosity_error()
        diffusers.logging.disable_progress_bar()
        yield diffusers


def require_newer(diffusers: Any) -> None:
    """Skip what diffusers 0.35 does otherwise, which the documentation says."""
    major, minor, *_ = diffusers.__version__.split(".")
    if (int(major), int(minor)) < (0, 42):
        pytest.skip("this version of diffusers is too old")


@pytest.fixture(scope="module")
def exported(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model(tiny_model, tmp_path_factory.mktemp("exports") / "cats", to="diffusers", license="MIT")


@pytest.fixture
def loaded(diffusers: Any, exported: Path) -> Any:
    """The pipeline as it comes out of the folder."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(
        str(exported), custom_pipeline=str(exported), trust_remote_code=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def pipe(diffusers: Any, loaded: Any) -> Any:
    """The pipeline with a scheduler whose pictures are those of dpmpp_2m."""
    loaded.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(loaded.scheduler.config)
    return loaded


@pytest.fixture(scope="module")
def tintype(exported: Path) -> Pipeline:
    return Pipeline.load(exported, "cpu")


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


def difference(one: list[Image.Image], other: list[Image.Image]) -> int:
    pairs = zip(one, other, strict=True)
    return max(int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max()) for a, b in pairs)


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


def test_guidance_negative_prompt_and_size_act_as_in_tintype(pipe: Any, tintype: Pipeline) -> None:
    options = {"seeds": SEEDS, "width": 24, "height": 16, "guidance_interval": (0.3, 20.0), "negative_prompt": "a star"}
    pictures = pipe(CAPTIONS, guidance_scale=6.5, **options).images
    assert difference(pictures, by_tintype(pipe, tintype, "dpmpp_2m", guidance=6.5, **options)) <= 1
    assert pictures[0].size == (24, 16)


def test_each_prompt_may_have_its_negative_prompt(pipe: Any) -> None:
    together = pipe(CAPTIONS[:2], negative_prompt=["a star", "a circle"], seeds=SEEDS[:2], guidance_scale=5.0).images
    for index, negative in enumerate(["a star", "a circle"]):
        options = {"negative_prompt": negative, "seeds": [SEEDS[index]], "guidance_scale": 5.0}
        assert difference(pipe(CAPTIONS[index], **options).images, [together[index]]) == 0
    with pytest.raises(ConfigError, match="one for each prompt"):
        pipe(CAPTIONS, negative_prompt=["a star", "a circle"])


def test_pictures_of_a_prompt_stand_together_and_a_seed_counts_them(pipe: Any, tintype: Pipeline) -> None:
    pictures = pipe(CAPTIONS[:2], num_images_per_prompt=2, seeds=5).images
    captions = [CAPTIONS[0], CAPTIONS[0], CAPTIONS[1], CAPTIONS[1]]
    assert difference(pictures, tintype.generate(captions, seeds=5, sampler="dpmpp_2m")) <= 1


def test_a_generator_is_drawn_from_as_elsewhere_in_diffusers(pipe: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    first, second = (pipe(CAPTIONS[0], generator=generator).images for _ in range(2))
    assert difference(first, second) > 0
    noise = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    assert difference(first, pipe(CAPTIONS[0], latents=noise).images) == 0
    each = [torch.Generator().manual_seed(1) for _ in range(2)]
    pictures = pipe(CAPTIONS[0], num_images_per_prompt=2, generator=each).images
    assert difference(pictures[:1], pictures[1:]) == 0
    assert difference(pictures[:1], first) == 0


def test_seeds_draw_the_same_also_where_the_scheduler_adds_noise(diffusers: Any, pipe: Any) -> None:
    pipe.scheduler = diffusers.EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    first, second, alone = (pipe(CAPTIONS[:num], seeds=SEEDS[:num]).images for num in (2, 2, 1))
    assert difference(first, second) == 0
    assert difference(first[:1], alone) == 0


def test_output_types(pipe: Any, tintype: Pipeline) -> None:
    options = {"prompt": CAPTIONS[:2], "seeds": SEEDS[:2]}
    pil, array, tensor, x0 = (
        pipe(**options, output_type=kind, return_dict=False)[0] for kind in ("pil", "np", "pt", "latent")
    )
    assert (array.shape, tuple(tensor.shape), tuple(x0.shape)) == ((2, 16, 16, 3), (2, 3, 16, 16), (2, 3, 16, 16))
    assert np.array_equal((array * 255).round().astype(np.uint8), np.stack([np.asarray(image) for image in pil]))
    assert torch.equal(tensor, torch.from_numpy(array).permute(0, 3, 1, 2))
    assert difference(tintype.pictures(x0), pil) == 0
    assert pipe(**options).images[0].size == (16, 16)


def test_a_callback_sees_each_step_may_change_it_and_may_stop(pipe: Any) -> None:
    seen: list[tuple[int, int]] = []

    def watch(pipeline: Any, step: int, timestep: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen.append((step, int(timestep)))
        assert tensors["denoised"].shape == tensors["latents"].shape == (1, 3, 16, 16)
        return tensors

    wanted = {"callback_on_step_end_tensor_inputs": ["latents", "denoised"]}
    plain = pipe(CAPTIONS[0], seeds=1).images
    assert difference(pipe(CAPTIONS[0], seeds=1, callback_on_step_end=watch, **wanted).images, plain) == 0
    assert seen == list(enumerate(int(timestep) for timestep in pipe.scheduler.timesteps))

    white = pipe(CAPTIONS[0], seeds=1, callback_on_step_end=lambda *_: {"latents": torch.ones(1, 3, 16, 16)}).images
    assert difference(white, [Image.new("RGB", (16, 16), "white")]) == 0

    seen.clear()

    def stop(pipeline: Any, step: int, timestep: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        pipeline._interrupt = step == 1
        return watch(pipeline, step, timestep, tensors)

    pipe(CAPTIONS[0], seeds=1, callback_on_step_end=stop, **wanted)
    assert len(seen) == 2
    assert difference(pipe(CAPTIONS[0], seeds=1).images, plain) == 0  # an interruption ends with its call


def test_the_progress_bar_counts_evaluations(pipe: Any, diffusers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pipe.set_progress_bar_config(disable=False)
    pipe.scheduler = diffusers.HeunDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe(CAPTIONS[0], num_inference_steps=3)
    assert "5/5" in capsys.readouterr().err
    assert pipe.num_timesteps == 5


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_type": "jpeg"}, "output_type must be one of"),
        ({"width": 17}, "width must be a multiple of 4"),
        ({"seeds": 1, "generator": torch.Generator()}, "give either seeds, or a generator"),
        ({"generator": [torch.Generator()] * 2}, "2 generators for 1 pictures"),
        ({"latents": torch.zeros(1, 4, 8, 8)}, r"latents must be \(1, 3, 16, 16\)"),
        ({"callback_on_step_end_tensor_inputs": ["prompt_embeds"]}, "not prompt_embeds"),
        ({"guidance_scale": -1}, "guidance"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str, pipe: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        pipe("a red circle", **options)


def test_a_scheduler_that_cannot_represent_the_model_is_refused(diffusers: Any, pipe: Any) -> None:
    pipe.scheduler = diffusers.LCMScheduler()
    with pytest.raises(ConfigError, match="LCMScheduler cannot run this model; make one of these"):
        pipe("a red circle")
    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    with pytest.raises(ConfigError, match="invert"):
        pipe("a red circle")


def test_half_precision_is_refused_in_words(pipe: Any) -> None:
    pipe.to(torch.float16)
    with pytest.raises(ConfigError, match="computes in float32"):
        pipe("a red circle")


def test_asking_for_half_precision_when_loading_is_noted(
    diffusers: Any, exported: Path, tintype: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    from tintype.export.diffusers.denoiser import TintypeDenoiser, logger

    logger.setLevel(logging.WARNING)
    logger.addHandler(caplog.handler)
    denoiser = TintypeDenoiser.from_pretrained(exported, torch_dtype=torch.float16)
    assert denoiser.dtype == torch.float32
    assert "computes in float32" in caplog.text


def test_loading_asks_for_trust_in_its_code(diffusers: Any, exported: Path) -> None:
    require_newer(diffusers)
    with pytest.raises((ValueError, OSError), match="trust_remote_code"):
        diffusers.DiffusionPipeline.from_pretrained(str(exported), custom_pipeline=str(exported))


def test_a_saved_pipeline_is_a_folder_of_the_same_form(
    diffusers: Any, pipe: Any, exported: Path, tmp_path: Path
) -> None:
    pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)
    pipe.save_pretrained(tmp_path / "saved")
    copy = str(tmp_path / "saved")
    copies = [
        diffusers.DiffusionPipeline.from_pretrained(copy, trust_remote_code=True),
        diffusers.DiffusionPipeline.from_pretrained(copy, custom_pipeline=copy, trust_remote_code=True),
    ]
    expected = pipe(CAPTIONS, seeds=SEEDS).images
    for other in copies:
        other.set_progress_bar_config(disable=True)
        assert other.scheduler.config.use_karras_sigmas
        assert difference(other(CAPTIONS, seeds=SEEDS).images, expected) == 0
    own = Pipeline.load(copy, "cpu").generate(CAPTIONS, seeds=SEEDS)
    assert difference(own, Pipeline.load(exported, "cpu").generate(CAPTIONS, seeds=SEEDS)) == 0
    assert read_record(tmp_path / "saved") is None
    with pytest.raises(ConfigError, match="safetensors only"):
        pipe.save_pretrained(tmp_path / "pickled", safe_serialization=False)


def test_the_class_itself_loads_any_model_and_runs_no_code_of_it(
    diffusers: Any, loaded: Any, tiny_model: Path, exported: Path
) -> None:
    from tintype.export.diffusers.pipeline import TintypePipeline

    expected = loaded(CAPTIONS, seeds=SEEDS).images
    for model in (tiny_model, exported):
        pipe = TintypePipeline.from_model(model)
        pipe.set_progress_bar_config(disable=True)
        assert difference(pipe(CAPTIONS, seeds=SEEDS).images, expected) == 0


def test_from_the_hub_come_all_files_that_it_needs(
    diffusers: Any, exported: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """diffusers fetches by patterns; they must take in the model, which lies beside the components."""
    require_newer(diffusers)
    import fnmatch
    from types import SimpleNamespace

    from diffusers.pipelines import pipeline_utils

    names = [file.relative_to(exported).as_posix() for file in exported.rglob("*") if file.is_file()]
    listing = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names], sha="0" * 40)
    fetched: dict[str, list[str]] = {}

    def snapshot(*_: Any, allow_patterns: list[str], ignore_patterns: list[str], **__: Any) -> str:
        fetched["files"] = [
            name
            for name in names
            if any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns)
            and not any(fnmatch.fnmatch(name, pattern) for pattern in ignore_patterns)
        ]
        return str(exported)

    index = tmp_path / "cache" / "model_index.json"
    index.parent.mkdir()
    index.write_text((exported / "model_index.json").read_text())
    monkeypatch.setattr(pipeline_utils, "model_info", lambda *_, **__: listing)
    monkeypatch.setattr(pipeline_utils, "hf_hub_download", lambda *_, **__: str(index))
    monkeypatch.setattr(pipeline_utils, "snapshot_download", snapshot)
    from tintype.export.diffusers.pipeline import TintypePipeline

    monkeypatch.setattr(pipeline_utils, "_get_pipeline_class", lambda *_, **__: TintypePipeline)
    diffusers.DiffusionPipeline.download("somebody/cats", trust_remote_code=True)
    needed = {"config.json", "model.safetensors", "tokenizer.json", "model_index.json", "pipeline.py"}
    assert needed | {"denoiser/model.py", "scheduler/scheduler_config.json"} <= set(fetched["files"])
    assert json.loads(index.read_text())["_class_name"][0] == "pipeline"


def test_seeds_start_from_tintypes_noise(diffusers: Any, pipe: Any, tintype: Pipeline) -> None:
    request = tintype.request(CAPTIONS, seeds=SEEDS)
    noise = seed_noise(request, (3, 16, 16))
    assert difference(pipe(CAPTIONS, latents=noise).images, pipe(CAPTIONS, seeds=SEEDS).images) == 0
