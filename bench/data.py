"""How fast pictures are checked, packed and read; what that costs in memory; whether a killed pack ends the same.

    python bench/data.py check DATA                 pictures checked per second and core
    python bench/data.py memory [--files 100000]    seconds to list and peak memory to check many small files
    python bench/data.py epochs DATA [--repeat 3]   first and later epochs, against decoding in every epoch
    python bench/data.py reading DATA               reading from the pack against what the preset small consumes
    python bench/data.py kill DATA [--times 20]     kill the packing at random moments, compare with a straight one
    python bench/data.py once DATA                  check and pack in a training run: how often each picture is decoded

DATA is anything that `tintype train` takes. Times are CPU seconds of all processes together, so that a machine that is
shared does not change them; `wall` is by the clock. The loader that decodes in every epoch does what torchvision's
ImageFolder with Resize, CenterCrop and ToTensor does, spelled out here, in a torch DataLoader with `--workers`
processes (0).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tintype.config import DataConfig, TextConfig, small
from tintype.data import pictures
from tintype.data.check import check
from tintype.data.pack import Pack
from tintype.data.packing import packing
from tintype.data.pairs import Pair
from tintype.data.parallel import finished
from tintype.data.pictures import framing
from tintype.data.sources import find_pairs
from tintype.denoiser import Denoiser
from tintype.nets.text import make_encoder
from tintype.nets.tokens import learn_tokenizer
from tintype.train.trainer import Trainer

OPTIONS = DataConfig(crop="none")
BATCH = 64
LATER = 10  # epochs read from the pack, measured together: one alone is too short
PACKING = """
import sys
from pathlib import Path
from tintype.config import DataConfig
from tintype.data.packing import packing
from tintype.data.parallel import finished
from tintype.data.pictures import framing
from tintype.data.sources import find_pairs
sys.path.insert(0, sys.argv[3])  # of this file
from data import Lengths
options = DataConfig(crop="none")
finished(packing(find_pairs(sys.argv[1], options)[0], framing(32, options), Path(sys.argv[2]), Lengths()))
"""
CHECKING = """
import sys, time
from tintype.data.check import check
from tintype.data.sources import find_pairs
start, cpu = time.perf_counter(), time.process_time()
num = len(find_pairs(sys.argv[1])[0])
listed, cpu = time.perf_counter() - start, time.process_time() - cpu
assert len(check(sys.argv[1]).pairs) == num
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(listed, cpu, int(peak.split()[1]) / 1024)
"""


class Lengths:
    """A text encoder that costs nothing: each word becomes its length. What is measured is the pack."""

    identity = "lengths"

    def states(self, captions: list[str]) -> list[Tensor]:
        words = [caption.split() for caption in captions]
        states = torch.tensor([len(word) for caption in words for word in caption], dtype=torch.float16)
        return list(states[:, None].split([len(caption) for caption in words]))


class DecodedEachTime(Dataset[Tensor]):
    """Pictures as torchvision's ImageFolder gives them after Resize(side), CenterCrop(side) and ToTensor."""

    def __init__(self, pairs: list[Pair], side: int) -> None:
        self.pairs, self.side = pairs, side

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Tensor:
        picture = Image.open(io.BytesIO(self.pairs[index].place.read())).convert("RGB")
        width, height = picture.size
        scale = self.side / min(width, height)
        picture = picture.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
        left, top = (picture.width - self.side) // 2, (picture.height - self.side) // 2
        picture = picture.crop((left, top, left + self.side, top + self.side))
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div(255)


def bench_check(args: argparse.Namespace) -> None:
    start, cpu = time.perf_counter(), time.process_time()
    report = check(args.data, text=TextConfig())
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    num = len(report.pairs) + report.num_left_out
    print(f"{num:,} pictures in {seconds:.1f} s; {num / cpu:.0f} a second and core (target 300)")


