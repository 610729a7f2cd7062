"""Killed builds: a build that is killed many times ends with the same bytes as an undisturbed one."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import sys
import time
from pathlib import Path
from tintype.data.cache import builder
from tintype.data.cache.open_or_build import build_cache
from tintype.data.thread_pool import finished
from tintype.data.images.decode import preprocess_for
from tintype.data.sources.find import find_pairs
import torch

class Words:
    identity = "words"
    def text_embeddings(self, captions):
        time.sleep(0.002 * len(captions))
        return [torch.tensor([[float(len(word))] for word in caption.split()]).half() for caption in captions]

builder.COMMIT_SECONDS = 0.01
builder.CAPTION_BATCH = 16
print("begun", flush=True)
finished(build_cache(find_pairs(sys.argv[1])[0], preprocess_for(64), Path(sys.argv[2]), Words()))
"""


def start(data: Path, cache: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(data), str(cache)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    return process


def finish(process: subprocess.Popen[bytes]) -> None:
    with process:
        assert process.wait() == 0


def content(cache: Path) -> dict[str, bytes]:
    (folder,) = cache.glob("pack-*")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_kill_9_while_packing_at_twenty_moments(draw, data: Path, tmp_path: Path) -> None:
    for number in range(300):
        draw(f"{number:03}.png", f"picture {number}", color=(number % 256, 7, number // 2), size=(300, 200))
    (data / "007.png").write_bytes(b"rubbish")
    begun = time.monotonic()
    finish(start(data, tmp_path / "straight"))
    seconds = time.monotonic() - begun
    chance = random.Random(0)
    for _ in range(20):
        with start(data, tmp_path / "killed") as process:
            time.sleep(chance.uniform(0, 0.3 * seconds))
            process.send_signal(signal.SIGKILL)
            process.wait()
    finish(start(data, tmp_path / "killed"))
    assert content(tmp_path / "killed") == content(tmp_path / "straight")
    names = {path.name.split("-")[0] for path in (tmp_path / "killed").iterdir()}
    assert names <= {"pack", "stamp", ".lock"}
