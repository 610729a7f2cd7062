"""Captions to pictures: loading, seeds, guidance, watching, editing, and what is refused."""

from __future__ import annotations

import gc
import json
import math
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from tintype.diffusion.noise import Purpose, normal
from tintype.diffusion.samplers import SAMPLERS, finish, sample
from tintype.diffusion.sigmas import karras_sigmas, log_snr_sigmas
from tintype.errors import CheckpointError, ConfigError, TintypeError, TintypeWarning
from tintype.model import checkpoint
from tintype.model.nets.conditioning import CaptionKV, Conditioning
from tintype.pipeline.pipeline import Pipeline

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


def test_a_pipeline_shows_what_it_is(pipeline: Pipeline, tiny_model: Path) -> None:
    text = repr(pipeline)
    assert text.startswith("<Pipeline 'tiny': 16x16 pixels, 0.")
    assert "million weights on cpu; " in text
    assert text.endswith(f" {pipeline.config.sample.steps} steps, guidance 3>")
    assert repr(Pipeline.load(tiny_model, "cpu", guide=tiny_model)).endswith(", guided by 'tiny'>")


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
    with pytest.warns(TintypeWarning, match="step-00000003"):
        assert Pipeline.load(run).model_hash == hashes[1]
    for name, text in texts.items():
        (run / name).write_text(text)
    save_file(weights, run / "model.safetensors")
    pipeline = Pipeline.load(run)
    assert pipeline.model_hash == Pipeline.load(tiny_model).model_hash
    assert pipeline.name == "run"


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
    for device in ("toaster", "meta", f"cuda:{torch.cuda.device_count()}"):
        with pytest.raises(ConfigError, match="device"):
            Pipeline.load(tiny_model, device)


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
    expected = pipeline.generate(CAPTIONS)
    monkeypatch.setattr(pipeline, "batch_limit", lambda request: 3)
    assert all(map(same, expected, pipeline.generate(CAPTIONS)))


def test_sharing_a_batch_changes_nothing_but_rounding(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    request = pipeline.request(CAPTIONS)
    alone = finish(pipeline.run(request))
    monkeypatch.setattr(pipeline, "batch_invariant", False)
    torch.testing.assert_close(finish(pipeline.run(request)), alone, rtol=0, atol=1e-3)


def levels(picture: Image.Image) -> Tensor:
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).int()


@pytest.mark.parametrize("sampler", ["unipc", "ddpm"])
def test_a_picture_is_the_same_alone_and_in_a_batch_of_seven(
    sampler: str, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*CAPTIONS, "a star " * 7, "東京", "a blue circle"]
    seven = pipeline.generate(texts, seeds=3, sampler=sampler)
    alone = [pipeline.generate(t, seeds=3, indices=[i], sampler=sampler)[0] for i, t in enumerate(texts)]
    assert all(map(same, seven, alone))
    monkeypatch.setattr(pipeline, "batch_invariant", False)
    for picture, other in zip(pipeline.generate(texts, seeds=3, sampler=sampler), alone, strict=True):
        assert int((levels(picture) - levels(other)).abs().max()) <= 1


