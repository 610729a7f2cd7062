"""Averages of other widths are mixed from the stored ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tintype.cli.main import main
from tintype.config import Config
from tintype.errors import CheckpointError, ConfigError, TintypeWarning
from tintype.model import checkpoint
from tintype.training.checkpoints.posthoc_ema import Profile, averaged, inner_product, mix_weights
from tintype.training.core.ema import PowerEma, gamma_of

STEPS, BATCH = 400, 10


def test_inner_products_equal_the_integrals() -> None:
    profile, other = Profile(3.0, 4.5), Profile(2.0, 9.0)
    t = (torch.arange(200_000, dtype=torch.float64) + 0.5) * (2.0 / 200_000)
    first = (profile.gamma + 1) * t**profile.gamma / profile.images ** (profile.gamma + 1)
    second = (other.gamma + 1) * t**other.gamma / other.images ** (other.gamma + 1)
    expected = float((first * second).sum()) * 2.0 / 200_000
    assert inner_product(profile, other) == pytest.approx(expected, rel=1e-6)
    assert inner_product(other, profile) == pytest.approx(expected, rel=1e-6)


def test_a_kept_profile_is_found_again_exactly() -> None:
    kept = [Profile(images, gamma_of(width)) for images in (100, 200, 300) for width in (0.05, 0.1)]
    weights, distance = mix_weights(kept, kept[4])
    assert weights.tolist() == pytest.approx([0, 0, 0, 0, 1, 0], abs=1e-5)
    assert distance < 1e-4


class Run:
    """A run whose weights wander, with its checkpoints, and averages of other widths to compare with."""

    def __init__(self, folder: Path, widths: list[float]) -> None:
        self.folder = folder
        torch.manual_seed(0)
        model = nn.Linear(4, 4, bias=False)
        emas = {width: PowerEma(model, width) for width in [0.05, 0.1, *widths]}
        texts = {"config.json": Config().to_json()}
        for step in range(1, STEPS + 1):
            with torch.no_grad():
                model.weight.add_(0.1 * torch.randn(4, 4))
            for ema in emas.values():
                ema.update(step * BATCH, BATCH)
            if step % 25 == 0:
                parts = {"model": emas[0.05].state_dict(), "model_long": emas[0.1].state_dict()}
                state = {"state.json": json.dumps({"images_seen": step * BATCH})}
                checkpoint.save_parts(checkpoint.step_folder(folder, step), parts, texts | state)
        (folder / "config.json").write_text(Config().to_json())
        self.direct = {width: ema.state_dict()["weight"] for width, ema in emas.items()}


@pytest.mark.parametrize("width", [0.07, 0.12, 0.2])
def test_another_width_is_nearly_what_training_would_have_kept(tmp_path: Path, width: float) -> None:
    run = Run(tmp_path / "run", [width])
    average, _, distance, _ = averaged(run.folder, width)
    error = float((average["weight"] - run.direct[width]).norm())
    others = min(float((run.direct[kept] - run.direct[width]).norm()) for kept in (0.05, 0.1))
    assert error < 0.1 * others
    assert distance < 0.03


def test_the_command_writes_a_model_and_refuses_what_cannot_be(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", [])
    out = tmp_path / "model"
    assert main(["average", str(run.folder), "--width", "0.1", "--out", str(out)]) == 0
    weight = checkpoint.read_tensors(out / "model.safetensors")["weight"]
    assert torch.allclose(weight, run.direct[0.1], atol=1e-5)
    assert Config.from_json((out / "config.json").read_text()) == Config()
    assert main(["average", str(run.folder), "--width", "0.1", "--out", str(out)]) == 1
    assert main(["average", str(run.folder), "--width", "2", "--out", str(out)]) == 2
    (checkpoint.step_folder(run.folder, STEPS) / "model.safetensors").write_bytes(b"damaged")
    with pytest.warns(TintypeWarning, match="step-00000400/model.safetensors is damaged.*left out of the average"):
        averaged(run.folder, 0.1)
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        averaged(tmp_path, 0.1)
    with pytest.raises(ConfigError, match="width"):
        averaged(run.folder, 0.0)
