"""What `--deterministic` costs, and whether a run that is killed and goes on ends with the same bytes.

    python bench/deterministic.py cost [--preset small] [--resolution 32] [--batch-size N] [--rounds 8] [--device cuda]
    python bench/deterministic.py kill [--preset small] [--resolution 32] [--images 20480] [--kills 2] [--device cuda]

`cost`: steps with and without it take turns in one process. `kill`: a run is left alone, and another of the same
command is ended by `kill -9` at random moments and started again. Exit code 1 if one byte of a weight, an average or a
moment differs at the end.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from soak import digest
from train_speed import SyntheticData, wait

from tintype.config import Config
from tintype.model import checkpoint
from tintype.model.denoiser import Denoiser
from tintype.shapes.write import write_shapes
from tintype.training.core.device import bf16_is_faster, keep_memory
from tintype.training.core.exactness import deterministic
from tintype.training.core.trainer import Trainer

TURN_SECONDS = 1.0


def cost(config: Config, device: torch.device, rounds: int) -> dict[str, float]:
    """The time of a step with it relative to one without, over rounds in turns."""
    bf16 = bf16_is_faster(device)
    with deterministic(device):  # its workspace of cuBLAS is the one of the process from the first product on
        trainer = Trainer(Denoiser(config), SyntheticData(config), config, device, bf16=bf16)
        steps = trainer.steps(2**62)
        for _ in range(3):
            next(steps)
    ratios = []
    seconds = [0.0, 0.0]
    for _ in range(rounds):
        for index in (0, 1):
            with deterministic(device) if index else nullcontext():
                num, start = 0, time.perf_counter()
                while (took := time.perf_counter() - start) < TURN_SECONDS:
                    next(steps)
                    wait(device)
                    num += 1
            seconds[index] = took / num
        ratios.append(seconds[1] / seconds[0])
    return {"ratio": statistics.median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios), "bf16": bf16}


def kill(folder: Path, command: list[str], kills: int, seed: int) -> dict[str, object]:
    """Train in `folder` without a stop, then with kills, and compare the ends."""
    rng = random.Random(seed)
    start = time.monotonic()
    ends = []
    for name, num_kills in (("straight", 0), ("killed", kills)):
        run = folder / name
        killed = 0
        while True:
            began = time.monotonic()
            process = subprocess.Popen([*command, "--out", str(run)], stdout=subprocess.DEVNULL)
            reached = checkpoint.checkpoints(run)[:1]
            while killed < num_kills and process.poll() is None and checkpoint.checkpoints(run)[:1] == reached:
                time.sleep(0.02)
            if killed < num_kills and process.poll() is None:
                time.sleep(rng.uniform(0, 1))
                process.send_signal(signal.SIGKILL)
            code = process.wait()
            if code == 0:
                break
            if code != -signal.SIGKILL:
                raise RuntimeError(f"training failed with {code} after {time.monotonic() - began:.0f} s")
            killed += 1
        ends.append((digest(run), killed))
    return {
        "equal": ends[0][0] == ends[1][0],
        "kills": ends[1][1],
        "sha256": ends[0][0],
        "seconds": round(time.monotonic() - start, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost and exactness of --deterministic.")
    parser.add_argument("what", choices=("cost", "kill"))
    parser.add_argument("--preset", default="small")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--images", type=int, default=20480)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--save-every", default="4s", help="time between checkpoints, of kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result: dict[str, object]
    if options.what == "cost":
        keep_memory()
        config = Config.from_preset(options.preset, options.resolution)
        batch_size = options.batch_size or config.train.batch_size
        config = replace(config, train=replace(config.train, batch_size=batch_size))
        result = {**cost(config, torch.device(options.device), options.rounds)}
    else:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write_shapes(folder / "data", 512, seed=1)
            command = [sys.executable, "-m", "tintype", "train", str(folder / "data"), "--deterministic"]
            command += ["--preset", options.preset, "--resolution", str(options.resolution), "--text", "learned"]
            command += ["--device", options.device, "--images", str(options.images), "--save-every", options.save_every]
            command += ["--cache", str(folder / "cache"), "--sample-every", "1h"]
            if options.batch_size:
                command += ["--batch-size", str(options.batch_size)]
            result = kill(folder, command, options.kills, options.seed)
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:12} {value:.4g}" if isinstance(value, float) else f"{name:12} {value}")
    sys.exit(result.get("equal") is False)


if __name__ == "__main__":
    main()
