"""The forecast of memorizing: linear in different pictures, in plain words; and what is held out to notice it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tests.training.conftest import tiny_preset, write_pictures

from tintype.config import Config, TrainConfig
from tintype.data.cache.index import DatasetIndex
from tintype.data.images.facts import FACTS
from tintype.training.run import TrainRequest, train
from tintype.training.setup import plan
from tintype.training.setup.forecast import (
    MIN_HELD_OUT,
    forecast_sentence,
    held_out_share,
    memorizing_begins,
    num_different,
)

NANO = Config.from_preset("nano")


@given(st.integers(10, 10**6), st.integers(2, 9))
def test_twice_the_pictures_are_learned_by_heart_after_twice_the_images(num: int, times: int) -> None:
    assert memorizing_begins(NANO, times * num) == pytest.approx(times * memorizing_begins(NANO, num), rel=0.1)


def test_what_was_measured_is_forecast_within_a_factor_of_1_5() -> None:
    thin = replace(NANO, net=replace(NANO.net, width=96))
    for config, num, measured in ((thin, 50, 4320), (thin, 100, 8704), (thin, 200, 9696), (NANO, 291, 17_600)):
        assert 1 / 1.5 < memorizing_begins(config, num) / measured < 1.5


def test_copies_count_once() -> None:
    index = object.__new__(DatasetIndex)
    index.facts = np.zeros(5, FACTS)
    index.facts["sha256"][:, 0] = [1, 2, 2, 3, 3]
    assert [num_different(index, torch.tensor(rows)) for rows in ([0, 1, 2, 3, 4], [1, 2], [0])] == [3, 1, 1]


def test_the_forecast_is_a_sentence() -> None:
    train = TrainConfig(images=90_000, stop_early=True)
    assert forecast_sentence(140_000, train) == (
        "from about 140,000 images on it would begin to learn its pictures by heart; your plan shows 90,000"
    )
    assert forecast_sentence(40_000, train).endswith(
        "shows up to 90,000, and stops by itself where that is so (--no-stop goes on)"
    )
    assert forecast_sentence(40_000, replace(train, stop_early=False)).endswith("more pictures or fewer --images help")
    assert "140,000 images on or later it would" in forecast_sentence(140_000, replace(train, dropout=0.1))
    stopped = replace(train, images=30_000, planned_images=90_000)
    assert forecast_sentence(40_000, stopped) == forecast_sentence(40_000, train)


@pytest.mark.parametrize(("num", "held_out"), [(100, 3), (159, 4), (160, 16), (300, 16), (600, 18), (10**6, 30_000)])
def test_a_small_folder_holds_out_enough_to_stop_by(num: int, held_out: int) -> None:
    train = TrainConfig(stop_early=True)
    assert held_out_share(train, num) * num == pytest.approx(held_out, abs=0.8)
    assert held_out_share(replace(train, stop_early=False), num) == train.held_out
    assert held_out_share(replace(train, held_out=0.0), num) == 0.0
    assert MIN_HELD_OUT == 16


def test_the_plan_has_the_forecast(tmp_path: Path, tiny_nano: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MEASURE_SECONDS", 0.01)
    write_pictures(tmp_path / "pictures")
    config = replace(tiny_preset(), train=replace(tiny_preset().train, stop_early=True))
    request = TrainRequest(
        data=tmp_path / "pictures",
        out=tmp_path / "run",
        config=config,
        images=10**6,
        device="cpu",
        dry_run=True,
        plan=tmp_path / "plan.json",
    )
    train(request, Console(quiet=True))
    written = json.loads((tmp_path / "plan.json").read_text())
    assert written["memorizing_begins"] == memorizing_begins(config, written["pictures"])
    assert written["forecast"] == forecast_sentence(written["memorizing_begins"], replace(config.train, images=10**6))
    assert written["few_pictures"]
    assert written["stop_early"]
