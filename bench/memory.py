"""Peak memory of a short training run: of the `tintype train` process, as the system counted it.

    python bench/memory.py [DATA] [--num 2000 --num 20000] [--images 1280]
    python bench/memory.py plan [--preset nano --preset small] [--resolution 32 --resolution 64] [--time 40s]

Without DATA, folders of `--num` drawn pictures: memory should not grow with their number. Unix only. `plan` has a run
of each preset at each resolution say how much memory it will need, and compares that with its peak: of the process, or
of PyTorch on a GPU. Options that are not named here go to `tintype train`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tintype.model.file_names import LOG
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


def planned_and_peak(data: Path, preset: str, resolution: int, budget: str, more: list[str]) -> tuple[int, int]:
    """Bytes that the plan of a run names, and its peak. Raises RuntimeError if training fails."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "tintype", "train", str(data), "--out", str(run), "--time", budget]
        command += ["--preset", preset, "--resolution", str(resolution), "--text", "learned"]
        command += ["--min-size", "1", *more]  # the drawn pictures have 64 pixels
        if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed")
        rows = [json.loads(line) for line in (run / LOG).read_text(encoding="utf-8").splitlines()]
    planned, ended = ([row[name]["memory_bytes"] for row in rows if name in row][-1] for name in ("planned", "ended"))
    return planned, ended


def compare_plans(presets: list[str], resolutions: list[int], budget: str, more: list[str]) -> dict[str, float]:
    """Planned over actual memory by preset and resolution; prints each as it comes."""
    ratios = {}
    with tempfile.TemporaryDirectory() as folder:
        write_shapes(Path(folder) / "data", 500)
        for preset in presets:
            for resolution in resolutions:
                planned, peak = planned_and_peak(Path(folder) / "data", preset, resolution, budget, more)
                name = f"{preset} {resolution} px"
                ratios[name] = planned / peak
                print(f"{name:16} planned {planned / 2**20:7.0f} MiB, peak {peak / 2**20:7.0f}", flush=True)
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Peak memory of training.", epilog="Other options go to tintype train."
    )
    parser.add_argument("data", nargs="?", type=Path, help="a data set, or the word plan")
    parser.add_argument("--preset", action="append")
    parser.add_argument("--resolution", type=int, action="append")
    parser.add_argument("--time", default="40s", help="of each run of plan")
    parser.add_argument("--num", type=int, action="append", help="drawn pictures; may be given several times")
    parser.add_argument("--images", type=int, default=1280, help="to train on")
    parser.add_argument("--json", action="store_true")
    options, more = parser.parse_known_args()
    if options.data == Path("plan"):
        presets, resolutions = options.preset or ["nano", "small"], options.resolution or [32, 64, 128]
        ratios = compare_plans(presets, resolutions, options.time, more)
        for name, ratio in ratios.items():
            print(json.dumps({name: ratio}) if options.json else f"{name:16} {ratio:.3f} of the peak")
        return
    result = {}
    for name, given in (("--preset", options.preset), ("--resolution", options.resolution)):
        more += [name, str(given[-1])] if given else []
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
