"""An exported folder in diffusers: options, callbacks, loading and saving are what users of diffusers expect."""

from __future__ import annotations

import fnmatch
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.export.in_diffusers import CAPTIONS, MARKS, SEEDS, difference, require_newer

from tintype.errors import ConfigError
from tintype.export.record import read_record
from tintype.pipeline.pipeline import Pipeline

pytestmark = MARKS


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


def test_half_precision_is_refused_in_words(pipe: Any) -> None:
    pipe.to(torch.float16)
    with pytest.raises(ConfigError, match="computes in float32"):
        pipe("a red circle")


def test_asking_for_half_precision_when_loading_is_noted(
    diffusers: Any, diffusers_folder: Path, tintype: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    from tintype.export.diffusers.denoiser import TintypeDenoiser, logger

    logger.setLevel(logging.WARNING)
    logger.addHandler(caplog.handler)
    denoiser = TintypeDenoiser.from_pretrained(diffusers_folder, torch_dtype=torch.float16)
    assert denoiser.dtype == torch.float32
    assert "computes in float32" in caplog.text


def test_loading_asks_for_trust_in_its_code(diffusers: Any, diffusers_folder: Path) -> None:
    require_newer(diffusers)
    with pytest.raises((ValueError, OSError), match="trust_remote_code"):
        diffusers.DiffusionPipeline.from_pretrained(str(diffusers_folder), custom_pipeline=str(diffusers_folder))


def test_a_saved_pipeline_is_a_folder_of_the_same_form(
    diffusers: Any, pipe: Any, diffusers_folder: Path, tmp_path: Path
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
    assert difference(own, Pipeline.load(diffusers_folder, "cpu").generate(CAPTIONS, seeds=SEEDS)) == 0
    assert read_record(tmp_path / "saved") is None
    with pytest.raises(ConfigError, match="safetensors only"):
        pipe.save_pretrained(tmp_path / "pickled", safe_serialization=False)


def test_the_class_itself_loads_any_model_and_runs_no_code_of_it(
    diffusers: Any, loaded: Any, tiny_model: Path, diffusers_folder: Path
) -> None:
    from tintype.export.diffusers.pipeline import TintypePipeline

    expected = loaded(CAPTIONS, seeds=SEEDS).images
    for model in (tiny_model, diffusers_folder):
        pipe = TintypePipeline.from_model(model)
        pipe.set_progress_bar_config(disable=True)
        assert difference(pipe(CAPTIONS, seeds=SEEDS).images, expected) == 0


def test_from_the_hub_come_all_files_that_it_needs(
    diffusers: Any, diffusers_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """diffusers fetches by patterns; they must take in the model, which lies beside the components."""
    require_newer(diffusers)
    from diffusers.pipelines import pipeline_utils

    names = [file.relative_to(diffusers_folder).as_posix() for file in diffusers_folder.rglob("*") if file.is_file()]
    listing = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names], sha="0" * 40)
    fetched: dict[str, list[str]] = {}

    def snapshot(*_: Any, allow_patterns: list[str], ignore_patterns: list[str], **__: Any) -> str:
        fetched["files"] = [
            name
            for name in names
            if any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns)
            and not any(fnmatch.fnmatch(name, pattern) for pattern in ignore_patterns)
        ]
        return str(diffusers_folder)

    index = tmp_path / "cache" / "model_index.json"
    index.parent.mkdir()
    index.write_text((diffusers_folder / "model_index.json").read_text())
    monkeypatch.setattr(pipeline_utils, "model_info", lambda *_, **__: listing)
    monkeypatch.setattr(pipeline_utils, "hf_hub_download", lambda *_, **__: str(index))
    monkeypatch.setattr(pipeline_utils, "snapshot_download", snapshot)
    from tintype.export.diffusers.pipeline import TintypePipeline

    monkeypatch.setattr(pipeline_utils, "_get_pipeline_class", lambda *_, **__: TintypePipeline)
    diffusers.DiffusionPipeline.download("somebody/cats", trust_remote_code=True)
    needed = {"config.json", "model.safetensors", "tokenizer.json", "model_index.json", "pipeline.py"}
    assert needed | {"denoiser/model.py", "scheduler/scheduler_config.json"} <= set(fetched["files"])
    assert json.loads(index.read_text())["_class_name"][0] == "pipeline"