def bench_memory(args: argparse.Namespace) -> None:
    peaks = {}
    for num in (1_000, 10_000, args.files):
        with tempfile.TemporaryDirectory() as folder:
            write_many(Path(folder), num)
            command = [sys.executable, "-c", CHECKING, folder]
            ran = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        listed, cpu, peaks[num] = map(float, ran)
        print(f"{num:,} pictures and their captions listed in {listed:.2f} s ({cpu:.2f} s of one core)", end="; ")
        print(f"checked with {peaks[num]:.0f} MB at the peak", flush=True)
    print(f"{peaks[args.files] / peaks[1_000]:.2f} times the memory for {args.files // 1_000} times the files")


def write_many(folder: Path, num: int) -> None:
    """Small pictures of random colors with captions, a thousand to a folder, as BMP: quickly made."""
    random_ = np.random.default_rng(0)
    template = io.BytesIO()
    Image.new("RGB", (24, 24)).save(template, "BMP")
    head = template.getvalue()[: -3 * 24 * 24]
    for number in range(num):
        place = folder / f"{number // 1000:04}"
        place.mkdir(exist_ok=True)
        pixels = np.kron(random_.integers(0, 256, (4, 4, 3), dtype=np.uint8), np.ones((6, 6, 1), dtype=np.uint8))
        (place / f"{number:06}.bmp").write_bytes(head + pixels.tobytes())
        (place / f"{number:06}.txt").write_text(f"picture number {number}")


def bench_epochs(args: argparse.Namespace) -> None:
    pairs, _ = find_pairs(args.data, OPTIONS)
    how = framing(args.resolution, replace(OPTIONS, crop="square"))
    loader = DataLoader(DecodedEachTime(pairs, args.resolution), BATCH, shuffle=True, num_workers=args.workers)
    decoding, first, later = [], [], []
    for turn in range(args.repeat):
        with tempfile.TemporaryDirectory() as folder:
            watch = Watch()
            for batch in loader:
                assert batch.shape[-1] == args.resolution
            decoding.append(watch.lap())
            made = finished(packing(pairs, how, Path(folder), Lengths()))
            read_epoch(made, 0)
            first.append(watch.lap())
            for epoch in range(LATER):
                read_epoch(made, epoch + 1)
            later.append(watch.lap() / LATER)
        print(f"turn {turn + 1}: decoding {decoding[-1]:.2f} s, packing and reading {first[-1]:.2f} s", end=", ")
        print(f"a later epoch {later[-1]:.3f} s", flush=True)
    print(f"fastest of each: first epoch {min(decoding) / min(first):.2f} times as fast (target 1)", end=", ")
    print(f"later ones {min(decoding) / min(later):.1f} times (target 10)")


class Watch:
    """Counts CPU seconds, from lap to lap."""

    def __init__(self) -> None:
        self._last = cpu_seconds()

    def lap(self) -> float:
        last, self._last = self._last, cpu_seconds()
        return self._last - last


