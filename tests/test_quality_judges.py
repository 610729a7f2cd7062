"""The judges of bench/quality.py, on pictures whose answer is known."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture
def judges(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("quality_judges")


@pytest.mark.parametrize(
    ("caption", "kind", "color"),
    [
        ("a watercolor of a peach", "peach", ""),
        ("a watercolor of a red apple", "apple", "red"),
        ("a watercolor of strawberries", "strawberries", ""),
        ("a photo of a child's dress", "dress", ""),
        ("a photo of a pair of shoes", "shoes", ""),
        ("a photo of a child's pair of shoes", "shoes", ""),
        ("a photo of a yellow tulip", "tulip", "yellow"),
        ("a picture of a crab on a black background", "crab", ""),
    ],
)
def test_captions_name_a_kind_and_perhaps_a_color(judges: ModuleType, caption: str, kind: str, color: str) -> None:
    assert judges.subject_of(caption) == (kind, color)


def test_other_captions_name_nothing(judges: ModuleType) -> None:
    assert judges.subject_of("zebra, 3D emoji") is None


def test_kinds_with_few_training_pictures_are_not_judged(judges: ModuleType) -> None:
    subjects = [judges.Subject("pear")] * 10 + [judges.Subject("fig")] * 9 + [None]
    assert judges.labels_of(subjects, range(20)) == (["pear"], [0] * 10 + [-1] * 10)


def two_kinds(num: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy pictures that are brighter at the top, or at the bottom."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(num) % 2
    pictures = torch.randint(0, 120, (num, 3, 64, 64), generator=draw)
    pictures[labels == 0, :, :32] += 100
    pictures[labels == 1, :, 32:] += 100
    return pictures.to(torch.uint8), labels


@pytest.mark.slow
def test_both_judges_learn_what_can_be_told(judges: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judges, "EPOCHS", 6)
    monkeypatch.setattr(judges, "SMALL_SIDE", 32)
    pictures, labels = two_kinds(64, 0)
    unseen, answers = two_kinds(40, 1)
    network = judges.SmallNetworkJudge(pictures, labels, 2)
    assert (network(unseen) == answers).float().mean() > 0.9
    features, others = (part.float().mean(1).flatten(1)[:, ::64] for part in (pictures, unseen))
    assert (judges.LinearJudge(features, labels, 2)(others) == answers).float().mean() > 0.9


def test_a_judge_cannot_tell_what_is_not_there(judges: ModuleType) -> None:
    draw = torch.Generator().manual_seed(0)
    features, labels = torch.randn(200, 30, generator=draw), torch.randint(0, 4, (200,), generator=draw)
    judge = judges.LinearJudge(features, labels, 4)
    share = (judge(torch.randn(400, 30, generator=draw)) == torch.arange(400) % 4).float().mean()
    assert 0.15 < share < 0.35


def test_blur_takes_power_from_high_frequencies(judges: ModuleType) -> None:
    draw = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (64, 3, 64, 64), generator=draw).to(torch.uint8)
    flat = judges.spectrum([noise], 16).power
    assert (flat / flat.mean() - 1).abs().max() < 0.2  # white noise has the same power at all frequencies
    blurred = torch.nn.functional.avg_pool2d(noise.float(), 3, 1, 1).round().to(torch.uint8)
    ratio = judges.spectrum([blurred], 16).power / flat
    assert ratio[1] > 0.7
    assert ratio[-4:].max() < 0.2


def test_sizes_are_measured_together(judges: ModuleType) -> None:
    draw = torch.Generator().manual_seed(0)
    wide, tall = (
        torch.randint(0, 256, (20, 3, *size), generator=draw).to(torch.uint8) for size in ((48, 80), (80, 48))
    )
    both = judges.spectrum([wide, tall], 16).power
    alone = judges.spectrum([wide], 16).power
    assert torch.allclose(both, alone, rtol=0.2)


def test_a_mesh_with_the_period_of_the_patch_is_seen(judges: ModuleType) -> None:
    draw = torch.Generator().manual_seed(0)
    noise = torch.randint(60, 190, (8, 3, 128, 128), generator=draw)
    meshed = noise.clone()
    meshed[..., ::16] += 20
    meshed[..., ::16, :] += 20
    plain, mesh = (judges.spectrum([pictures.to(torch.uint8)], 16).mesh for pictures in (noise, meshed))
    assert 0.7 < plain < 1.4
    assert mesh > 3 * plain
