"""Configurations: unknown names are refused with the choices, other libraries' names are understood, files of format 1
are read under today's names."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tintype.config import Config, NoiseConfig, SampleConfig, TextConfig, nano
from tintype.diffusion.loss import WEIGHTS
from tintype.diffusion.names import SAMPLERS, SCHEDULES
from tintype.diffusion.parameterization import PREDICTIONS
from tintype.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "choices"),
    [
        ({"noise": NoiseConfig(prediction="v")}, PREDICTIONS),
        ({"noise": NoiseConfig(weight="nonsense")}, WEIGHTS),
        ({"sample": SampleConfig(sampler="x")}, SAMPLERS),
        ({"sample": SampleConfig(schedule="y")}, SCHEDULES),
    ],
)
def test_an_unknown_name_is_refused_with_the_choices(settings: dict[str, object], choices: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as error:
        Config(**settings)  # type: ignore[arg-type]
    assert all(name in str(error.value) for name in choices)


def test_every_known_name_is_taken() -> None:
    for prediction in PREDICTIONS:
        for weight in WEIGHTS:
            Config(noise=NoiseConfig(prediction=prediction, weight=weight))
    for sampler in SAMPLERS:
        for schedule in SCHEDULES:
            Config(sample=SampleConfig(sampler=sampler, schedule=schedule))


@pytest.mark.parametrize(("alias", "name"), [("epsilon", "noise"), ("x0", "image"), ("flow", "velocity")])
def test_an_alias_of_a_prediction_is_stored_under_one_name(alias: str, name: str) -> None:
    assert NoiseConfig(prediction=alias) == NoiseConfig(prediction=name)
    assert json.loads(Config(noise=NoiseConfig(prediction=alias)).to_json())["noise"]["prediction"] == name


def test_format_1_is_read_under_the_names_of_today() -> None:
    config = dataclasses.replace(
        nano(),
        sample=SampleConfig(schedule="karras", schedule_center=0.5, schedule_spread=1.3),
        text=TextConfig(embedding_dim=77),
    )
    older = json.loads(config.to_json())
    assert older["format"] == 2
    older["format"] = 1
    older["sample"] = {name.replace("schedule", "grid"): value for name, value in older["sample"].items()}
    older["text"]["state_width"] = older["text"].pop("embedding_dim")
    assert "grid_center" in older["sample"]
    assert Config.from_json(json.dumps(older)) == config


def test_format_2_has_no_older_names() -> None:
    values = json.loads(nano().to_json())
    values["sample"]["grid"] = values["sample"].pop("schedule")
    with pytest.raises(ConfigError, match="grid"):
        Config.from_json(json.dumps(values))


@pytest.mark.parametrize("version", [0, 3, None, "1"])
def test_another_format_is_refused(version: object) -> None:
    values = {**json.loads(nano().to_json()), "format": version}
    with pytest.raises(ConfigError, match="format"):
        Config.from_json(json.dumps(values))


def test_a_configuration_of_before_has_its_convolution_of_three_pixels_to_the_head() -> None:
    older = json.loads(nano(128).to_json())
    assert older["net"].pop("write_kernel") == 1
    assert Config.from_json(json.dumps(older)).net.write_kernel == 3


@pytest.mark.parametrize(("head_width", "kernel"), [(0, 1), (16, 2)])
def test_one_pixel_goes_to_a_head_alone(head_width: int, kernel: int) -> None:
    with pytest.raises(ConfigError, match="write_kernel must be 3, or 1 for a network with a head"):
        Config(net=dataclasses.replace(nano().net, head_width=head_width, write_kernel=kernel))


@pytest.mark.parametrize("resolution", [36, 132, 200, 512])
def test_presets_suit_sizes_with_few_divisors(resolution: int) -> None:
    net = nano(resolution).net
    assert resolution % net.patch == 0
    assert (net.head_width > 0) == (resolution >= 128)