def test_a_picture_is_the_same_among_strangers_at_other_steps(pipeline: Pipeline) -> None:
    """Two samplers at different steps and noise levels answered by one call of the network, as a server may do."""
    denoiser, text = pipeline.denoiser, pipeline.denoiser.encode(["a red circle", "a star", "ein Haus am See"])
    x = 80.0 * normal(0, Purpose.START, torch.arange(3), (3, 16, 16))
    grids = [log_snr_sigmas(9, 0.02, 80.0), karras_sigmas(5, 0.02, 80.0)]
    waiting = {0: SAMPLERS["unipc"](x[:1], grids[0], None), 1: SAMPLERS["heun"](x[1:], grids[1], None)}
    rows = {0: slice(0, 1), 1: slice(1, 3)}
    queries = {name: next(coroutine) for name, coroutine in waiting.items()}
    ends: dict[int, Tensor] = {}
    while queries:
        order = list(queries)
        places = torch.cat([torch.arange(3)[rows[name]] for name in order])
        with torch.no_grad():
            batch = torch.cat([queries[name].x for name in order]), torch.cat([queries[name].sigma for name in order])
            answers = denoiser(*batch, text[places]).split([len(queries[name].x) for name in order])
        for name, answer in zip(order, answers, strict=True):
            try:
                queries[name] = waiting[name].send(answer)
            except StopIteration as end:
                ends[name] = end.value
                del queries[name]
    alone = torch.no_grad()(denoiser.conditioned(text[torch.tensor([0])]))
    (picture,), (other,) = (pipeline.pictures(x0) for x0 in (ends[0], sample(alone, x[:1], grids[0], "unipc")))
    assert int((levels(picture) - levels(other)).abs().max()) <= 1


def test_who_answers_for_several_requests_gets_the_same_pictures(pipeline: Pipeline) -> None:
    request = pipeline.request(CAPTIONS[:2], guidance=3, sampler="ddpm")
    task = pipeline.sampling_task(request, pipeline.denoiser.conditioned)
    query, num_queries = next(task.coroutine), 0
    try:
        while True:
            num_queries += 1
            with torch.no_grad():
                query = task.coroutine.send(task.denoise(*query))
    except StopIteration as end:
        pictures = pipeline.pictures(end.value)
    assert num_queries == task.total
    for picture, other in zip(pictures, pipeline.generate(CAPTIONS[:2], guidance=3, sampler="ddpm"), strict=True):
        assert distance(picture, other) < 1


def test_the_global_random_state_is_left_alone(pipeline: Pipeline) -> None:
    before = torch.get_rng_state()
    first = pipeline.generate("a red circle", sampler="euler_ancestral")
    torch.manual_seed(99)
    assert same(first[0], pipeline.generate("a red circle", sampler="euler_ancestral")[0])
    torch.set_rng_state(before)


# --- captions and guidance ------------------------------------------------------------------------------------------


@pytest.fixture
def asked(pipeline: Pipeline) -> Iterator[list[int]]:
    """How many pictures the network is asked about, call by call."""
    sizes: list[int] = []
    hook = pipeline.denoiser.net.register_forward_pre_hook(lambda net, inputs: sizes.append(len(inputs[0])))
    yield sizes
    hook.remove()


def test_guidance_one_asks_for_the_caption_alone(pipeline: Pipeline, asked: list[int]) -> None:
    plain = pipeline.generate("a red circle", guidance=1, steps=6)
    assert asked == [1] * 6
    assert same(plain[0], pipeline.generate("a red circle", guidance=1, steps=6, negative="a star")[0])


def test_guidance_is_one_call_within_its_interval_and_half_of_it_outside(pipeline: Pipeline, asked: list[int]) -> None:
    steps = list(pipeline.stream("a red circle", guidance=3, steps=8, interval=(0.3, 9)))
    assert asked == [2 if 0.3 <= step.sigma <= 9 else 1 for step in steps]
    assert set(asked) == {1, 2}
    asked.clear()
    pipeline.generate("a red circle", guidance=3, steps=8)
    low, high = pipeline.config.sample.guidance_min, pipeline.config.sample.guidance_max
    assert asked == [2 if low <= step.sigma <= high else 1 for step in steps]
    asked.clear()
    pipeline.generate("a red circle", guidance=3, steps=8, interval=(0, 1000))
    assert asked == [2] * 8


def test_high_orders_step_back_under_strong_guidance_and_the_receipt_says_so(pipeline: Pipeline) -> None:
    for sampler, strong in (("deis_4", "deis_2"), ("deis_3", "deis_2"), ("unipc", "unipc"), ("heun", "heun")):
        assert pipeline.request("a star", sampler=sampler, guidance=4).sampler == sampler
        request = pipeline.request("a star", sampler=sampler, guidance=8)
        assert pipeline.receipts(request)[0].sampler == strong


