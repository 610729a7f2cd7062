"""The log is one JSON object a line, forgets what is done again, and never stops a run."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from tintype.config import TrainConfig
from tintype.training.core.trainer import StepReport
from tintype.training.core.validation_error import ValidationMetrics
from tintype.training.monitor import log as module
from tintype.training.monitor.log import Display, Log, say
from tintype.training.monitor.log_rows import read_log, trim_log


def report(images_seen: int, loss: float = 1.0, skipped: bool = False) -> StepReport:
    return StepReport(images_seen, loss, grad_norm=0.5, lr=1e-3, skipped=skipped)


def test_rows_hold_means_over_the_steps_since_the_row_before(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl")
    log.step(report(8, 4.0), 8, 2.0)  # the first step is told at once
    log.step(report(16, 1.0), 8, 2.0)
    log.step(report(24, math.nan, skipped=True), 8, 2.0)
    log.step(report(32, 2.0), 8, 1.0)
    log.write(ValidationMetrics(32, {"true": {0.1: 0.25, 3.0: math.nan}, "empty": {0.1: 0.5}}))
    first, second = read_log(tmp_path / "log.jsonl")
    assert (first["images_seen"], first["loss"], first["images_per_second"]) == (8, 4.0, 4.0)
    assert (second["images_seen"], second["loss"], second["images_per_second"]) == (32, 1.5, 4.8)
    assert second["noise_error"] == {"0.1": 0.25, "3": None}
    assert set(first) == {"images_seen", "loss", "lr", "grad_norm", "images_per_second", "time"}


def test_every_line_is_strict_json(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl")
    log.step(StepReport(8, math.inf, math.nan, 1e-3, False), 8, 0.0)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    for line in (tmp_path / "log.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)


def test_rows_beyond_the_checkpoint_are_dropped_and_a_cut_line_too(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"images_seen": 4}\n{"images_seen": 8}\n{"images_seen": 12}\n{"images_se')
    trim_log(path, 8)
    assert path.read_text() == '{"images_seen": 4}\n{"images_seen": 8}\n'
    trim_log(tmp_path / "missing.jsonl", 8)
    assert read_log(tmp_path / "missing.jsonl") == []


def test_a_log_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    Log(tmp_path / "missing" / "log.jsonl").step(report(8), 8, 1.0)


def test_piped_output_is_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINE_SECONDS", 0.0)
    out = io.StringIO()
    with Display(Console(file=out), TrainConfig(images=1600), 0) as display:
        display.step(report(8, 2.0), 8, 0.5)
        display.say("[/] a path in brackets [red]")
    assert out.getvalue().splitlines() == [
        "loss 2.0000  16.0 images/s  8 of 1,600 images  100 s left",
        "[/] a path in brackets [red]",
    ]


def test_the_first_loss_counts_no_more_than_the_others() -> None:
    display = Display(Console(file=io.StringIO()), TrainConfig(images=1600), 0)
    for step, loss in enumerate((10.0, 1.0, 1.0, 1.0)):
        display.step(report(8 * step + 8, loss), 8, 1.0 if step else 5.0)
    decay = module.SMOOTHING
    weights = [decay**3, decay**2, decay, 1.0]
    mean = 1 + 9 * weights[0] / sum(weights)  # 3.2, where weights that do not sum to 1 from the start gave 9.2
    speed = 8 * sum(weights) / (sum(weights) + 4 * weights[0])
    assert display.status().startswith(f"loss {mean:.4f}  {speed:.1f} images/s  32 of 1,600 images  ")
    display.step(report(40, math.nan, skipped=True), 8, 1.0)
    assert f"loss {mean:.4f}" in display.status()


def test_before_the_first_finite_loss_there_is_none_to_show() -> None:
    display = Display(Console(file=io.StringIO()), TrainConfig(images=1600), 0)
    display.step(report(8, math.nan, skipped=True), 8, 1.0)
    assert display.status().startswith("loss nan  8.0 images/s  8 of 1,600 images  ")


def test_a_terminal_shows_a_bar() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with Display(console, TrainConfig(images=1600), 0) as display:
        display.step(report(800, 2.0), 8, 0.5)
        display.say("a line above")
    assert "50%" in out.getvalue()
    assert "loss 2.0000" in out.getvalue()
    assert "a line above" in out.getvalue()


class BrokenPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError

    def fileno(self) -> int:
        raise io.UnsupportedOperation


def test_a_reader_that_went_away_does_not_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def ends_the_program(self: Console) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(Console, "on_broken_pipe", ends_the_program)
    console = Console(file=BrokenPipe())
    say(console, "one")
    say(console, "two")
    closed = io.StringIO()
    closed.close()
    say(Console(file=closed), "three")


def test_a_byte_that_is_not_utf8_costs_one_row(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"images_seen": 1}\n{"images_seen": 2, "x": "\xff"}\n\xff\xfe\n{"images_seen": 3}\n')
    assert [row["images_seen"] for row in read_log(path)] == [1, 2, 3]
