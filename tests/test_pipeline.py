"""Captions to pictures: loading, seeds, guidance, watching, editing, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from tintype import checkpoint
from tintype.diffusion.samplers import SAMPLERS
from tintype.errors import CheckpointError, ConfigError, TintypeError
from tintype.pipeline import Pipeline, finish

CAPTIONS = ["a red circle", "a blue square left of a green star", "a red circle", "ein Haus am See"]


@pytest.fixture(scope="module")
def pipeline(tiny_model: Path) -> Pipeline:
    return Pipeline.load(tiny_model, "cpu")


def same(a: Image.Image, b: Image.Image) -> bool:
    return a.size == b.size and a.tobytes() == b.tobytes()


# --- loading --------------------------------------------------------------------------------------------------------


def test_a_loaded_model_computes_in_float32_and_does_not_train(pipeline: Pipeline) -> None:
    assert {weight.dtype for weight in pipeline.denoiser.parameters()} == {torch.float32}
    assert not any(weight.requires_grad for weight in pipeline.denoiser.parameters())
    assert (pipeline.name, len(pipeline.model_hash)) == ("tiny", 64)


def test_a_run_gives_its_newest_whole_checkpoint_then_the_final_model(tiny_model: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_model / "model.safetensors")
    texts = {name: (tiny_model / name).read_text() for name in ("config.json", "tokenizer.json")}
    run = tmp_path / "run"
    hashes = []
    for step in (1, 2, 3):
        moved = {name: weight.float() + step for name, weight in weights.items()}
        checkpoint.save_parts(checkpoint.step_folder(run, step), {"model": moved}, texts)
        hashes.append(Pipeline.load(run).model_hash)
    assert len(set(hashes)) == 3
    (checkpoint.step_folder(run, 3) / "model.safetensors").write_bytes(b"cut short")
    assert Pipeline.load(run).model_hash == hashes[1]
    for name, text in texts.items():
        (run / name).write_text(text)
    save_file(weights, run / "model.safetensors")
    found = Pipeline.load(run)
    assert found.model_hash == Pipeline.load(tiny_model).model_hash
    assert found.name == "run"


def damage_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not a model")


def damage_values(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, folder / "model.safetensors")


def damage_names(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["extra"] = weights.pop(next(iter(weights)))
    save_file(weights, folder / "model.safetensors")


def damage_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def damage_setting(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["net"]["width"] = 64
    (folder / "config.json").write_text(json.dumps(config))


def remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def only_log(folder: Path) -> None:
    remove_weights(folder)
    (folder / "log.jsonl").write_text("")


@pytest.mark.parametrize(
    "damage",
    [
        damage_weights,
        damage_values,
        damage_names,
        damage_config,
        damage_setting,
        remove_config,
        remove_weights,
        only_log,
    ],
)
def test_a_damaged_model_is_an_error_that_names_it(damage: Any, tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_model, folder)
    damage(folder)
    with pytest.raises(CheckpointError, match="broken") as raised:
        Pipeline.load(folder)
    assert "\n" not in str(raised.value)


def test_an_unknown_model_or_device_is_an_error(tiny_model: Path) -> None:
    with pytest.raises(CheckpointError, match="no model 'nowhere'"):
        Pipeline.load("nowhere")
    with pytest.raises(ConfigError, match="device"):
        Pipeline.load(tiny_model, "toaster")


# --- seeds and batches ----------------------------------------------------------------------------------------------


def test_image_three_of_four_is_the_same_picture_alone(pipeline: Pipeline) -> None:
    four = pipeline.generate(CAPTIONS, seeds=7)
    for index, (caption, picture) in enumerate(zip(CAPTIONS, four, strict=True)):
        assert same(picture, pipeline.generate(caption, seeds=7, indices=[index])[0])
    assert not same(four[0], four[2])  # one caption, two indices


def test_no_seeds_means_seed_zero_and_a_list_means_index_zero(pipeline: Pipeline) -> None:
    assert all(map(same, pipeline.generate(CAPTIONS), pipeline.generate(CAPTIONS, seeds=[0] * 4, indices=range(4))))
    two = pipeline.generate(["a red circle"] * 2, seeds=[5, 5])
    assert same(*two)


def test_a_long_request_is_worked_on_in_parts_without_a_difference(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pipeline.generate(CAPTIONS)
    monkeypatch.setattr(pipeline, "batch_limit", lambda request: 3)
    assert all(map(same, whole, pipeline.generate(CAPTIONS)))


def test_sharing_a_batch_changes_nothing_but_rounding(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    request = pipeline.request(CAPTIONS)
    alone = finish(pipeline.run(request))
    monkeypatch.setattr(pipeline, "one_by_one", False)
    torch.testing.assert_close(finish(pipeline.run(request)), alone, rtol=0, atol=1e-3)


def test_the_global_random_state_is_left_alone(pipeline: Pipeline) -> None:
    before = torch.get_rng_state()
    first = pipeline.generate("a red circle", sampler="euler_ancestral")
    torch.manual_seed(99)
    assert same(first[0], pipeline.generate("a red circle", sampler="euler_ancestral")[0])
    torch.set_rng_state(before)


# --- captions and guidance ------------------------------------------------------------------------------------------


def count_evaluations(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The noise levels at which the network is asked, once per evaluation."""
    asked: list[float] = []
    given = pipeline.denoiser.given

    def counted(cond: Any) -> Any:
        denoise = given(cond)

        def evaluate(x: Tensor, sigma: Tensor) -> Tensor:
            asked.append(float(sigma[0]))
            return denoise(x, sigma)

        return evaluate

    monkeypatch.setattr(pipeline.denoiser, "given", counted)
    return asked


