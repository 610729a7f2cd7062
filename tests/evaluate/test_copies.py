"""Copies among samples, from pictures to what the report says of them."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from tests.evaluate.conftest import SMALL, opened
from torch import Tensor

from tintype.data.parallel import finished
from tintype.evaluate.features import scattering
from tintype.evaluate.material import Material
from tintype.evaluate.results import Copies
from tintype.evaluate.sampled import near_copies


def judged(material: Material, pictures: Tensor) -> tuple[Copies, list[str]]:
    images = [Image.fromarray(one.permute(1, 2, 0).contiguous().numpy()) for one in pictures]
    notes: list[str] = []
    work = near_copies(material, [f"number {n}" for n in range(len(images))], images, scattering, SMALL, notes)
    copies, neighbors, _ = finished(work)
    assert copies is not None
    assert sum(near.alarmed for near in neighbors) == min(copies.num_alarmed, len(neighbors))
    return copies, notes


def test_copies_are_all_found_and_pictures_held_out_are_none(cautious: Path, drawings: Path, cache: Path) -> None:
    _, material = opened(cautious, drawings, cache)
    taken = judged(material, material.squares(material.seen[:40], 16))[0]
    assert (taken.num_alarmed, taken.num, taken.distance) == (40, 40, 0.0)
    assert taken.share.low > 0.9
    honest, notes = judged(material, material.squares(material.unseen[:40], 16))
    assert honest.num_alarmed == 0
    assert honest.calibrated_on == "held-out pictures"
    assert honest.distance_unseen > 0
    assert any("to calibrate it on" in note for note in notes)


def test_half_copies_are_counted_as_half(cautious: Path, drawings: Path, cache: Path) -> None:
    _, material = opened(cautious, drawings, cache)
    mixed = torch.cat([material.squares(material.seen[:30], 16), material.squares(material.unseen[:30], 16)])
    found, _ = judged(material, mixed)
    assert found.num_alarmed == 30
    assert found.share.low < 0.5 < found.share.high


def test_without_pictures_held_out_the_alarm_is_set_on_training_pictures(
    cautious: Path, drawings: Path, cache: Path
) -> None:
    _, material = opened(cautious, drawings, cache)
    alone = Material("alone", material.pack, material.seen, material.unseen[:0])
    found, notes = judged(alone, material.squares(material.seen[:20], 16))
    assert found.num_alarmed == 20
    assert found.calibrated_on.startswith("training pictures")
    assert any("since next to none are held out" in note for note in notes)