def test_a_weaker_model_can_be_the_guide(pipeline: Pipeline, tiny_model: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_model / "model.safetensors")
    weak = tmp_path / "weak"
    shutil.copytree(tiny_model, weak)
    save_file({name: weight * 0.9 for name, weight in weights.items()}, weak / "model.safetensors")
    guided = Pipeline.load(tiny_model, "cpu", guide=weak)
    settings: dict[str, Any] = {"steps": 4, "seeds": 2, "interval": (0.0, 100.0)}
    x, sigma = torch.full((2, 3, 16, 16), 0.3), torch.tensor([2.0, 2.0])
    request = guided.request(CAPTIONS[:2], guidance=2.5, **settings)
    answer = guided.denoise(request)(x, sigma)
    plain = [
        which.denoise(which.request(CAPTIONS[:2], guidance=1, **settings))(x, sigma)
        for which in (pipeline, Pipeline.load(weak, "cpu"))
    ]
    torch.testing.assert_close(answer, plain[1] + 2.5 * (plain[0] - plain[1]))
    assert same(
        guided.generate(CAPTIONS[0], guidance=1, **settings)[0],
        pipeline.generate(CAPTIONS[0], guidance=1, **settings)[0],
    )
    assert guided.receipts(request)[0].guide == "weak"
    assert guided.receipts(request)[0].guide_hash not in ("", guided.model_hash)
    with pytest.raises(ConfigError, match="negative"):
        guided.generate("x", negative="y")


def test_guidance_may_differ_from_picture_to_picture(pipeline: Pipeline) -> None:
    several = pipeline.generate(["a red circle"] * 3, seeds=[4, 4, 4], guidance=[1, 3, 8])
    for scale, picture in zip([1, 3, 8], several, strict=True):
        assert same(picture, pipeline.generate("a red circle", seeds=[4], guidance=scale)[0])
    assert not same(several[0], several[2])


def test_the_caption_and_the_negative_text_matter(pipeline: Pipeline) -> None:
    (first,) = pipeline.generate("a red circle")
    assert not same(first, pipeline.generate("a green star")[0])
    assert not same(first, pipeline.generate("a red circle", negative="a green star")[0])
    assert same(first, pipeline.generate("a red circle", negative="")[0])


