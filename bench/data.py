"""Data speed: pictures checked, cached and read per second; peak memory; the cache after kills.

    python bench/data.py check DATA                 pictures checked per second and core
    python bench/data.py memory [--files 100000]    seconds to list and peak memory to check many small files
    python bench/data.py epochs DATA [--workers 2]  first and later epochs, compared with decoding in every epoch
    python bench/data.py reading DATA               reading from the cache, compared with the consumption of `small`
    python bench/data.py kill DATA [--times 20]     kill the cache build at random moments; the bytes must not differ
    python bench/data.py once DATA                  decodes of each picture in a training run, check and cache included

DATA is anything that `tintype train` takes. Times are CPU seconds of all processes together, which other load on the
machine changes little; `epochs` prints wall time too.

`epochs`: listing the pictures is not timed. The baseline decodes in every epoch: a torch DataLoader with `--workers`
processes, with the arithmetic of torchvision's ImageFolder (its `convert("RGB")` drops transparency), Resize,
CenterCrop and ToTensor in the fewest calls. That is faster than torchvision itself, which `--torchvision` selects. The
baseline computes no hashes and reads no captions; `--over-white` adds the background behind transparency. The cache is
built as in `tintype train`, with as many processes, and both use as many cores; 0 is one process on one core. Wall
times are meaningful on an idle machine only.

`kill` waits for the first picture and then for a random part of the build time divided by `--spread` (2), so that a
build is killed several times before it is finished. Kills after the end are not counted.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import data_epochs
import numpy as np
from PIL import Image

from tintype.config import DataConfig, TextConfig
from tintype.data.check.run import check_data
from tintype.data.images import decode as decode_module

BUILD = """
import sys
from pathlib import Path
from tintype.config import DataConfig
from tintype.data.cache import builder
from tintype.data.cache.open_or_build import build_cache
from tintype.data.thread_pool import finished
from tintype.data.images.decode import preprocess_for
from tintype.data.sources.find import find_pairs
builder.COMMIT_SECONDS = 0.1  # or a small data set would be finished before the first commit
sys.path.insert(0, sys.argv[3])  # folder of this file
from data_epochs import Lengths
options = DataConfig(crop="none")
progress = build_cache(find_pairs(sys.argv[1], options)[0], preprocess_for(32, options), Path(sys.argv[2]), Lengths())
next(progress, None)
print("started", flush=True)
finished(progress)
"""
CHECK = """
import sys, time
from tintype.data.check.run import check_data
from tintype.data.sources.find import find_pairs
start, cpu = time.perf_counter(), time.process_time()
num = len(find_pairs(sys.argv[1])[0])
listed, cpu = time.perf_counter() - start, time.process_time() - cpu
assert len(check_data(sys.argv[1]).pairs) == num
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(listed, cpu, int(peak.split()[1]) / 1024)
"""


def bench_check(args: argparse.Namespace) -> None:
    start, cpu = time.perf_counter(), time.process_time()
    report = check_data(args.data, text=TextConfig())
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    num = len(report.pairs) + report.num_left_out
    print(f"{num:,} pictures in {seconds:.1f} s; {num / cpu:.0f} a second and core (target 300)")


def memory(args: argparse.Namespace) -> None:
    peaks = {}
    for num in (1_000, 10_000, args.files):
        with tempfile.TemporaryDirectory() as folder:
            write_many(Path(folder), num)
            command = [sys.executable, "-c", CHECK, folder]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        listed, cpu, peaks[num] = map(float, output)
        print(f"{num:,} pictures and their captions listed in {listed:.2f} s ({cpu:.2f} s of one core)", end="; ")
        print(f"checked with a peak of {peaks[num]:.0f} MB", flush=True)
    print(f"{peaks[args.files] / peaks[1_000]:.2f} times the memory for {args.files // 1_000} times the files")


def write_many(folder: Path, num: int) -> None:
    """Write small BMP pictures of random colors with captions, a thousand to a folder."""
    random_ = np.random.default_rng(0)
    template = io.BytesIO()
    Image.new("RGB", (24, 24)).save(template, "BMP")
    head = template.getvalue()[: -3 * 24 * 24]
    for number in range(num):
        part = folder / f"{number // 1000:04}"
        part.mkdir(exist_ok=True)
        pixels = np.kron(random_.integers(0, 256, (4, 4, 3), dtype=np.uint8), np.ones((6, 6, 1), dtype=np.uint8))
        (part / f"{number:06}.bmp").write_bytes(head + pixels.tobytes())
        (part / f"{number:06}.txt").write_text(f"picture number {number}")


def kill(args: argparse.Namespace) -> None:
    """Kill the cache build at random moments between its first picture and its end, `--times` times."""
    random_ = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        straight, killed = Path(folder, "straight"), Path(folder, "killed")
        startup, duration = build_seconds(args.data, straight)
        print(f"the cache build takes {duration:.1f} s after {startup:.1f} s of starting and listing", flush=True)
        times = late = 0
        while times < args.times:
            with start_build(args.data, killed) as process:
                started = await_start(process)
                time.sleep(random_.uniform(0, duration / args.spread))
                late += not started or process.poll() is not None
                times += process.poll() is None
                process.kill()
            print(f"kill {times}: {state_of(killed)}", flush=True)
            if late > args.times:
                sys.exit("too many kills came after the end; use more data")
            if list(killed.glob("pack-*")):
                require_same(straight, killed)
                shutil.rmtree(killed)
        with start_build(args.data, killed) as process:
            if process.wait():
                sys.exit("the last cache build failed")
        require_same(straight, killed)
        print(f"{args.times} kills before the end, {late} after it: the same bytes each time")


def start_build(data: str, cache: Path) -> subprocess.Popen[bytes]:
    here = str(Path(__file__).parent)
    return subprocess.Popen([sys.executable, "-c", BUILD, data, str(cache), here], stdout=subprocess.PIPE)


def await_start(process: subprocess.Popen[bytes]) -> bool:
    """Wait for the first picture; False if the cache was complete."""
    assert process.stdout is not None
    return process.stdout.readline() == b"started\n"


def build_seconds(data: str, cache: Path) -> tuple[float, float]:
    """Seconds to the first picture, and from there to the end."""
    start = time.perf_counter()
    with start_build(data, cache) as process:
        await_start(process)
        first = time.perf_counter()
        if process.wait():
            sys.exit("the cache build failed")
    return first - start, time.perf_counter() - first


def state_of(cache: Path) -> str:
    rows = [
        json.loads(line)
        for path in cache.glob(".packing-*.jsonl")
        for line in path.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]
    state = "the cache is complete" if list(cache.glob("pack-*")) else "nothing on the disk yet"
    return f"{rows[-1]['done']:,} pictures on the disk" if rows else state


def require_same(straight: Path, killed: Path) -> None:
    if contents(straight) != contents(killed):
        sys.exit("OTHER BYTES than those of a cache build without kills")


def contents(cache: Path) -> dict[str, bytes]:
    """Files of the cache by name, as hashes."""
    (folder,) = cache.glob("pack-*")
    return {path.name: hashlib.sha256(path.read_bytes()).digest() for path in folder.iterdir()}


def once(args: argparse.Namespace) -> None:
    from tintype.training.run import TrainRequest, train

    decoded = 0
    decode = decode_module.decode_image

    def counting(content: bytes, at_least: int = 0, options: DataConfig | None = None) -> decode_module.Decoded:
        nonlocal decoded
        decoded += 1
        return decode(content, at_least, options)

    decode_module.decode_image = counting  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        out = Path(folder, "run")
        train(TrainRequest(data=args.data, out=out, images=64, text="learned", device="cpu"))
        num = json.loads((out / "data.json").read_text())["num_samples"]
        print(f"{num:,} pictures checked, cached and trained on in {time.perf_counter() - start:.0f} s", end="; ")
        print(f"{decoded:,} decoded, {decoded / num:.3f} times each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, run in (
        ("check", bench_check),
        ("memory", memory),
        ("epochs", data_epochs.epochs),
        ("reading", data_epochs.reading),
        ("kill", kill),
        ("once", once),
    ):
        command = commands.add_parser(name)
        if name != "memory":
            command.add_argument("data")
        command.add_argument("--files", type=int, default=100_000)
        command.add_argument("--resolution", type=int, default=64)
        command.add_argument("--batch-size", type=int, default=16)
        command.add_argument("--workers", type=int, default=0)
        command.add_argument("--torchvision", action="store_true")
        command.add_argument("--over-white", action="store_true", help="the baseline draws pictures on white")
        command.add_argument("--seconds", type=float, default=20.0)
        command.add_argument("--repeat", type=int, default=3)
        command.add_argument("--times", type=int, default=20)
        command.add_argument("--spread", type=float, default=2.0)
        command.add_argument("--seed", type=int, default=0)
        command.set_defaults(run=run)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
