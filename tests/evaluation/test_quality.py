"""Features that see what they should, Fréchet distances of known Gaussians, precision and recall of known sets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tintype.diffusion.noise import normal
from tintype.errors import ConfigError, MissingExtraError
from tintype.evaluation.features import features_of, scattering
from tintype.evaluation.quality import (
    Projection,
    corrected_frechet,
    frechet_difference,
    frechet_distance,
    precision_recall,
)


def gaussian(first: int, num: int, dimensions: int = 8) -> Tensor:
    return normal(9, 0, torch.arange(first, first + num), (dimensions,)).double()


def stripes(length: int, across: bool = False, size: int = 32) -> Tensor:
    row = ((torch.arange(size) * 2 // length) % 2 * 255).to(torch.uint8)
    picture = row.expand(3, size, size)
    return (picture.transpose(1, 2) if across else picture)[None].contiguous()


def test_a_flat_picture_has_a_color_and_nothing_else() -> None:
    flat = torch.tensor([200, 40, 90], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 40, 24)
    features = scattering(flat)
    assert features.shape == (2, 132)
    assert bool((features[:, :48].abs() > 0.05).all())
    assert float(features[:, 48:].abs().max()) < 1e-5


def test_waves_of_a_length_and_direction_are_told_apart() -> None:
    """Brightness of an octave: four directions by four places, directions first."""
    starts = (48, 48 + 24, 48 + 24 + 25)  # where each octave begins
    for octave, length in enumerate((4, 8, 16)):
        strength = torch.stack([scattering(stripes(length))[0, s : s + 16].mean() for s in starts])
        assert int(strength.argmax()) == octave
    upright, lying = (scattering(stripes(4, across))[0, 48:64].reshape(4, 4).mean(1) for across in (False, True))
    assert int(upright.argmax()) == 0
    assert int(lying.argmax()) == 2


def test_what_looks_alike_lies_near() -> None:
    pictures = (normal(3, 0, torch.arange(4), (3, 8, 8)) * 40 + 128).clamp(0, 255).repeat_interleave(4, 2)
    pictures = pictures.repeat_interleave(4, 3).to(torch.uint8)
    base = scattering(pictures)
    moved = scattering(pictures.roll(1, 3))
    others = torch.cdist(base, base)[~torch.eye(4, dtype=torch.bool)]
    assert float((base - moved).norm(dim=1).max()) < 0.5 * float(others.min())


def test_the_distance_of_two_gaussians_is_the_closed_form() -> None:
    """Diagonal: |difference of means|^2 + sum of (difference of standard deviations)^2."""
    first = gaussian(0, 40_000)
    scale, shift = torch.linspace(0.5, 2, 8).double(), torch.linspace(-1, 1, 8).double()
    exact = float((shift.square() + (scale - 1).square()).sum())
    assert frechet_distance(first, gaussian(40_000, 40_000) * scale + shift) == pytest.approx(exact, rel=0.02)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_the_corrected_distance_has_no_bias_to_speak_of() -> None:
    real = gaussian(0, 20_000, 16)
    estimates = [corrected_frechet(gaussian(20_000 + 128 * k, 128, 16), real) for k in range(20)]
    raw = sum(frechet_distance(gaussian(20_000 + 128 * k, 128, 16), real) for k in range(20)) / 20
    corrected = sum(estimate.value for estimate in estimates) / 20
    assert raw > 0.5
    assert abs(corrected) < 0.12 * raw
    assert sum(estimate.low <= 0 <= estimate.high for estimate in estimates) >= 17


def test_of_two_sets_made_in_pairs_the_farther_one_is_told_with_a_narrower_interval() -> None:
    real, near = gaussian(0, 20_000), gaussian(20_000, 200)
    shift = torch.full((8,), 0.3).double()
    far, exact = near + shift, float(shift.square().sum())
    difference = frechet_difference(far, near, real)
    alone = corrected_frechet(near, real), corrected_frechet(far, real)
    assert difference.value == pytest.approx(alone[1].value - alone[0].value)
    assert difference.low > 0
    assert difference.low < exact < difference.high
    assert difference.high - difference.low < alone[0].high - alone[0].low + alone[1].high - alone[1].low
    assert frechet_difference(near, near, real) == (0, 0, 0)


def test_pictures_that_are_all_the_mean_are_at_a_distance_of_one() -> None:
    real = normal(1, 0, torch.arange(3000), (40,)) * torch.linspace(0.1, 3, 40)
    project = Projection(real)
    assert frechet_distance(project(real.mean(0).expand(100, -1)), project(real)) == pytest.approx(1.0, abs=1e-6)


def test_precision_and_recall_of_sets_that_are_known() -> None:
    real = gaussian(0, 300)
    same = precision_recall(real, real)
    assert (same[0].value, same[1].value) == (1.0, 1.0)
    far = precision_recall(real + 100, real)
    assert (far[0].value, far[1].value) == (0.0, 0.0)
    modes = torch.cat([gaussian(300, 150), gaussian(450, 150) + 50])
    one_mode = precision_recall(gaussian(600, 300), modes)
    assert one_mode[0].value > 0.8
    assert one_mode[1].value == pytest.approx(0.5, abs=0.1)


def test_unknown_and_missing_features_are_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="scattering, efficientnet, inception or hf:NAME"):
        features_of("best")
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    with pytest.raises(MissingExtraError, match="pip install 'torchmetrics"):
        features_of("inception")


@pytest.mark.slow
def test_any_vision_model_of_transformers_gives_features(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTModel(ViTConfig(image_size=16, patch_size=8, **sizes)).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    features = features_of(f"hf:{tmp_path}")(torch.cat([stripes(4), stripes(8)]))
    assert features.shape == (2, 16)
    assert not torch.equal(features[0], features[1])
    with pytest.raises(ConfigError, match="cannot load the vision model"):
        features_of(f"hf:{tmp_path}/not-there")
