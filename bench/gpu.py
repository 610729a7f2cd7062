"""Every figure of a GPU in one command, each in a process of its own with a limit, written down as soon as it is there.

    python bench/gpu.py --out FOLDER [--emoji DATA] [--fruit DATA] [--minutes 25] [--only NAME ...] [--device cuda]
    python bench/gpu.py --out FOLDER --list
    python bench/gpu.py --out FOLDER --device cpu --tiny     # checks the command itself where there is no GPU

FOLDER/results.json has all results so far, so nothing is lost when the machine is taken away, and the same command goes
on with what is missing. Short measurements come first; the two trainings, from an empty folder to a model, get ten
minutes each, or what is left of `--minutes`. A training that is cut is resumed the next time. Exit code: 0 all figures
are there (reached or not), 1 some are missing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tintype.model.atomic_write import write_text

BENCH = Path(__file__).resolve().parent
TRAINING_SECONDS = 600.0
SPARE_SECONDS = 90.0  # for a training to start and to finish, beside its --time
_END_SECONDS = 20.0  # for a process to save and end after SIGTERM

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Goal:
    """A figure of a result, and what it must reach."""

    name: str
    figure: Callable[[Result], float]
    at_least: float | None = None
    at_most: float | None = None

    def line(self, result: Result | None) -> str:
        """The figure beside its goal, in words."""
        bound = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        if result is None:
            return f"{self.name:58} {bound:>10}  open"
        value = self.figure(result)
        low, high = self.at_least, self.at_most
        is_reached = (low is None or value >= low) and (high is None or value <= high)
        return f"{self.name:58} {bound:>10}  {value:10.4g}  {'reached' if is_reached else 'missed'}"


@dataclass(frozen=True)
class Job:
    """One measurement: a command that prints JSON last, or leaves a run folder, within `limit` seconds."""

    name: str
    command: tuple[str, ...]
    limit: float
    goals: tuple[Goal, ...] = ()
    run: Path | None = None  # that it trains


def main() -> None:
    parser = argparse.ArgumentParser(description="Every figure of a GPU in one command.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--emoji", type=Path, help="a data set of emoji to train on")
    parser.add_argument("--fruit", type=Path, help="a data set of fruit to train on")
    parser.add_argument("--minutes", type=float, default=25.0, help="of the whole command")
    parser.add_argument("--only", action="append", metavar="NAME", help="of these measurements alone")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="everything as small as it gets")
    parser.add_argument("--list", action="store_true", help="print the measurements and stop")
    options = parser.parse_args()
    data = {name: path for name in ("emoji", "fruit") if (path := getattr(options, name)) is not None}
    jobs = [
        *measurements(options.device, tiny=options.tiny),
        *trainings(options.out, data, options.device, options.tiny),
    ]
    jobs = [job for job in jobs if options.only is None or job.name in options.only]
    if options.list:
        for job in jobs:
            print(f"{job.name:24} {job.limit:6.0f} s  {' '.join(job.command)}")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    results = run_all(jobs, options.out / "results.json", 60 * options.minutes)
    print("\n".join(table(jobs, results)))
    sys.exit(any(results.get(job.name, {}).get("status") != "done" for job in jobs))


def measurements(device: str, *, tiny: bool) -> list[Job]:
    """Speed of training, time of a picture, start, and exactness."""
    python = sys.executable
    small = ("--batch-size", "2", "--rounds", "1") if tiny else ("--rounds", "6")

    def speed(preset: str, side: int, batch_size: int, goal: Goal) -> Job:
        sizes = ("--preset", preset, "--resolution", str(32 if tiny else side))
        sizes += small if tiny else (*small, "--batch-size", str(batch_size), "--compile", "--bf16")
        script = (python, str(BENCH / "train_speed.py"), *sizes, "--device", device, "--json")
        return Job(f"speed {preset} {side}", script, 300 if tiny else 240, (goal,))

    def shares(preset: str, side: int, batch_size: int) -> Job:
        sizes = ("--preset", preset, "--resolution", str(32 if tiny else side))
        sizes += ("--batch-size", "2", "--steps", "1") if tiny else ("--batch-size", str(batch_size), "--bf16")
        script = (python, str(BENCH / "step_profile.py"), *sizes, "--device", device, "--json")
        return Job(f"shares {preset} {side}", script, 300 if tiny else 60)

    def pictures(batch: int, at_most: float) -> Job:
        num = "1" if tiny else "21"
        script = (python, str(BENCH / "picture.py"), "emoji", "--num", num, "--batch", str(2 if tiny else batch))
        goal = Goal(f"seconds for {batch} pictures of emoji at once", median_seconds, at_most=at_most)
        return Job(f"picture {batch}", (*script, "--device", device, "--json"), 300 if tiny else 60, (goal,))

    share = "share of the bf16 product rate, "
    exact = (python, str(BENCH / "deterministic.py"))
    sizes = ("--preset", "nano", "--batch-size", "4") if tiny else ("--preset", "small", "--batch-size", "128")
    images = ("--images", "24", "--kills", "1", "--save-every", "0.1s") if tiny else ("--images", "40960")
    return [
        Job("doctor", (python, "-m", "tintype", "doctor"), 60),
        speed("base", 64, 512, Goal(share + "base 64 px", lambda result: float(result["share"]), at_least=0.30)),
        speed("large", 256, 64, Goal(share + "large 256 px", lambda result: float(result["share"]), at_least=0.40)),
        speed(
            "small", 32, 512, Goal("images/s, small 32 px", lambda r: float(r["images_per_second"]), at_least=3 * 4862)
        ),
        pictures(1, 0.020),
        pictures(128, 0.060),
        Job(
            "first picture",
            (python, str(BENCH / "startup.py"), "--runs", "1" if tiny else "2", "--json"),
            300 if tiny else 90,
            (Goal("seconds to a first picture from the shell", shell_seconds, at_most=6.0),),
        ),
        shares("base", 64, 512),
        shares("large", 256, 64),
        Job(
            "kill and resume",
            (*exact, "kill", *sizes, *images, "--device", device, "--json"),
            600 if tiny else 180,
            (Goal("equal bytes after kill -9 with --deterministic", lambda r: float(r["equal"]), at_least=1.0),),
        ),
        Job(
            "cost of deterministic",
            (*exact, "cost", *sizes, "--rounds", "1" if tiny else "6", "--device", device, "--json"),
            300 if tiny else 60,
        ),
    ]


def trainings(out: Path, data: Mapping[str, Path], device: str, tiny: bool) -> list[Job]:
    """Ten minutes from an empty folder to a model. `--time` is given when the job starts."""
    jobs = []
    for name, path in data.items():
        run = out / f"run-{name}"
        sizes = ("--resolution", "32", "--preset", "nano") if tiny else ("--resolution", "128")
        command = (sys.executable, "-m", "tintype", "train", str(path), "--out", str(run), "--device", device, *sizes)
        jobs.append(Job(f"train {name}", command, 60.0 if tiny else TRAINING_SECONDS, run=run))
    return jobs


def median_seconds(result: Result) -> float:
    return float(next(iter(result["settings"].values()))["median"])


def shell_seconds(result: Result) -> float:
    return float(result["tintype generate"]["median"])


def run_all(jobs: Sequence[Job], file: Path, seconds: float) -> dict[str, dict[str, Any]]:
    """Run what `file` does not have yet, as far as `seconds` go, and write the file after each. Returns all results."""
    end = time.monotonic() + seconds
    results: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else {}
    for index, job in enumerate(jobs):
        if results.get(job.name, {}).get("status") == "done":
            continue
        left = end - time.monotonic()
        if left < min(job.limit, 15.0):
            results[job.name] = {"status": "no time left"}
        elif job.run is None:
            results[job.name] = run_job(job, min(job.limit, left))
        else:
            after = sum(other.run is not None for other in jobs[index:])
            training = max(10.0, min(job.limit, left / after - SPARE_SECONDS))
            timed = Job(job.name, (*job.command, "--time", f"{training:.0f}s"), job.limit, run=job.run)
            results[job.name] = {"time": training, **run_job(timed, min(left, training + SPARE_SECONDS))}
        write_text(file, json.dumps(results, indent=1) + "\n")
        print(f"{job.name:24} {results[job.name]['status']}", flush=True)
    return results


def run_job(job: Job, limit: float) -> dict[str, Any]:
    """Run a job in a process group of its own, ended after `limit` seconds: SIGTERM first, which lets training save."""
    start = time.monotonic()
    process = subprocess.Popen(
        job.command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    status = "done"
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        status = "out of time"
        output = _ended(process)
    if status == "done" and process.returncode != 0:
        status = f"failed with {process.returncode}"
    lines = output.splitlines()
    result = {"status": status, "seconds": round(time.monotonic() - start, 1), "tail": lines[-30:]}
    if lines and lines[-1].startswith("{"):
        result["result"] = json.loads(lines[-1])
    if job.run is not None:
        result["result"] = run_figures(job.run)
    return result


def _ended(process: subprocess.Popen[str]) -> str:
    """End a process group, and return what it had printed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        os.killpg(process.pid, number)
        try:
            return process.communicate(timeout=_END_SECONDS)[0]
        except subprocess.TimeoutExpired:
            continue
    return ""


def run_figures(run: Path) -> dict[str, Any]:
    """What a run folder says of its run: its settings, the last rows of its log, its errors."""
    figures: dict[str, Any] = {}
    for name in ("config.json", "evaluation.json", "start.json"):
        if (run / name).is_file():
            figures[name] = json.loads((run / name).read_text(encoding="utf-8"))
    if (run / "log.jsonl").is_file():
        figures["log"] = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()[-4:]]
    return figures


def table(jobs: Sequence[Job], results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What was measured beside what must be reached; figures that are not there are open."""
    lines = []
    for job in jobs:
        found = results.get(job.name, {})
        is_done = found.get("status") == "done"
        lines += [goal.line(found.get("result") if is_done else None) for goal in job.goals]
        if not is_done:
            lines.append(f"{job.name}: {found.get('status', 'not run')}")
            lines += [f"    {line}" for line in list(found.get("tail", ()))[-3:]]
        elif job.run is not None:
            lines.append(f"{job.name}: {job.run} after {found['seconds']:.0f} s; its pictures are to be judged")
    return lines


if __name__ == "__main__":
    main()
