"""Peak memory of a short training run: of the `tintype train` process, as the system counted it.

    python bench/memory.py [DATA] [--num 2000 --num 20000] [--images 1280]

Without DATA, folders of `--num` drawn pictures: memory should not grow with their number. Unix only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tintype.shapes.write import write_shapes

UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in one ru_maxrss


def peak_bytes(data: Path, images: int, more: list[str]) -> int:
    """Peak resident memory of one training run on `data`. Raises RuntimeError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "tintype",
            "train",
            str(data),
            "--out",
            f"{folder}/run",
            "--images",
            str(images),
        ]
        process = subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"training on {data} failed with {process.returncode}")
    return usage.ru_maxrss * UNIT


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Peak memory of training.", epilog="Other options go to tintype train."
    )
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--num", type=int, action="append", help="drawn pictures; may be given several times")
    parser.add_argument("--images", type=int, default=1280, help="to train on")
    parser.add_argument("--json", action="store_true")
    options, more = parser.parse_known_args()
    result = {}
    if options.data:
        result[str(options.data)] = peak_bytes(options.data, options.images, more)
    for num in [] if options.data else options.num or [2000, 20000]:
        with tempfile.TemporaryDirectory() as folder:
            write_shapes(Path(folder) / "data", num)
            result[f"{num} drawn pictures"] = peak_bytes(Path(folder) / "data", options.images, more)
    if options.json:
        print(json.dumps(result))
        return
    for name, peak in result.items():
        print(f"{name:40} {peak / 2**20:8.0f} MiB")


if __name__ == "__main__":
    main()
