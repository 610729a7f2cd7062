"""After the last step a run says what it does, hears signals, and resumes with its finish alone."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
from rich.console import Console

from tintype.config import PRESETS
from tintype.model import checkpoint
from tintype.training.monitor.log_rows import read_log
from tintype.training.monitor.validate import Validator
from tintype.training.run import Terminated, TrainRequest, train
from tintype.training.signals import Interruption

PARTS = [
    "measuring the errors and making samples",
    "saving the last checkpoint",
    "measuring the longer average",
    "writing the model",
]


def run(request: TrainRequest, *, terminal: bool = False) -> str:
    """Train and return what was printed."""
    out = io.StringIO()
    train(request, Console(file=out, width=200, force_terminal=terminal))
    return out.getvalue()


@pytest.fixture
def request_(pictures: Path, tmp_path: Path, tiny_nano: None, monkeypatch: pytest.MonkeyPatch) -> TrainRequest:
    base = PRESETS["nano"](8)
    some_held_out = replace(base, train=replace(base.train, held_out=0.4))
    monkeypatch.setitem(PRESETS, "nano", lambda resolution=8: some_held_out)
    return TrainRequest(data=pictures, out=tmp_path / "run", images=8, device="cpu", cache=tmp_path / "cache")


def signal_in(monkeypatch: pytest.MonkeyPatch, method: str, call: int) -> list[str]:
    """Send SIGTERM in the middle of the given call of a method of Validator; returns the list of what went on after."""
    original: Callable[..., Generator[object, None, Any]] = getattr(Validator, method)
    calls, went_on = [], []

    def patched(self: Validator, *args: object) -> Generator[object, None, Any]:
        calls.append(method)
        progress = original(self, *args)
        if len(calls) == call:
            yield next(progress)
            os.kill(os.getpid(), signal.SIGTERM)
            yield
            went_on.append(method)
        return (yield from progress)

    monkeypatch.setattr(Validator, method, patched)
    return went_on


def test_every_part_of_the_finish_is_told(request_: TrainRequest) -> None:
    output = run(request_)
    lines = output.splitlines()
    assert [line for line in lines if line in PARTS] == PARTS
    assert re.search(r"8 of 8 images *$", lines[lines.index(PARTS[0]) - 1])  # no time is left, and none is promised
    terminal_output = run(replace(request_, images=12), terminal=True)
    assert all(part in terminal_output for part in PARTS)


@pytest.mark.slow
def test_a_signal_in_the_finish_saves_and_the_same_command_does_the_rest(
    request_: TrainRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved_at = set()
    for method, call in (("write_samples", 1), ("measure", 1), ("measure", 2)):
        with monkeypatch.context() as patched:
            went_on = signal_in(patched, method, call)
            with pytest.raises(Terminated):
                run(request_)
        assert went_on == []
        assert not (request_.out / "model.safetensors").exists()
        (saved,) = checkpoint.checkpoints(request_.out)
        assert '"held_out_error": 0' in (saved / "state.json").read_text()  # measured before the samples
        saved_at.add(saved.stat().st_mtime_ns)
    output = run(request_)
    assert "loss" not in output  # no step is taken
    assert PARTS[1] not in output
    assert saved_at == {saved.stat().st_mtime_ns}
    straight = replace(request_, out=tmp_path / "straight")
    run(straight)
    for name in ("model.safetensors", "evaluation.json", "model.manifest.json"):
        assert (request_.out / name).read_bytes() == (straight.out / name).read_bytes()
    logged, expected = (
        [row["noise_error"] for row in read_log(folder / "log.jsonl") if "noise_error" in row]
        for folder in (request_.out, straight.out)
    )
    assert logged == 2 * expected  # twice the validation was over before the signal came, or none did


def test_where_nothing_can_be_saved_a_signal_leaves_a_model(
    request_: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Path.open

    def full(self: Path, mode: str = "r", *args: Any, **options: Any) -> IO[Any]:
        if "w" in mode and self.name.startswith("optimizer"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, mode, *args, **options)

    monkeypatch.setattr(Path, "open", full)
    went_on = signal_in(monkeypatch, "measure", 1)
    output = run(request_)
    assert "No space left on device" in output
    assert "the model is finished all the same" in output
    assert (request_.out / "model.safetensors").exists()
    assert went_on == []


def test_a_generator_ends_at_a_signal_and_is_closed() -> None:
    events: list[object] = []

    def work() -> Generator[int, None, str]:
        try:
            for number in range(3):
                events.append(number)
                if number == stop_at:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield number
            return "done"
        finally:
            events.append("closed")

    stop_at = 9
    with Interruption() as interruption:
        assert interruption.finished(work()) == "done"
        stop_at = 1
        assert interruption.finished(work()) is None
        assert interruption.finished(work()) is None
    assert events == [0, 1, 2, "closed", 0, 1, "closed"]


SCRIPT = """
import sys, time
from dataclasses import replace
from pathlib import Path
from tintype.config import PRESETS, NetConfig, SampleConfig, TextConfig
from tintype.model.denoiser import Denoiser
from tintype.training.run import TrainRequest, train

nano, forward = PRESETS["nano"], Denoiser.forward
PRESETS["nano"] = lambda resolution=8: replace(
    nano(resolution),
    net=NetConfig(resolution=8, width=32, depth=1, heads=2, stem_width=16, text_depth=1),
    text=TextConfig(encoder="learned", max_tokens=8),
    train=replace(nano(resolution).train, batch_size=4, held_out=0.4),
    sample=SampleConfig(steps=4),
)

def slow(self, *args):
    time.sleep(0 if self.training else float(sys.argv[3]))
    return forward(self, *args)

Denoiser.forward = slow
train(TrainRequest(data=Path(sys.argv[1]), out=Path(sys.argv[2]), images=8, device="cpu"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("part", "number", "code"), [(0, signal.SIGTERM, 143), (2, signal.SIGINT, -signal.SIGINT)])
def test_a_process_hears_a_signal_in_its_finish(
    pictures: Path, tmp_path: Path, part: int, number: signal.Signals, code: int
) -> None:
    def start(seconds: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SCRIPT, str(pictures), str(tmp_path / "run"), str(seconds)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    with start(0.5) as process:  # seconds a network call: each part takes many
        assert process.stdout is not None
        assert any(line.strip() == PARTS[part] for line in process.stdout)
        time.sleep(0.7)
        process.send_signal(number)
        rest = process.stdout.read()
    assert process.returncode == code
    assert "run the same command again to finish" in rest
    assert not (tmp_path / "run" / "model.safetensors").exists()
    with start(0.0) as again:
        output, _ = again.communicate()
    assert again.returncode == 0
    assert "resuming at 8 of 8 images" in output
    assert "loss" not in output
    assert (tmp_path / "run" / "model.safetensors").exists()