def test_guidance_one_asks_for_the_caption_alone(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = count_evaluations(pipeline, monkeypatch)
    plain = pipeline.generate("a red circle", guidance=1, steps=6)
    assert len(asked) == 6
    assert same(plain[0], pipeline.generate("a red circle", guidance=1, steps=6, negative="a star")[0])


def test_guidance_acts_within_its_interval_only(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = count_evaluations(pipeline, monkeypatch)
    pipeline.generate("a red circle", guidance=3, steps=8)
    low, high = pipeline.config.sample.guidance_min, pipeline.config.sample.guidance_max
    levels = sorted(set(asked), reverse=True)
    assert len(levels) == 8
    assert all(asked.count(level) == (2 if low <= level <= high else 1) for level in levels)
    assert {asked.count(level) for level in levels} == {1, 2}


def test_the_caption_and_the_negative_text_matter(pipeline: Pipeline) -> None:
    (first,) = pipeline.generate("a red circle")
    assert not same(first, pipeline.generate("a green star")[0])
    assert not same(first, pipeline.generate("a red circle", negative="a green star")[0])
    assert same(first, pipeline.generate("a red circle", negative="")[0])


def test_each_text_is_read_once(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    states = pipeline.denoiser.encoder.states

    def counted(captions: list[str]) -> list[Tensor]:
        read.extend(captions)
        return states(captions)

    monkeypatch.setattr(pipeline.denoiser.encoder, "states", counted)
    pipeline.generate(["a red circle"] * 3, steps=5)
    assert sorted(read) == ["", "a red circle"]


@pytest.mark.parametrize("caption", ["", "   ", "東京 🎨", "x" * 5000, "a\udc80b", "a\0b", "line\nline"])
def test_any_text_is_a_caption(caption: str, pipeline: Pipeline) -> None:
    (picture,) = pipeline.generate(caption, steps=1)
    assert picture.size == (16, 16)


# --- watching -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_last_guess_of_a_stream_is_the_picture(sampler: str, pipeline: Pipeline) -> None:
    steps = list(pipeline.stream(CAPTIONS[:2], sampler=sampler, steps=3))
    assert [step.index for step in steps] == list(range(steps[0].total))
    assert steps[0].sigma == pipeline.config.noise.sigma_max
    pictures = pipeline.generate(CAPTIONS[:2], sampler=sampler, steps=3)
    assert all(map(same, pipeline.pictures(steps[-1].denoised), pictures))


def test_a_stream_refuses_before_its_first_step_and_can_be_closed(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError):
        pipeline.stream("a red circle", steps=0)
    asked = count_evaluations(pipeline, monkeypatch)
    stream = pipeline.stream("a red circle", steps=8, guidance=1)
    next(stream)
    stream.close()
    assert len(asked) == 1


def test_a_lent_denoiser_is_not_changed_and_gets_no_gradients(pipeline: Pipeline, tiny_model: Path) -> None:
    denoiser = Pipeline.load(tiny_model).denoiser.train().requires_grad_(True)
    lent = Pipeline(denoiser)
    for step in lent.stream("a red circle"):
        assert torch.is_grad_enabled()
        assert not step.denoised.requires_grad
    assert denoiser.training
    assert same(lent.pictures(step.denoised)[0], pipeline.generate("a red circle")[0])


def test_values_that_are_not_numbers_never_become_a_picture(pipeline: Pipeline) -> None:
    with pytest.raises(TintypeError, match="not numbers"):
        pipeline.pictures(torch.full((1, 3, 4, 4), float("nan")))


# --- editing --------------------------------------------------------------------------------------------------------


def noise_picture(width: int, height: int) -> Image.Image:
    pixels = torch.randint(256, (height, width, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


def distance(a: Image.Image, b: Image.Image) -> float:
    first, second = (torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).float() for picture in (a, b))
    return float((first - second).abs().mean())


def test_less_strength_stays_closer_to_the_picture_and_takes_fewer_steps(pipeline: Pipeline) -> None:
    init_image = noise_picture(16, 16)
    requests = [pipeline.request("x", init_image=init_image, strength=s, steps=10) for s in (0.05, 0.5, 1)]
    starts = [pipeline.start(request) for request in requests]
    assert [len(sigmas) - 1 for _, sigmas in starts] == [1, 5, 10]
    assert float(starts[2][1][0]) == pytest.approx(pipeline.config.noise.sigma_max)
    shown = [pipeline.pictures(x)[0] for x, _ in starts]
    gaps = [distance(init_image, picture) for picture in shown]
    assert gaps[0] < gaps[1] < gaps[2]


def test_a_mask_keeps_black_pixels_exactly_and_repaints_white_ones(pipeline: Pipeline) -> None:
    init_image = noise_picture(16, 16)
    mask = Image.new("L", (16, 16), 0)
    mask.paste(255, (8, 0, 16, 16))
    (picture,) = pipeline.generate("a red circle", init_image=init_image, mask=mask, strength=1)
    assert same(picture.crop((0, 0, 8, 16)), init_image.crop((0, 0, 8, 16)))
    assert not same(picture.crop((8, 0, 16, 16)), init_image.crop((8, 0, 16, 16)))
    black = Image.new("L", (16, 16), 0)
    for sampler in SAMPLERS:
        assert same(
            pipeline.generate("x", init_image=init_image, mask=black, sampler=sampler, guidance=8)[0], init_image
        )


def test_an_init_image_of_any_mode_and_size_is_fitted(pipeline: Pipeline) -> None:
    clear = Image.new("RGBA", (50, 20), (255, 0, 0, 0))
    request = pipeline.request("x", init_image=clear, width=24, height=8)
    assert request.init_image is not None
    assert request.init_image.mode == "RGB"
    assert request.init_image.size == (24, 8)
    assert request.init_image.getpixel((0, 0)) == (255, 255, 255)
    assert pipeline.generate("x", init_image=Image.new("1", (3, 3)), width=24, height=8)[0].size == (24, 8)


def test_other_sizes_are_made_in_multiples_of_the_patch(pipeline: Pipeline) -> None:
    (picture,) = pipeline.generate("a red circle", width=24, height=12, steps=2)
    assert picture.size == (24, 12)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"steps": 0}, "steps must be a whole number from 1 to 1000"),
        ({"steps": 1001}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"steps": True}, "steps"),
        ({"guidance": float("nan")}, "guidance must be a number"),
        ({"guidance": float("inf")}, "guidance"),
        ({"guidance": -0.1}, "guidance must be between 0 and 100"),
        ({"guidance": 101}, "guidance"),
        ({"guidance": "3"}, "guidance"),
        ({"seeds": -1}, "seed must be"),
        ({"seeds": 2**63}, "seed must be"),
        ({"seeds": [1, 2]}, "one seed per caption: 1, not 2"),
        ({"seeds": 1.5}, "seed must be"),
        ({"indices": [0, 1]}, "one index per caption"),
        ({"indices": [-1]}, "index must be"),
        ({"sampler": "plms"}, "sampler must be one of unipc, dpmpp_2m, euler"),
        ({"width": 18}, "width must be a multiple of 4"),
        ({"height": 0}, "height must be"),
        ({"height": 4096}, "height must be"),
        ({"strength": 0.5}, "need an init_image"),
        ({"mask": Image.new("L", (4, 4))}, "need an init_image"),
        ({"init_image": Image.new("RGB", (4, 4)), "strength": 0}, "strength must be between"),
        ({"negative": 3}, "negative must be a text"),
    ],
)
def test_a_setting_out_of_range_is_refused(wrong: dict[str, Any], says: str, pipeline: Pipeline) -> None:
    with pytest.raises(ConfigError, match=says):
        pipeline.generate("a red circle", **wrong)


@pytest.mark.parametrize("captions", [[], [3], [None]])
def test_captions_must_be_texts(captions: Any, pipeline: Pipeline) -> None:
    with pytest.raises(ConfigError, match="captions"):
        pipeline.generate(captions)


def test_an_unknown_option_is_a_mistake(pipeline: Pipeline) -> None:
    with pytest.raises(TypeError, match="cfg"):
        pipeline.stream("x", cfg=3)  # type: ignore[call-arg]


def test_the_largest_seed_is_a_seed(pipeline: Pipeline) -> None:
    assert not same(*(pipeline.generate("x", seeds=seed)[0] for seed in (2**63 - 1, 0)))