def cpu_seconds() -> float:
    """Of this process and those of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def read_epoch(made: Pack, epoch: int) -> None:
    """Read one epoch in order, as floats, in batches."""
    everything = torch.arange(made.num_samples)
    order = made.order(0, everything)
    for positions in (everything + epoch * made.num_samples).split(BATCH):
        indices = order.at(positions)
        for places in made.by_shape(indices):
            made.pictures(indices[places]).float().div_(255)
            made.states(indices[places], torch.zeros(len(places), dtype=torch.int64))


def bench_reading(args: argparse.Namespace) -> None:
    pairs, _ = find_pairs(args.data, OPTIONS)
    tokenizer, vocabulary = learn_tokenizer([caption for pair in pairs for caption in pair.captions])
    config = small(args.resolution)
    config = replace(
        config,
        text=TextConfig(encoder="learned", vocabulary=vocabulary),
        train=replace(config.train, batch_size=args.batch_size),
    )
    encoder = make_encoder(config.text, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        made = finished(packing(pairs, framing(args.resolution, config.data, config.net.patch), Path(folder), encoder))
        trainer = Trainer(Denoiser(config, tokenizer), made, config, torch.device("cpu"))
        next(trainer.steps(10**9))
        start, seen = time.process_time(), trainer.images_seen
        while time.process_time() - start < args.seconds:
            next(trainer.steps(10**9))
        consumed = 2 * (trainer.images_seen - seen) / (time.process_time() - start)
        start, read = time.process_time(), 0
        while time.process_time() - start < args.seconds / 4:
            trainer._parts(torch.arange(read, read + BATCH))
            read += BATCH
        rate = read / (time.process_time() - start)
    share = consumed / rate
    print(f"two cores train small at {args.resolution} px on {consumed:.1f} images/s; one reads {rate:.0f} images/s")
    print(f"{rate / consumed:.0f} times (target 20); {100 * share:.2f} % of one core at that rate (target 5)")


def bench_kill(args: argparse.Namespace) -> None:
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        straight, killed = Path(folder, "straight"), Path(folder, "killed")
        start = time.perf_counter()
        start_packing(args.data, straight).wait()
        whole = time.perf_counter() - start
        begun = 0.3 * whole
        for number in range(args.times):
            process = start_packing(args.data, killed)
            time.sleep(chance.uniform(begun, whole))
            process.send_signal(signal.SIGKILL)
            process.wait()
            print(f"kill {number + 1}: {state_of(killed)}", flush=True)
            if list(killed.glob("pack-*")):
                same = contents(straight) == contents(killed)
                print(f"  the pack was finished: {'the same bytes' if same else 'OTHER BYTES'}")
                if not same:
                    sys.exit(1)
                subprocess.run(["rm", "-r", str(killed)], check=True)
        assert start_packing(args.data, killed).wait() == 0
        same = contents(straight) == contents(killed)
        print(f"after {args.times} kills: {'the same bytes' if same else 'OTHER BYTES'}")
        if not same:
            sys.exit(1)


def start_packing(data: str, cache: Path) -> subprocess.Popen[bytes]:
    here = str(Path(__file__).parent)
    return subprocess.Popen([sys.executable, "-c", PACKING, data, str(cache), here])


def state_of(cache: Path) -> str:
    rows = [json.loads(line) for path in cache.glob(".packing-*.jsonl") for line in path.read_text().splitlines()]
    return f"{rows[-1]['done']:,} pictures done" if rows else "nothing done yet, or all"


def contents(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for folder in cache.glob("pack-*") for path in folder.iterdir()}


def bench_once(args: argparse.Namespace) -> None:
    from tintype.train.run import TrainRequest, train

    decoded = 0
    decode = pictures.decode

    def counting(content: bytes, at_least: int = 0, options: DataConfig | None = None) -> pictures.Decoded:
        nonlocal decoded
        decoded += 1
        return decode(content, at_least, options)

    pictures.decode = counting  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        out = Path(folder, "run")
        train(TrainRequest(data=args.data, out=out, images=64, text="learned", device="cpu"))
        num = json.loads((out / "data.json").read_text())["num_samples"]
        print(f"{num:,} pictures checked, packed and trained on in {time.perf_counter() - start:.0f} s", end="; ")
        print(f"{decoded:,} decoded, {decoded / num:.3f} times each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, run in (
        ("check", bench_check),
        ("memory", bench_memory),
        ("epochs", bench_epochs),
        ("reading", bench_reading),
        ("kill", bench_kill),
        ("once", bench_once),
    ):
        command = commands.add_parser(name)
        if name != "memory":
            command.add_argument("data")
        command.add_argument("--files", type=int, default=100_000)
        command.add_argument("--resolution", type=int, default=64)
        command.add_argument("--batch-size", type=int, default=16)
        command.add_argument("--workers", type=int, default=0)
        command.add_argument("--seconds", type=float, default=20.0)
        command.add_argument("--repeat", type=int, default=3)
        command.add_argument("--times", type=int, default=20)
        command.add_argument("--seed", type=int, default=0)
        command.set_defaults(run=run)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
