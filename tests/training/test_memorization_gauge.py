"""What a run finds out about knowing its pictures by heart, on errors that are known and in a run."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tests.training.conftest import tiny_preset
from torch import Tensor

from tintype.config import PRESETS, Config
from tintype.data.cache.dataset_cache import DatasetCache
from tintype.data.cache.open_or_build import build_cache
from tintype.data.images.decode import preprocess_for
from tintype.data.sources.find import find_pairs
from tintype.data.thread_pool import finished
from tintype.diffusion.exact import finite_denoiser
from tintype.diffusion.loss import noise_error
from tintype.diffusion.noise import Purpose, add_noise, normal
from tintype.shapes.write import write_shapes
from tintype.training.core.trainer import Trainer
from tintype.training.core.validation_error import LEVELS
from tintype.training.monitor.log_rows import read_log
from tintype.training.monitor.memorization_gauge import OVERALL, MemorizationGauge
from tintype.training.run import TrainRequest, train

ENOUGH = 1e6  # seconds of training


class Unread:
    """Takes the place of a text encoder."""

    identity = "unread"

    def text_embeddings(self, captions: list[str]) -> list[Tensor]:
        return [torch.zeros(1, dtype=torch.int64) for _ in captions]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DatasetCache:
    folder = tmp_path_factory.mktemp("data")
    write_shapes(folder / "drawings", 100, seed=1, size=8)
    pairs, _ = find_pairs(folder / "drawings")
    return finished(build_cache(pairs, preprocess_for(8, patch=4), folder / "pack", Unread()))


def held_out(config: Config) -> Config:
    return replace(config, train=replace(config.train, held_out=0.3))


def test_the_gauge_is_one_by_heart_and_zero_for_one_that_understands(dataset: DatasetCache, tiny: Config) -> None:
    gauge = MemorizationGauge(dataset, held_out(tiny))
    ideal = finished(gauge.ideal_errors(ENOUGH))
    assert ideal is not None
    unseen = torch.rand(30, len(LEVELS), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
    by_heart = gauge.ratios(unseen, ideal, ideal)
    assert set(by_heart) == {"0.1", "0.3", "1", "3", "10", OVERALL}
    assert all(estimate.value == pytest.approx(1) for estimate in by_heart.values())
    alike = unseen.mean(0).expand(len(ideal), -1)
    assert all(
        abs(estimate.value) < 1e-6 and estimate.low < 0 < estimate.high
        for estimate in gauge.ratios(unseen, alike, ideal).values()
    )
    halfway = gauge.ratios(unseen, (alike + ideal) / 2, ideal)
    assert all(estimate.value == pytest.approx(0.5, abs=1e-6) for estimate in halfway.values())


def test_with_few_pictures_and_where_nothing_can_be_told_nothing_is(dataset: DatasetCache, tiny: Config) -> None:
    gauge, ones = MemorizationGauge(dataset, held_out(tiny)), torch.ones(20, len(LEVELS), dtype=torch.float64)
    assert gauge.ratios(ones[:3], ones, ones) == {}
    assert gauge.ratios(ones, ones, ones) == {}  # held-out pictures are no harder than training pictures by heart
    assert gauge.ratios(ones, 0 * ones, None)[OVERALL].value == 1  # 0 stands where the ideal is not known


def test_the_ideal_is_that_of_the_pictures_trained_on_and_waits_until_it_is_cheap(
    dataset: DatasetCache, tiny: Config
) -> None:
    gauge = MemorizationGauge(dataset, held_out(tiny))
    assert finished(gauge.ideal_errors(0.0)) is None
    assert finished(gauge.ideal_errors(1e-3)) is None
    errors = finished(gauge.ideal_errors(ENOUGH))
    assert errors is not None
    assert finished(gauge.ideal_errors(0.0)) is errors  # known by now
    training, _ = dataset.split(0.3)
    assert set(gauge.indices.tolist()) <= set(training.tolist())
    assert len(gauge.indices) == min(64, len(training))
    # Of one picture, among those that share its caption.
    held_index = int(gauge.indices[5])
    points = [index for index in training.tolist() if dataset.choices[held_index][0] in dataset.choices[index]]
    x0 = dataset.pictures(torch.tensor([held_index])).float() / 127.5 - 1
    noise = normal(tiny.train.seed, Purpose.EVALUATE, torch.tensor([held_index]), tuple(x0.shape[1:]))
    sigma = torch.tensor([3.0])
    alike = dataset.pictures(torch.tensor(points)).float() / 127.5 - 1
    expected = noise_error(finite_denoiser(alike)(add_noise(x0, noise, sigma), sigma), x0, sigma)
    assert float(errors[5, LEVELS.index(3.0)]) == pytest.approx(float(expected), abs=1e-6)


def test_samples_that_lie_in_no_copy_have_no_ideal(make_trainer: Callable[..., Trainer], tiny: Config) -> None:
    trainer = make_trainer(tiny)
    assert finished(MemorizationGauge(trainer._samples, tiny).ideal_errors(ENOUGH)) is None


def test_a_look_repeats_exactly(make_trainer: Callable[..., Trainer], tiny: Config) -> None:
    trainer = make_trainer(tiny)
    pictures = MemorizationGauge(trainer._samples, tiny).indices
    first, again = (trainer.noise_errors(pictures)["true"] for _ in range(2))
    assert first.shape == (9, len(LEVELS))
    assert torch.equal(first, again)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_nano")
def test_a_run_logs_the_gauge_and_its_card_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tintype.training.monitor.memorization_gauge.IDEAL_TIME_SHARE", 1e9)  # any time is enough
    monkeypatch.setitem(PRESETS, "nano", lambda resolution=8: held_out(tiny_preset(resolution)))
    write_shapes(tmp_path / "drawings", 80, seed=1, size=8)
    data, out = tmp_path / "drawings", tmp_path / "run"
    train(TrainRequest(data=data, out=out, images=16, text="learned", device="cpu"), Console(file=io.StringIO()))
    row = read_log(out / "log.jsonl")[-1]
    logged = {name: row[name] for name in ("noise_error", "noise_error_training", "noise_error_ideal")}
    assert all(set(levels) == {"0.1", "0.3", "1", "3", "10"} for levels in logged.values())
    assert all(
        logged["noise_error_ideal"][level] <= logged["noise_error_training"][level] for level in ("1", "3", "10")
    )
    gauge, low, high = row["memorization"][OVERALL]
    assert low <= gauge <= high
    assert abs(gauge) < 0.5  # after two steps it knows nothing by heart
    assert all(math.isfinite(number) for estimate in row["memorization"].values() for number in estimate)
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "| sigma | held out | training | gauge |" in card
    assert "The gauge of all levels" in card
    errors = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert errors["images_seen"] == 16
    assert set(errors) - {"images_seen"} <= set(row)
    for level, error in errors["noise_error"].items():
        assert f"| {level} | {error:.4f} | {errors['noise_error_training'][level]:.4f} |" in card
