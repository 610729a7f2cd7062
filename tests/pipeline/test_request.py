"""Options to requests: older and newer names, a sampler and a schedule of one's own."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import tintype
from tintype.diffusion.samplers import Coroutine, Randn, finish
from tintype.diffusion.sigmas import karras_sigmas, log_snr_sigmas
from tintype.errors import ConfigError
from tintype.pipeline.limits import OLDER_NAMES
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.receipt import Receipt, options_of
from tintype.pipeline.request import Options


@pytest.fixture(scope="module")
def pipeline(tiny_model: Path) -> Pipeline:
    return Pipeline.load(tiny_model, "cpu")


INIT_IMAGE = Image.new("RGB", (16, 16), "red")
VALUES: dict[str, dict[str, Any]] = {
    "schedule": {"schedule": "karras"},
    "guidance_interval": {"guidance_interval": (0.3, 9.0)},
    "negative_prompt": {"negative_prompt": "a star"},
    "source_caption": {"source_caption": "a star", "init_image": INIT_IMAGE},
    "mix_weights": {"mix_weights": [0.3], "captions_to": "a star"},
}


@pytest.mark.parametrize("name", OLDER_NAMES)
def test_an_older_name_means_the_same_and_both_are_refused(name: str, pipeline: Pipeline) -> None:
    older = {OLDER_NAMES.get(key, key) if key == name else key: value for key, value in VALUES[name].items()}
    assert name not in older
    request = pipeline.request("a red circle", **VALUES[name])
    assert request == pipeline.request("a red circle", **older)
    assert request != pipeline.request("a red circle", **{**VALUES[name], name: None})
    with pytest.raises(ConfigError, match=f"{OLDER_NAMES[name]} is the older name of {name}"):
        pipeline.request("a red circle", **VALUES[name], **{OLDER_NAMES[name]: VALUES[name][name]})


@pytest.mark.parametrize("name", ["schedule", "negative_prompt", "source_caption"])
def test_an_error_names_the_option_as_it_was_spelled(name: str, pipeline: Pipeline) -> None:
    for spelling in (name, OLDER_NAMES[name]):
        with pytest.raises(ConfigError, match=f"^{spelling} must"):
            pipeline.request("a", **{"init_image": INIT_IMAGE, spelling: 3})  # type: ignore[arg-type]


def test_every_option_is_explained() -> None:
    text = Options.__doc__ or ""
    assert [name for name in Options.__annotations__ if name not in text] == []
    assert tintype.Options is Options


def test_a_sampler_has_the_names_that_other_libraries_know(pipeline: Pipeline) -> None:
    for name, other in (("reference", "etdrk4"), ("euler", "ddim"), ("ddpm", "euler_ancestral")):
        first, second = (pipeline.generate("a star", sampler=sampler, steps=3)[0] for sampler in (name, other))
        assert first.tobytes() == second.tobytes()
        assert pipeline.receipts(pipeline.request("a star", sampler=other))[0].sampler == other


# --- a sampler of one's own -------------------------------------------------------------------------------------------


def my_euler(x: Tensor, sigmas: Tensor, randn: Randn | None) -> Coroutine:
    for sigma, sigma_next in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        denoised = yield tintype.Query(x, x.new_full((len(x),), sigma))
        keep = sigma_next / sigma
        x = torch.add(x * keep, denoised, alpha=1 - keep)
    return x


class Ancestral:
    """A sampler that draws noise, as an object."""

    def __call__(self, x: Tensor, sigmas: Tensor, randn: Randn | None) -> Coroutine:
        assert randn is not None
        for i, (sigma, sigma_next) in enumerate(zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True)):
            denoised = yield tintype.Query(x, x.new_full((len(x),), sigma))
            x = denoised + sigma_next * randn(i)
        return x


@pytest.mark.parametrize("more", [{}, {"init_image": INIT_IMAGE, "source_caption": "a red circle"}])
def test_a_hand_written_euler_is_the_built_in_one_to_the_last_bit(more: dict[str, Any], pipeline: Pipeline) -> None:
    settings: dict[str, Any] = {"steps": 5, "seeds": 3, "guidance": 2.0, **more}
    first, second = (
        finish(pipeline.stream(["a red circle", "a star"], sampler=sampler, **settings))
        for sampler in (my_euler, "euler")
    )
    assert torch.equal(first, second)


def test_a_sampler_may_draw_noise_which_belongs_to_each_picture(pipeline: Pipeline) -> None:
    settings: dict[str, Any] = {"steps": 3, "sampler": Ancestral()}
    both = pipeline.generate(["a red circle", "a star"], seeds=3, **settings)
    alone = pipeline.generate("a star", seeds=3, indices=[1], **settings)
    assert both[1].tobytes() == alone[0].tobytes()
    assert both[1].tobytes() != pipeline.generate("a star", seeds=4, indices=[1], **settings)[0].tobytes()


def test_a_receipt_names_a_function_and_says_that_it_does_not_hold_it(pipeline: Pipeline) -> None:
    name = f"{my_euler.__module__}.my_euler"
    (receipt,) = pipeline.receipts(pipeline.request("a star", sampler=my_euler))
    assert Receipt.from_json(receipt.to_json()).sampler == name
    with pytest.raises(ConfigError, match=rf"the sampler of this picture is the Python function {name}"):
        options_of(receipt)
    (receipt,) = pipeline.receipts(pipeline.request("a star", sampler=Ancestral(), schedule=quick))
    assert (receipt.sampler, receipt.grid) == (f"{__name__}.Ancestral", f"{__name__}.quick")
    (receipt,) = pipeline.receipts(pipeline.request("a star", schedule=functools.partial(quick)))
    with pytest.raises(ConfigError, match=r"the schedule of this picture is the Python function functools\.partial"):
        options_of(receipt)


# --- a schedule of one's own ------------------------------------------------------------------------------------------


def quick(steps: int, sigma_min: float, sigma_max: float, center: float, spread: float) -> Sequence[float]:
    return [sigma_max / 2**i for i in range(steps)] + [0.0]


def test_a_schedule_may_be_a_function_or_the_noise_levels(pipeline: Pipeline) -> None:
    low, high = pipeline.config.noise.sigma_min, pipeline.config.noise.sigma_max
    levels = karras_sigmas(6, low, high)
    settings: dict[str, Any] = {"seeds": 3, "sampler": "dpmpp_2m"}
    known = finish(pipeline.stream("a star", schedule="karras", steps=6, **settings))
    function = lambda steps, low, high, center, spread: karras_sigmas(steps, low, high)  # noqa: E731
    assert torch.equal(finish(pipeline.stream("a star", schedule=function, steps=6, **settings)), known)
    forms: list[Any] = [levels, levels.tolist(), tuple(levels.tolist()), np.array(levels.tolist())]
    for same in forms:
        assert torch.equal(finish(pipeline.stream("a star", schedule=same, **settings)), known)
    steps = list(pipeline.stream("a star", schedule=quick, steps=3))
    assert [step.sigma for step in steps] == pytest.approx([high, high / 2, high / 4])


def test_noise_levels_are_in_the_receipt_and_can_be_made_again(pipeline: Pipeline) -> None:
    levels = log_snr_sigmas(4, 0.03, 70.0)
    request = pipeline.request("a star", schedule=levels, steps=4)
    (receipt,) = pipeline.receipts(request)
    again = pipeline.request(receipt.caption, **options_of(Receipt.from_json(receipt.to_json())))
    assert again == request
    assert again.schedule == tuple(levels.tolist())


def test_less_strength_takes_the_lower_ones_of_given_noise_levels(pipeline: Pipeline) -> None:
    levels = [80.0, 8.0, 0.8, 0.08, 0.0]
    for strength, seen in ((1.0, levels[:-1]), (0.75, levels[1:-1]), (0.5, levels[2:-1]), (0.01, levels[3:-1])):
        steps = pipeline.stream("a star", schedule=levels, init_image=INIT_IMAGE, strength=strength)
        assert [step.sigma for step in steps] == pytest.approx(seen)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ([], "schedule must have 2 to 1001 noise levels, not 0"),
        ([0.0], "2 to 1001 noise levels"),
        ([1.0, 2.0, 0.0], "decrease from at most 1e"),
        ([2.0, 2.0, 0.0], "decrease"),
        ([2.0, 1.0], "end with 0"),
        ([2.0, float("nan"), 0.0], "decrease"),
        ([float("inf"), 1.0, 0.0], "decrease from at most"),
        ([1.0, 0.0, -1.0], "end with 0"),
        (["high", 0.0], "a name, a function or noise levels"),
        (3.0, "a name, a function or noise levels"),
        (torch.ones(2, 2), "a name, a function or noise levels"),
        (lambda *_: [1.0, 2.0], "decrease"),
        (lambda *_: None, "a name, a function or noise levels"),
    ],
)
def test_a_schedule_that_is_none_is_refused_at_once(schedule: Any, message: str, pipeline: Pipeline) -> None:
    with pytest.raises(ConfigError, match=message):
        pipeline.request("a star", schedule=schedule)


def test_steps_that_do_not_fit_noise_levels_are_refused(pipeline: Pipeline) -> None:
    with pytest.raises(ConfigError, match="steps must be 2 for 3 noise levels; leave it out"):
        pipeline.request("a star", schedule=[2.0, 1.0, 0.0], steps=3)
    with pytest.raises(ConfigError, match="3 to 1001 noise levels"):
        pipeline.request("a star", schedule=[2.0, 0.0], init_image=INIT_IMAGE, source_caption="a star")
