"""How long a command takes from the shell's point of view: best and median of several runs.

    python bench/startup.py [--runs 7] [--model NAME|FOLDER]

The first run of each, which may read files from disk, is made but not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CAPTION = "a red circle left of a blue square"


def seconds(command: list[str], folder: Path, runs: int) -> list[float]:
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return sorted(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of short commands.")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--model", help="for generate; default: the shipped one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tintype = [sys.executable, "-m", "tintype"]
    model = []
    if options.model:  # a folder is named from here, but the commands run elsewhere
        model = ["--model", str(Path(options.model).resolve()) if Path(options.model).exists() else options.model]
    commands = {
        "python, nothing": [sys.executable, "-c", "pass"],
        "tintype --help": [*tintype, "--help"],
        "python, import torch": [sys.executable, "-c", "import torch"],
        "tintype generate": [*tintype, "generate", CAPTION, *model],
    }
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, command in commands.items():
            if name == "tintype generate":
                command += ["--output", str(Path(folder) / "picture.png")]
            times = seconds(command, Path(folder), options.runs)
            result[name] = {"best": times[0], "median": statistics.median(times)}
    if options.json:
        print(json.dumps(result))
        return
    print(f"{'':24}{'best':>9}{'median':>9}")
    for name, row in result.items():
        print(f"{name:24}{row['best']:8.2f}s{row['median']:8.2f}s")


if __name__ == "__main__":
    main()