def test_each_text_is_read_once(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    keys: list[int] = []
    embeddings, caption_kv = pipeline.denoiser.encoder.text_embeddings, pipeline.denoiser.net.caption_kv

    def counted_embeddings(captions: list[str]) -> list[Tensor]:
        read.extend(captions)
        return embeddings(captions)

    def counted_keys(cond: Conditioning) -> CaptionKV:
        keys.append(len(cond))
        return caption_kv(cond)

    monkeypatch.setattr(pipeline.denoiser.encoder, "text_embeddings", counted_embeddings)
    monkeypatch.setattr(pipeline.denoiser.net, "caption_kv", counted_keys)
    for batch_invariant in (True, False):
        monkeypatch.setattr(pipeline, "batch_invariant", batch_invariant)
        read.clear()
        keys.clear()
        pipeline.generate(["a red circle"] * 3 + ["a star"], steps=5)
        assert sorted(read) == ["", "a red circle", "a star"]
        assert sum(keys) == 3


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


def test_a_stream_refuses_before_its_first_step_and_can_be_closed(pipeline: Pipeline, asked: list[int]) -> None:
    with pytest.raises(ConfigError):
        pipeline.stream("a red circle", steps=0)
    stream = pipeline.stream("a red circle", steps=8, guidance=1)
    next(stream)
    stream.close()
    assert asked == [1]


def test_closing_a_stream_frees_its_pictures_at_once(pipeline: Pipeline) -> None:
    stream = pipeline.stream(["a red circle"] * 2, steps=8, sampler="deis_4")
    seen = [(weakref.ref(step.x), weakref.ref(step.denoised)) for step in (next(stream) for _ in range(4))]
    assert any(ref() is not None for pair in seen for ref in pair)  # the sampler remembers
    gc.disable()  # at once, not when garbage is next collected
    try:
        stream.close()
        assert [ref() for pair in seen for ref in pair] == [None] * 8
    finally:
        gc.enable()


def test_a_lent_denoiser_is_not_changed_and_gets_no_gradients(pipeline: Pipeline, tiny_model: Path) -> None:
    denoiser = Pipeline.load(tiny_model).denoiser.train().requires_grad_(True)
    lent = Pipeline(denoiser)
    for step in lent.stream("a red circle"):
        assert torch.is_grad_enabled()
        assert not step.denoised.requires_grad
    assert denoiser.training
    assert same(lent.pictures(step.denoised)[0], pipeline.generate("a red circle")[0])


def test_values_that_are_not_numbers_never_become_a_picture(pipeline: Pipeline) -> None:
    with pytest.raises(TintypeError, match="NaN or infinity"):
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
    runs = [
        list(pipeline.stream("x", init_image=init_image, strength=strength, steps=10, grid="log_snr"))
        for strength in (0.05, 0.5, 1)
    ]
    assert [len(steps) for steps in runs] == [1, 5, 10]
    assert runs[2][0].sigma == pytest.approx(pipeline.config.noise.sigma_max)
    gaps = [distance(init_image, pipeline.pictures(steps[0].x)[0]) for steps in runs]
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


def test_painting_around_a_picture_keeps_it_exactly(pipeline: Pipeline) -> None:
    init_image = noise_picture(16, 16)
    (picture,) = pipeline.generate("a red circle", init_image=init_image, outpaint=(4, 8, 0, 0))
    assert picture.size == (20, 24)
    assert same(picture.crop((4, 8, 20, 24)), init_image)
    (inside,) = pipeline.generate("x", init_image=init_image, outpaint=(4, 4, 4, 4), width=24, height=24)
    assert same(inside.crop((4, 4, 20, 20)), init_image)
    mask = Image.new("L", (16, 16), 0)
    mask.paste(255, (0, 0, 8, 16))
    (both,) = pipeline.generate("x", init_image=init_image, mask=mask, outpaint=(0, 0, 8, 0))
    assert same(both.crop((8, 0, 16, 16)), init_image.crop((8, 0, 16, 16)))
    assert not same(both.crop((0, 0, 8, 16)), init_image.crop((0, 0, 8, 16)))


def psnr(a: Image.Image, b: Image.Image) -> float:
    first, second = (torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).float() for picture in (a, b))
    return 20 * math.log10(255) - 10 * math.log10(max(1e-12, float((first - second).square().mean())))


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [1, 3])
def test_a_picture_led_back_to_its_noise_comes_back(guidance: float, pipeline: Pipeline) -> None:
    (init_image,) = pipeline.generate("a red circle", seeds=3)
    same_settings = {"init_image": init_image, "invert": "a red circle", "guidance": guidance, "steps": 12}
    steps = list(pipeline.stream("a red circle", **same_settings))  # type: ignore[arg-type]
    assert [step.index for step in steps] == list(range(steps[0].total))
    assert max(step.sigma for step in steps) == pytest.approx(pipeline.config.noise.sigma_max)
    (back,) = pipeline.generate("a red circle", **same_settings)  # type: ignore[arg-type]
    assert psnr(init_image, back) > 40
    assert not same(init_image, pipeline.generate("a green star", **same_settings)[0])  # type: ignore[arg-type]


