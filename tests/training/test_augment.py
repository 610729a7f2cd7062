"""Augmentation: how pictures are changed, that the network is told, and that zeros mean none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tintype.config import Config, TrainConfig
from tintype.data.sides import names_side
from tintype.model.nets.conditioning import CaptionKV
from tintype.training.core.augment import (
    BRIGHTNESS,
    CONTRAST,
    MAX_BRIGHTNESS,
    MIRROR,
    NUM_LABELS,
    SATURATION,
    SCALE,
    SHIFT_X,
    SHIFT_Y,
    augmented,
    labels_at,
)
from tintype.training.core.batches import Reader
from tintype.training.core.trainer import Trainer

Make = Callable[..., Trainer]
TRAIN = TrainConfig(augment=0.3)


def square(row: int = 12, column: int = 12, side: int = 32) -> Tensor:
    """A bright square of 8 pixels on gray: uint8 [1, 3, side, side]."""
    picture = torch.full((1, 3, side, side), 100, dtype=torch.uint8)
    picture[..., row : row + 8, column : column + 8] = 220
    return picture


def labels(**values: float) -> Tensor:
    row = torch.zeros(1, NUM_LABELS)
    names = {"mirror": MIRROR, "x": SHIFT_X, "y": SHIFT_Y, "scale": SCALE, "brightness": BRIGHTNESS}
    names |= {"contrast": CONTRAST, "saturation": SATURATION}
    for name, value in values.items():
        row[0, names[name]] = value
    return row


def box(picture: Tensor) -> tuple[float, float, float]:
    """Center and side of the bright square, in pixels: row, column, side."""
    weight = (picture[0].float().mean(0) - 100).clamp(min=0) / 120
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    total = weight.sum()
    return float((weight * rows).sum() / total), float((weight * columns).sum() / total), float(total.sqrt())


def test_each_position_has_its_own_changes_in_any_batch() -> None:
    positions = torch.arange(20_000)
    mirrorable = positions % 2 == 0
    drawn = labels_at(TRAIN, positions, mirrorable)
    assert torch.equal(labels_at(TRAIN, positions[777:800], mirrorable[777:800]), drawn[777:800])
    assert drawn.shape == (20_000, NUM_LABELS)
    assert drawn.abs().max() <= 1
    changed = drawn != 0
    for column in (SHIFT_X, SHIFT_Y, SCALE, BRIGHTNESS, CONTRAST, SATURATION):
        assert float(changed[:, column].double().mean()) == pytest.approx(0.3, abs=0.02)
        assert abs(float(drawn[changed[:, column], column].mean())) < 0.03
    assert not changed[~mirrorable, MIRROR].any()
    assert float(changed[mirrorable, MIRROR].double().mean()) == pytest.approx(0.5, abs=0.02)
    both = changed[:, SCALE] & changed[:, BRIGHTNESS]
    assert float(both.double().mean()) == pytest.approx(0.09, abs=0.01)  # independent of each other


def test_zeros_leave_a_picture_as_it_is_and_a_mirror_is_exact() -> None:
    pictures = (torch.arange(2 * 3 * 8 * 6).reshape(2, 3, 8, 6) % 256).to(torch.uint8)
    assert torch.equal(augmented(pictures, torch.zeros(2, NUM_LABELS)), pictures)
    told = torch.zeros(2, NUM_LABELS)
    told[1, MIRROR] = 1
    mirrored = augmented(pictures, told)
    assert torch.equal(mirrored[0], pictures[0])
    assert torch.equal(mirrored[1], pictures[1].flip(-1))


def test_a_picture_is_moved_and_scaled_by_what_the_labels_say() -> None:
    row, column, side = box(augmented(square(), labels(x=0.5, y=-1.0)))
    assert (row, column, side) == pytest.approx((15.5 - 4, 15.5 + 2, 8), abs=0.05)
    row, column, side = box(augmented(square(), labels(scale=1.0)))
    assert (row, column) == pytest.approx((15.5, 15.5), abs=0.05)
    assert side == pytest.approx(8 * 2.71828**0.25, abs=0.2)
    moved = augmented(square(4, 6), labels(scale=-0.8, x=0.6, mirror=1.0))  # mirrored first, then scaled, then moved
    row, column, _ = box(moved)
    shrink = 2.71828 ** (-0.2)
    assert row == pytest.approx(15.5 + (7.5 - 15.5) * shrink, abs=0.1)
    assert column == pytest.approx(15.5 - (9.5 - 15.5) * shrink + 0.6 * 4, abs=0.1)


def test_colors_change_by_what_the_labels_say() -> None:
    picture = square()
    brighter = augmented(picture, labels(brightness=1.0)).float() - picture.float()
    assert (brighter == MAX_BRIGHTNESS).all()
    spread = picture.float().std()
    assert augmented(picture, labels(contrast=-1.0)).float().std() == pytest.approx(float(spread) * 0.7788, rel=0.01)
    assert torch.equal(augmented(picture, labels(saturation=1.0)), picture)  # gray has no color to strengthen
    red = torch.tensor([150, 100, 80]).to(torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    paler = augmented(red, labels(saturation=-1.0))[0, :, 0, 0].tolist()
    assert paler == pytest.approx([110 + 40 * 0.6065, 110 - 10 * 0.6065, 110 - 30 * 0.6065], abs=0.6)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("an arrow to the left", True),
        ("Right arrow", True),
        ("clockwise arrows", True),
        ("ein Pfeil nach links", True),
        ("左矢印", True),
        ("a leftover pizza", False),
        ("a bright red apple", False),
        ("eine rechteckige Form", False),
        ("", False),
    ],
)
def test_captions_that_name_a_side(caption: str, expected: bool) -> None:
    assert names_side(caption) is expected


def test_what_is_told_is_added_along_directions_of_its_own() -> None:
    text = CaptionKV((), (), torch.ones(2, 3, dtype=torch.bool), torch.randn(2, 32))
    assert torch.equal(text.told(torch.zeros(2, NUM_LABELS)).pooled_text, text.pooled_text)
    added = text.told(torch.eye(NUM_LABELS)[:2]).pooled_text - text.pooled_text
    assert added.square().mean(1) == pytest.approx(torch.ones(2), abs=1e-4)  # as long as a token
    directions = CaptionKV((), (), text.mask, torch.zeros(NUM_LABELS, 32)).told(torch.eye(NUM_LABELS)).pooled_text
    assert torch.allclose(directions @ directions.T / 32, torch.eye(NUM_LABELS), atol=1e-5)


def test_a_batch_has_changed_pictures_and_their_labels(make_trainer: Make, tiny: Config) -> None:
    config = replace(tiny, train=replace(tiny.train, augment=0.5))
    trainer = make_trainer(config)
    positions = torch.arange(16)
    (batch,) = trainer._read.batches(positions)
    (plain,) = Reader(trainer._samples, trainer._training, tiny.train, 0).batches(positions)
    assert plain.labels is None
    indices = trainer.samples_at(positions)
    assert torch.equal(batch.labels, labels_at(config.train, positions, indices % 2 == 0))
    assert torch.equal(batch.pictures, augmented(plain.pictures, batch.labels))
    part = batch.slice(3, 5)
    assert torch.equal(part.labels, batch.labels[3:5])


def test_the_network_is_told_and_learns_to_tell_changes_apart(make_trainer: Make, tiny: Config) -> None:
    trainer = make_trainer(replace(tiny, train=replace(tiny.train, augment=0.5)))
    for _ in trainer.steps(32):
        pass
    denoiser = trainer.denoiser
    cond = denoiser.condition([torch.ones(1, 4).half()])
    x, sigma = torch.randn(1, 3, 8, 8), torch.ones(1)
    with torch.no_grad():
        untold, zero = denoiser(x, sigma, cond), denoiser(x, sigma, cond, torch.zeros(1, NUM_LABELS))
        told = denoiser(x, sigma, cond, labels(brightness=1.0))
    assert torch.equal(untold, zero)
    assert not torch.equal(untold, told)
