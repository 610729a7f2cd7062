"""A run that is killed outright, again and again, ends exactly as one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tintype.model import checkpoint

SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
from tintype.config import PRESETS, NetConfig, SampleConfig, TextConfig
from tintype.training.run import TrainRequest, train

def tiny(resolution=8):
    config = nano(resolution)
    return replace(
        config,
        net=NetConfig(resolution=8, width=32, depth=1, heads=2, stem_width=16, text_depth=1),
        text=TextConfig(encoder="learned", max_tokens=8),
        train=replace(config.train, batch_size=4, save_minutes=1e-9),
        sample=SampleConfig(steps=2),
    )

nano = PRESETS["nano"]
PRESETS["nano"] = tiny
device = sys.argv[3]
exact = {"deterministic": True} if device != "cpu" else {}
train(TrainRequest(data=Path(sys.argv[1]), out=Path(sys.argv[2]), images=200, device=device, preset="nano", **exact))
"""


def start(data: Path, out: Path, device: str = "cpu") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SCRIPT, str(data), str(out), device]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})


def assert_same_end(left: Path, right: Path) -> None:
    ends = [checkpoint.latest(folder) for folder in (left, right)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert ends[0].name == ends[1].name
    for part, tensors in checkpoint.load_parts(ends[0], ["model", "weights", "optimizer"]).items():
        other = checkpoint.load_parts(ends[1], [part])[part]
        assert all(torch.equal(tensors[name], other[name]) for name in tensors)


@pytest.mark.slow
def test_kill_9_at_any_moment_changes_nothing(pictures: Path, tmp_path: Path, device: torch.device) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert start(pictures, straight, device.type).wait() == 0
    chance = random.Random(0)
    for _ in range(6):
        process = start(pictures, killed, device.type)
        reached = checkpoint.checkpoints(killed)[:1]
        while process.poll() is None and checkpoint.checkpoints(killed)[:1] == reached:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        for folder in checkpoint.checkpoints(killed):
            checkpoint.verify(folder)
    assert start(pictures, killed, device.type).wait() == 0
    assert_same_end(straight, killed)


@pytest.mark.slow
def test_a_training_copy_that_is_lost_on_the_way_is_made_again(pictures: Path, tmp_path: Path) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    assert start(pictures, straight).wait() == 0
    process = start(pictures, broken)
    while process.poll() is None and not checkpoint.checkpoints(broken):
        time.sleep(0.01)
    (copy,) = (broken / "pack").glob("pack-*/pictures-*.npy")
    os.truncate(copy, 0)
    assert process.wait() == -signal.SIGBUS  # a mapped file that cannot be read: the system ends the process
    assert start(pictures, broken).wait() == 0
    assert_same_end(straight, broken)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_exit_code_tells_the_signal(pictures: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    process = start(pictures, tmp_path / "run")
    while process.poll() is None and not checkpoint.checkpoints(tmp_path / "run"):
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait() == code
    assert checkpoint.latest(tmp_path / "run") is not None


@pytest.mark.slow
def test_twenty_kills_of_a_run_with_micro_batches_change_nothing() -> None:
    soak = Path(__file__).parent.parent.parent / "bench" / "soak.py"
    command = [sys.executable, str(soak), "--kills", "20", "--images", "240", "--slack", "60"]
    assert subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode == 0