def test_variations_go_from_the_picture_to_another(pipeline: Pipeline) -> None:
    (first,) = pipeline.generate("a red circle", seeds=9)
    starts = []
    for distance_ in (0.0, 0.1, 0.5, 1.0):
        varied = pipeline.generate(["a red circle"] * 3, seeds=9, variation=distance_)
        assert same(varied[0], first)
        assert same(varied[1], varied[2]) == (distance_ == 0)
        request = pipeline.request(["a red circle"] * 3, seeds=9, variation=distance_)
        x = next(pipeline.run(request)).x
        starts.append(float((x[1] - x[0]).norm()))
        assert float(x[1].norm()) == pytest.approx(float(x[0].norm()), rel=0.1)  # as much noise as before
    assert starts == sorted(starts)
    assert starts[0] == 0


def test_pictures_go_from_one_caption_and_seed_to_another(pipeline: Pipeline) -> None:
    ends = pipeline.generate(["a red circle", "a green star"], seeds=[1, 2])
    between = pipeline.generate(
        ["a red circle"] * 5, seeds=1, indices=[0] * 5, captions_to="a green star", seeds_to=2, indices_to=[0] * 5
    )
    for picture, end in ((between[0], ends[0]), (between[4], ends[1])):
        assert distance(picture, end) < 1  # asked for in a call of another size
    assert not same(between[2], between[0])
    only_caption = pipeline.generate(["a red circle"] * 2, seeds=[1, 1], captions_to="a green star", shares=[0, 0.5])
    assert distance(only_caption[0], ends[0]) < 1 < distance(only_caption[1], ends[0])


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
        ({"sampler": "plms"}, "sampler must be one of unipc, dpmpp_2m"),
        ({"grid": "even"}, "grid must be one of"),
        ({"guidance": [1, 2]}, "one guidance per caption: 1, not 2"),
        ({"guidance": [float("nan")]}, "guidance must be a number"),
        ({"interval": (3, 1)}, "interval must not end below its start"),
        ({"interval": (float("nan"), 1)}, "interval must be a number"),
        ({"variation": 2}, "variation must be between 0 and 1"),
        ({"variation": 0.1, "seeds_to": 3}, "either variation"),
        ({"shares": [0.5]}, "need captions_to or seeds_to"),
        ({"captions_to": "y", "shares": [0.5, 1]}, "one mix weight per caption: 1, not 2"),
        ({"captions_to": ["y", "z"]}, "one caption in captions_to per caption"),
        ({"seeds_to": [1, 2]}, "one seed per caption"),
        ({"outpaint": (4, 4, 4, 4)}, "need an init_image"),
        ({"invert": "x"}, "need an init_image"),
        ({"init_image": Image.new("RGB", (4, 4)), "outpaint": (4, 4)}, "four numbers"),
        ({"init_image": Image.new("RGB", (4, 4)), "outpaint": (3, 0, 0, 0)}, "width must be a multiple of 4"),
        ({"init_image": Image.new("RGB", (4, 4)), "outpaint": (8, 0, 8, 0), "width": 16}, "no room"),
        (
            {"init_image": Image.new("RGB", (4, 4)), "mask": Image.new("L", (5, 4))},
            "the mask is 5x4 and the init_image 4x4: they must have the same size",
        ),
        ({"negative": "x" * 50_000}, "at most 32,000 characters, not 50,000"),
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


@pytest.mark.parametrize("captions", [[], [3], [None], "x" * 50_000])
def test_captions_must_be_texts(captions: Any, pipeline: Pipeline) -> None:
    with pytest.raises(ConfigError, match=r"captions must|at most 32,000 characters"):
        pipeline.generate(captions)


def test_an_unknown_option_is_a_mistake(pipeline: Pipeline) -> None:
    with pytest.raises(TypeError, match="cfg"):
        pipeline.stream("x", cfg=3)  # type: ignore[call-arg]


def test_the_largest_seed_is_a_seed(pipeline: Pipeline) -> None:
    assert not same(*(pipeline.generate("x", seeds=seed)[0] for seed in (2**63 - 1, 0)))
