"""A budget of time becomes a number of images that fits in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tintype.config import Config, TrainConfig, nano
from tintype.training.console import duration
from tintype.training.core.trainer import Trainer
from tintype.training.setup import auto_preset, plan, prepare
from tintype.training.setup.plan import Speed
from tintype.training.setup.request import TrainRequest
from tintype.training.setup.resolve_config import at_resolution

TRAIN = TrainConfig(batch_size=32, save_minutes=5.0, sample_minutes=5.0)


@given(
    seconds=st.floats(1, 1e6),
    speed=st.builds(Speed, st.floats(0.1, 1e5), st.floats(0, 20), st.floats(0, 20)),
)
def test_the_planned_images_fit_the_time_or_are_one_batch(seconds: float, speed: Speed) -> None:
    images = plan.images_within(seconds, speed, TRAIN)
    assert images % 32 == 0
    assert images >= 32
    if images > 32:
        assert plan.expected_seconds(images, speed, TRAIN) <= seconds


def test_pauses_are_counted() -> None:
    free, costly = Speed(10.0, 0.0, 0.0), Speed(10.0, 20.0, 10.0)
    assert plan.images_within(1800, free, TRAIN) == 1800 * 0.97 * 10 // 32 * 32
    assert plan.images_within(1800, costly, TRAIN) == (1800 * 0.97 - 7 * 30) * 10 // 32 * 32


def test_measuring_takes_its_share_of_the_budget_and_at_least_two_steps(
    make_trainer: Callable[..., Trainer],
) -> None:
    trainer = make_trainer()
    sampled = []
    speed = plan.measure(trainer, 1e-9, lambda: sampled.append(1) or 2.5)
    assert trainer.images_seen == 12
    assert sampled == [1]
    assert speed.images_per_second > 0
    assert speed.save_seconds > 0
    assert speed.longer_seconds == 2.5
    assert speed.num_weights == sum(weight.numel() for weight in trainer.denoiser.parameters())
    assert speed.last_save_seconds == (speed.checkpoint_bytes + speed.model_bytes) / plan.SAVE_BYTES_PER_SECOND
    assert speed.checkpoint_bytes > 4 * 4 * speed.num_weights  # weights, two averages and the optimizer
    assert speed.memory_bytes > speed.checkpoint_bytes


@pytest.mark.parametrize(
    ("batch", "images", "smaller"),
    [(512, 50_000, "32"), (512, 300_000, "256"), (512, 512_000, None), (32, 960, None), (64, 6400, "32")],
)
def test_few_steps_in_large_batches_are_said(batch: int, images: int, smaller: str | None) -> None:
    train = replace(TRAIN, batch_size=batch, images=images)
    notes = plan.few_steps(train)
    assert len(notes) == (smaller is not None)
    if smaller is not None:
        assert f"{images // batch} steps are few; with a smaller --batch-size, such as {smaller}, " in notes[0]


def test_the_last_save_is_waited_for() -> None:
    speed = Speed(10.0, 0.0, 0.0, last_save_seconds=100.0)
    assert plan.images_within(1800, speed, TRAIN) == (1800 * 0.97 - 100) * 10 // 32 * 32


def test_both_measurements_and_both_files_at_the_end_are_part_of_the_plan() -> None:
    speed = Speed(10.0, 20.0, 10.0, last_save_seconds=3.0, longer_seconds=8.0)
    assert plan.finish_seconds(speed) == 41.0
    assert plan.expected_seconds(320, speed, TRAIN) == 32 + 41
    assert plan.images_within(100, speed, TRAIN) == (97 - 41) * 10 // 32 * 32


def test_the_plan_says_what_a_run_will_need() -> None:
    config = replace(nano(), train=replace(nano().train, images=100_000, keep_every=40_000, micro_batch=4))
    speed = Speed(50.0, 4.0, 0.1, 1.0, checkpoint_bytes=100 * 2**20, memory_bytes=2 * 2**30, num_weights=5_000_000)
    plan_, needs = plan.plan_lines(config, 50_000, speed, 10 * 2**20, 2)
    assert "100,000 images in batches of 32, 4 at a time, by 2 processes, 2.0 times each" in plan_
    assert "at 50.0 images/s that takes 34 min" in plan_
    # 4 newest and best, 2 kept for good, 1 being written, and the data
    assert "710 MiB of disk (100 MiB a checkpoint, 10 MiB of data), 2.0 GiB of memory; 50,000 samples an epoch" in needs
    weighted = plan.plan_lines(config, 50_000, speed, 0, 1, 90_000)
    assert "2.0 times each on average, by their weights" in weighted[0]
    assert weighted[1].endswith("; 90,000 samples an epoch")
    assert len(plan.plan_lines(config, 1000, None, 0, 1)) == 1


def test_a_run_too_short_for_its_size_is_told_so() -> None:
    config = replace(nano(128), train=replace(nano(128).train, images=40_000))
    mixed = Speed(40.0, 0.0, 0.0, full_size_per_second=15.0)  # 32,000 of half the size in 800 s, 8,000 in 533 s
    assert "as long as 20,000 images of 128 pixels" in plan.short_note(config, mixed)
    assert plan.short_note(config, Speed(40.0, 0.0, 0.0)) == ""  # all of them are of full size
    assert plan.short_note(replace(nano(), train=replace(nano().train, images=32)), Speed(40.0, 0.0, 0.0)) == ""
    assert plan.short_note(config, None) == ""


@pytest.mark.parametrize(("rate", "preset"), [(1e9, "base"), (300.0, "small"), (0.1, "nano")])
def test_the_largest_preset_that_can_learn_in_time_is_chosen(
    monkeypatch: pytest.MonkeyPatch, rate: float, preset: str
) -> None:
    weights = {"base": 40_000_000, "small": 17_000_000, "nano": 5_000_000}
    monkeypatch.setattr(auto_preset, "measure_preset", lambda config, device, bf16: (rate, weights[config.preset]))
    config = auto_preset.auto_preset("base", 600.0, 64, torch.device("cpu"), bf16=False)
    assert (config.preset, config.net.resolution) == (preset, 64)


def test_a_preset_is_measured_on_made_up_pictures(tiny: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_preset, "_SECONDS", 0.05)
    rate, num_weights = auto_preset.measure_preset(tiny, torch.device("cpu"), False)
    assert rate > 0
    assert num_weights > 1000


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (47, "47 s"), (750, "12 min"), (12_000, "3 h 20 min"), (7200, "2 h 00 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("bf16_is_slow", [False, True])
def test_whole_steps_in_both_precisions_decide(monkeypatch: pytest.MonkeyPatch, bf16_is_slow: bool) -> None:
    class Steps:
        def __init__(self, *args: object, bf16: bool) -> None:
            self.work = 200_000 if bf16 == bf16_is_slow else 10_000

        def steps(self, until: int) -> Iterator[int]:
            while True:
                yield sum(range(self.work))

    monkeypatch.setattr(auto_preset, "Trainer", Steps)
    monkeypatch.setattr(auto_preset, "_SECONDS", 0.1)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    assert auto_preset.bf16_steps_are_faster(nano(8), torch.device("cpu")) == (not bf16_is_slow)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_a_model_that_is_to_be_shared_out_is_not_tried_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(prepare, "bf16_is_faster", lambda device: True)
    monkeypatch.setattr(prepare, "bf16_steps_are_faster", lambda config, device, make_denoiser: False)
    request = TrainRequest(data="d", out=tmp_path, shard=True)
    assert prepare._uses_bf16(request, nano(8), torch.device("cpu"))
    assert not prepare._uses_bf16(replace(request, shard=False), nano(8), torch.device("cpu"))


@pytest.mark.parametrize("side", [16, 64, 128])
def test_noise_levels_and_where_weights_fade_move_with_the_resolution(side: int) -> None:
    for made in (nano(side).noise, at_resolution(nano(32), side).noise):
        assert made.log_sigma_mean == pytest.approx(nano(32).noise.log_sigma_mean + 0.5 * math.log(side / 32), abs=1e-3)
        assert made.weight_fade == pytest.approx(nano(32).noise.weight_fade * side / 32)
        assert made.log_sigma_std == pytest.approx(nano(32).noise.log_sigma_std + 0.15 * math.log2(side / 32))


@pytest.mark.parametrize(("side", "highest"), [(16, 10), (32, 10), (128, 40)])
def test_guidance_acts_up_to_more_noise_in_larger_pictures(side: int, highest: float) -> None:
    for config in (nano(side), at_resolution(nano(32), side)):
        assert config.sample.guidance_max == highest
