"""Settings: what the page may give, as arguments that `tintype train` takes, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tintype.cli.main import parser
from tintype.serving.api.errors import ApiError
from tintype.studio.settings import ADVANCED, QUALITIES, SIZES, TIMES, extended, qualities, train_arguments

STARTS = {"shapes": "shapes", "mine": "/studio/runs/mine"}


def arguments(**settings: Any) -> list[str]:
    return train_arguments(Path("/data"), Path("/out"), settings, STARTS)


def example(name: str) -> Any:
    """A value that is allowed for an advanced setting."""
    setting = ADVANCED[name]
    if setting.kind == "choice":
        return setting.choices[-1]
    return {"integer": int(setting.minimum), "number": 1.0, "switch": True, "time": "5m"}[setting.kind]


@pytest.mark.parametrize("name", ADVANCED)
def test_the_command_line_takes_every_setting(name: str) -> None:
    args = parser().parse_args(arguments(time="30m", size="auto", **{"from": "mine", name: example(name)}))
    assert str(args.data) == "/data"
    assert args.out == Path("/out")
    assert args.minutes == 30
    assert args.from_model == "/studio/runs/mine"


def test_the_command_line_takes_every_choice() -> None:
    for time, _ in TIMES:
        parser().parse_args(arguments(time=time))
    for quality, images in QUALITIES.items():
        assert parser().parse_args(arguments(quality=quality)).images == images
    for size in SIZES:
        assert parser().parse_args(arguments(images=1000, size=size)).resolution == size


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"time": "30m", "images": 1000},
        {"time": "--exclude=/etc/passwd"},
        {"time": "0m"},
        {"time": "9999h"},
        {"time": 30},
        {"time": ["30m"]},
        {"quality": "finest"},
        {"quality": ["good"]},
        {"images": 0},
        {"images": True},
        {"images": 1.5},
        {"time": "1m", "size": 33},
        {"time": "1m", "size": "auto; rm"},
        {"time": "1m", "from": "/etc"},
        {"time": "1m", "from": {"a": 1}},
        {"time": "1m", "lr": float("nan")},
        {"time": "1m", "lr": "0.1"},
        {"time": "1m", "device": "cuda:0; rm -rf"},
        {"time": "1m", "text": "hf:someone/else"},
        {"time": "1m", "dedupe": "yes"},
        {"time": "1m", "seed": -1},
        {"time": "1m", "out": "/etc"},
        {"time": "1m", "exclude": "/etc/passwd"},
        {"time": "1m", "resume": "/elsewhere"},
        {"time": "1m", "--out": "/etc"},
        {"time": "1m", "": 1},
    ],
)
def test_nothing_else_can_be_given(settings: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as error:
        train_arguments(Path("/data"), Path("/out"), settings, STARTS)
    assert error.value.status == 400


def test_as_good_as_the_pictures_allow_is_for_the_pictures_to_say() -> None:
    assert [qualities(number)["fine"] for number in (0, 1000, 20_000, 10**9)] == [10_000, 45_000, 900_000, 10**7]
    given = train_arguments(Path("/data"), Path("/out"), {"quality": "fine"}, STARTS, qualities(1000))
    assert parser().parse_args(given).images == 45_000


@pytest.mark.parametrize("length", [{"time": "30m"}, {"images": 1000}, {"quality": "good"}])
def test_another_length_takes_the_place_of_the_first(length: dict[str, Any]) -> None:
    args = parser().parse_args(extended(arguments(**length, seed=3), 7000))
    assert (args.images, args.minutes, args.seed) == (7000, None, 3)
