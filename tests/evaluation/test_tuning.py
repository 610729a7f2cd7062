"""Guidance and steps chosen from data, with a program that checks captions and without."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.evaluation.conftest import SMALL, opened

from tintype.cli.main import main
from tintype.config import Config, DistillConfig
from tintype.data.thread_pool import finished
from tintype.evaluation.features import scattering
from tintype.evaluation.results import SamplingSetting, TuningResult
from tintype.evaluation.shapes_accuracy import caption_tasks
from tintype.evaluation.tuning import (
    CaptionCriterion,
    FrechetCriterion,
    Trial,
    best_trial,
    compare_settings,
    fewest_steps,
    tune,
)
from tintype.metrics.intervals import UNKNOWN, Estimate, mean, proportion

PLAIN = SamplingSetting(steps=4, guidance=1.0, score=UNKNOWN, all_right=None, evaluations=1.0)


class Known:
    """Judges each setting by numbers that are known: how far its guidance is from 2, and what steps add."""

    captions, name, higher_is_better = ["a", "b"] * 5, "nearness", True

    def __init__(self) -> None:
        self.asked: list[tuple[int, float]] = []

    def measure(self, pictures: list[Image.Image]) -> torch.Tensor:
        assert len(pictures) == len(self.captions)
        return torch.linspace(0, 0.1, 10).double() + KNOWN[len(self.asked)]

    def score(self, measurements: torch.Tensor) -> Estimate:
        self.asked.append((0, 0))
        return mean(measurements)

    def all_right(self, measurements: torch.Tensor) -> None:
        return None

    def advantage(self, first: torch.Tensor, second: torch.Tensor) -> Estimate:
        return mean(first - second)


# Guidance 1, 2, 3, 5 with 4 steps, then 8, 12, 16 and 24 steps with guidance 2.
KNOWN = [0.1, 0.4, 0.3, 0.2, 0.6, 0.7, 0.7, 0.7]


def trial_of(steps: int, right: torch.Tensor) -> Trial:
    figure = mean(right)
    setting = SamplingSetting(steps=steps, guidance=3, score=figure, all_right=proportion(0, 1), evaluations=1)
    return Trial(setting, torch.stack([right, right], dim=1))


def test_the_fewest_steps_that_are_not_clearly_worse_are_chosen() -> None:
    noise = torch.rand(200, generator=torch.Generator().manual_seed(0)) * 0.1
    bad, good, most = (noise + level for level in (0.3, 0.8, 0.8005))
    criterion = CaptionCriterion(caption_tasks("train", 1, set()))
    trials = [trial_of(8, bad), trial_of(16, good + 0.01 * noise.flip(0)), trial_of(32, most)]
    assert best_trial(trials, criterion).setting.steps == 32
    assert fewest_steps(trials, criterion).steps == 16
    assert fewest_steps(trials[:1], criterion).steps == 8


@pytest.mark.slow
def test_the_best_guidance_and_the_fewest_steps_as_good_are_taken(cautious: Path, drawings: Path, cache: Path) -> None:
    pipeline, _ = opened(cautious, drawings, cache)
    result = finished(compare_settings(pipeline, Known(), seed=0))
    assert (result.best.steps, result.best.guidance) == (12, 2.0)
    order = [(setting.guidance, setting.steps) for setting in result.settings]
    assert order == [(1, 4), (2, 4), (2, 8), (2, 12), (2, 16), (2, 24), (3, 4), (5, 4)]
    costs = {(setting.guidance, setting.steps): setting.evaluations for setting in result.settings}
    assert costs[2, 24] > costs[2, 4] >= costs[1, 4] >= 4


def test_without_a_checker_the_setting_nearest_to_real_pictures_is_best(
    cautious: Path, drawings: Path, cache: Path
) -> None:
    _, data = opened(cautious, drawings, cache)
    criterion = FrechetCriterion(data, scattering, 16, replace(SMALL, samples=80))
    assert len(criterion.captions) == 80
    real = data.squares(data.unseen, 16)
    real = real.repeat(2, 1, 1, 1)[:80]
    washed = ((real.float() - 128) * 0.5 + 128).to(torch.uint8)

    def trial_of(steps: int, pictures: torch.Tensor) -> Trial:
        images = [Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()) for picture in pictures]
        measurements = criterion.measure(images)
        return Trial(replace(PLAIN, steps=steps, score=criterion.score(measurements)), measurements)

    trials = [trial_of(8, washed), trial_of(12, real), trial_of(16, real)]
    assert trials[1].setting.score.value < trials[0].setting.score.value
    assert best_trial(trials, criterion).setting.steps == 12
    assert fewest_steps(trials, criterion).steps == 12


@pytest.mark.slow
def test_settings_are_chosen_by_likeness_where_pictures_are_not_of_the_world(
    cautious: Path, drawings: Path, cache: Path
) -> None:
    pipeline, data = opened(cautious, drawings, cache)
    data = replace(data, is_drawn=False)
    notes: list[str] = []
    result = finished(tune(pipeline, data, SMALL, notes))
    assert isinstance(result, TuningResult)
    assert result.criterion.startswith("Fréchet distance")
    assert result.best in result.settings
    assert notes == []
    assert finished(tune(pipeline, data, replace(SMALL, samples=16), notes)) is None
    assert "not compared" in notes[0]
    pipeline.config = replace(pipeline.config, distill=DistillConfig(teacher="t", steps=4))
    assert finished(tune(pipeline, data, SMALL, notes)) is None
    assert "distilled model" in notes[1]


@pytest.mark.slow
def test_tune_compares_alone_and_saves_if_asked(
    cautious: Path, drawings: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "mine"
    model.mkdir()
    for path in cautious.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    command = ["evaluate", str(model), "--data", str(drawings), "--cache", str(cache), "--asked", "8", "--tune"]
    before = (model / "config.json").read_text(encoding="utf-8")
    assert main(command) == 0
    output = capsys.readouterr().out
    assert "share of what captions say, 16 captions" in output
    assert "now 4 and 3" in output
    assert "note: --save writes the best settings into the model" in output
    assert (model / "config.json").read_text(encoding="utf-8") == before
    assert not (model / "evaluation").exists()
    assert main([*command, "--save", "--json"]) == 0
    chosen = json.loads(capsys.readouterr().out)["chosen"]
    config = Config.from_json((model / "config.json").read_text(encoding="utf-8"))
    assert (config.sample.steps, config.sample.guidance) == (chosen["steps"], chosen["guidance"])
    assert main(["evaluate", str(model), *command[1:]]) == 2
    assert "--tune takes one model" in capsys.readouterr().err
