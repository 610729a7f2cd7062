"""Copies among samples, from pictures to what the report says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from tests.evaluation.conftest import SMALL, opened
from torch import Tensor

from tintype.data.thread_pool import finished
from tintype.evaluation.copies import Control, choose_calibration, find_copies
from tintype.evaluation.eval_data import EvalData
from tintype.evaluation.results import CopyCheck, EvalResult, ReportData
from tintype.evaluation.verdict import verdict


def images_of(pictures: Tensor) -> list[Image.Image]:
    return [Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()) for picture in pictures]


def judged(data: EvalData, pictures: Tensor, control: Control | None = None) -> tuple[CopyCheck, list[str]]:
    images, notes = images_of(pictures), list[str]()
    captions = [f"number {n}" for n in range(len(images))]
    calibration = choose_calibration(data, SMALL, notes)
    copies, neighbors = finished(find_copies(data, captions, images, calibration, SMALL, notes, control))
    assert copies is not None
    assert sum(near.alarmed for near in neighbors) == min(copies.num_alarmed, len(neighbors))
    return copies, notes


def test_copies_are_all_found_and_pictures_held_out_are_none(cautious: Path, drawings: Path, cache: Path) -> None:
    _, data = opened(cautious, drawings, cache)
    copies = judged(data, data.squares(data.seen[:40], 16))[0]
    assert (copies.num_alarmed, copies.num, copies.distance) == (40, 40, 0.0)
    assert copies.share.low > 0.9
    honest, notes = judged(data, data.squares(data.unseen[:40], 16))
    assert honest.num_alarmed == 0
    assert honest.calibrated_on == "held-out pictures"
    assert honest.distance_unseen > 0
    assert any("calibrated on" in note for note in notes)


def test_half_copies_are_counted_as_half(cautious: Path, drawings: Path, cache: Path) -> None:
    _, data = opened(cautious, drawings, cache)
    mixed = torch.cat([data.squares(data.seen[:30], 16), data.squares(data.unseen[:30], 16)])
    copies, _ = judged(data, mixed)
    assert copies.num_alarmed == 30
    assert copies.share.low < 0.5 < copies.share.high


def test_a_model_that_comes_as_near_to_pictures_it_never_saw_does_not_copy(
    evaluated: tuple[EvalResult, ReportData], cautious: Path, drawings: Path, cache: Path
) -> None:
    """It draws what captions say so well that both kinds look like copies; only the first kind can be."""
    _, data = opened(cautious, drawings, cache)
    training, other = data.seen[:30], data.unseen[:30]
    result, _ = evaluated
    for indices, honest in ((other, True), (data.unseen[30:60], False)):
        control = Control(images_of(data.squares(other, 16)), indices)
        copies, _ = judged(data, data.squares(training, 16), control)
        assert copies.num_alarmed == 30
        assert copies.control is not None
        assert (copies.control.low > 0.8) is honest
        text = {line.topic: line.text for line in verdict(replace(result, copies=copies))}["copies"]
        assert text.startswith("No more copies than from following captions" if honest else "It copies")


def test_without_pictures_held_out_the_alarm_is_set_on_training_pictures(
    cautious: Path, drawings: Path, cache: Path
) -> None:
    _, data = opened(cautious, drawings, cache)
    alone = EvalData("alone", data.dataset, data.seen, data.unseen[:0])
    copies, notes = judged(alone, data.squares(data.seen[:20], 16))
    assert copies.num_alarmed == 20
    assert copies.calibrated_on.startswith("training pictures")
    assert any("too few pictures are held out" in note for note in notes)


def test_twins_are_counted_among_those_that_the_alarm_is_calibrated_on(
    cautious: Path, drawings: Path, cache: Path
) -> None:
    _, data = opened(cautious, drawings, cache)
    seen = torch.cat([data.seen[:30], data.seen[:7]])  # 14 have a copy among the others, one is much alike
    few = EvalData("few", data.dataset, seen, data.unseen[:7])
    notes = [note for note in judged(few, data.squares(seen[:8], 16))[1] if "twin" in note]
    assert notes == [
        "15 of 37 training pictures have a twin: another training picture that is the same but for its file; the "
        "alarm is calibrated without them"
    ]
    leaked = EvalData("leaked", data.dataset, data.seen, torch.cat([data.unseen[:30], data.seen[:2]]))
    notes = [note for note in judged(leaked, data.squares(data.seen[:8], 16))[1] if "twin" in note]
    assert notes[0].startswith("2 of 32 held-out pictures have a twin: a training picture")
