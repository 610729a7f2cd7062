"""How fast a preset trains here, and what share of this machine's matrix-multiplication rate that is.

    python bench/train_speed.py [--preset nano] [--resolution 32] [--batch-size N] [--rounds 12] [--bf16] [--compile]
                                [--malloc | --versus PX]

Steps of the real `Trainer` and plain float32 matrix products take turns in one process, so that a machine that slows
down or is shared slows both; the share is the median over rounds of (FLOP/s of steps) / (FLOP/s of products, mean of
just before and just after). On a GPU with --bf16 the products are of bfloat16. FLOPs are those of matrix products,
attention and convolutions, forward and backward, and of Muon's products, from `torch.utils.flop_counter`. `--malloc`
compares, in processes that take turns, steps with `keep_memory`, as training has it, and with glibc's defaults.
`--versus PX` has steps at another resolution take turns: at the beginning of a run, at its end, where all samples are
of full size, and over a whole run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tintype.config import PRESETS, Config
from tintype.data.order import Order
from tintype.model.denoiser import Denoiser
from tintype.training.core.compiled import COMPILER
from tintype.training.core.device import keep_memory
from tintype.training.core.trainer import Trainer
from tintype.training.setup import plan

SIDE = {"cpu": 1024}  # of the square matrices whose product is timed
GPU_SIDE = 8192
PRODUCT_SECONDS = 0.3
STEP_SECONDS = 1.0
NUM_SAMPLES = 512
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**26),
}


class SyntheticData:
    """Random pictures and text states of the shapes that a pack gives: 8 to 16 tokens a caption."""

    def __init__(self, config: Config) -> None:
        side, generator = config.net.resolution, torch.Generator().manual_seed(0)
        self._pictures = torch.randint(0, 256, (NUM_SAMPLES, 3, side, side), generator=generator).to(torch.uint8)
        self._states = [
            torch.randn(8 + index % 9, config.text.embedding_dim, generator=generator).half()
            for index in range(NUM_SAMPLES)
        ]

    def order(self, seed: int, indices: Tensor) -> Order:
        return Order(seed, len(indices))

    def by_shape(self, indices: Tensor) -> list[Tensor]:
        return [torch.arange(len(indices))]

    def pictures(self, indices: Tensor) -> Tensor:
        return self._pictures[indices.cpu()]

    def text_embeddings(self, indices: Tensor, choice: Tensor) -> list[Tensor]:
        return [self._states[index] for index in indices.tolist()]

    def mirrorable(self, indices: Tensor) -> Tensor:
        return torch.ones(len(indices), dtype=torch.bool)

    def split(self, share: float) -> tuple[Tensor, Tensor]:
        return torch.arange(NUM_SAMPLES), torch.arange(0)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def product_rate(a: Tensor, b: Tensor) -> float:
    """FLOP/s of `a @ b` over about PRODUCT_SECONDS."""
    num, start = 0, time.perf_counter()
    while (took := time.perf_counter() - start) < PRODUCT_SECONDS:
        torch.mm(a, b)
        wait(a.device)
        num += 1
    return 2 * len(a) ** 3 * num / took


def step_flops(trainer: Trainer) -> int:
    """FLOPs of one step; attention is spelled out as products, for the fused kernel is not counted on every device."""
    steps = trainer.steps(until=sys.maxsize)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        next(steps)
    return counter.get_total_flops()


def measure(config: Config, device: torch.device, rounds: int, bf16: bool, compiled: bool = False) -> dict[str, float]:
    torch.manual_seed(0)
    trainer = Trainer(Denoiser(config), SyntheticData(config), config, device, bf16=bf16)
    flops = step_flops(trainer)
    compile_seconds = 0.0
    if compiled:
        trainer = Trainer(Denoiser(config), SyntheticData(config), config, device, bf16=bf16, compiler=COMPILER)
        compile_seconds = plan.warm_up(trainer)
    steps = trainer.steps(until=sys.maxsize)
    side = SIDE.get(device.type, GPU_SIDE)
    dtype = torch.bfloat16 if bf16 and device.type != "cpu" else torch.float32
    a, b = torch.randn(2, side, side, device=device, dtype=dtype).unbind()
    for _ in range(3):
        next(steps)
    product_rate(a, b)
    before, shares, rates, products = product_rate(a, b), [], [], []
    for _ in range(rounds):
        num, start = 0, time.perf_counter()
        while (took := time.perf_counter() - start) < STEP_SECONDS:
            next(steps)
            wait(device)
            num += 1
        after = product_rate(a, b)
        rates.append(num * config.train.batch_size / took)
        shares.append(num * flops / took / ((before + after) / 2))
        products.append(after)
        before = after
    return {
        "images_per_second": statistics.median(rates),
        "images_per_second_best": max(rates),
        "gflop_per_image": flops / config.train.batch_size / 1e9,
        "product_gflop_per_second": statistics.median(products) / 1e9,
        "share": statistics.median(shares),
        "share_low": min(shares),
        "share_high": max(shares),
        "num_weights": sum(weight.numel() for weight in trainer.denoiser.parameters()),
        "batch_size": config.train.batch_size,
        "threads": torch.get_num_threads(),
        "compile_seconds": compile_seconds,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0,
    }


def compare_sizes(config: Config, other: Config, device: torch.device, rounds: int, bf16: bool) -> dict[str, float]:
    """Images/s of `config` over a whole run, and the median ratio to those of `other`, in turns."""
    trainers = [Trainer(Denoiser(one), SyntheticData(one), one, device, bf16=bf16) for one in (config, config, other)]
    trainers[1].images_seen = config.train.images  # at the end of the run
    steps = [trainer.steps(until=sys.maxsize) for trainer in trainers]
    for _ in range(2):
        for iterator in steps:
            next(iterator)
    late = config.train.decay_fraction
    speeds, ratios, ratios_late = [], [], []
    for _ in range(rounds):
        seconds = []
        for trainer, iterator in zip(trainers, steps, strict=True):
            num, start = 0, time.perf_counter()
            while (took := time.perf_counter() - start) < STEP_SECONDS:
                next(iterator)
                wait(device)
                num += 1
            seconds.append(took / (num * trainer.config.train.batch_size))
        whole = (1 - late) * seconds[0] + late * seconds[1]
        speeds.append(1 / whole)
        ratios.append(seconds[2] / whole)
        ratios_late.append(seconds[2] / seconds[1])
    return {
        "images_per_second": statistics.median(speeds),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "ratio_at_full_size": statistics.median(ratios_late),
        "threads": torch.get_num_threads(),
    }


def compare_malloc(arguments: list[str], pairs: int = 3) -> dict[str, float]:
    """Median images/s with glibc's defaults and with `keep_memory`, and the median ratio of neighboring runs."""
    rates: dict[str, list[float]] = {"default": [], "kept": []}
    for _ in range(pairs):
        for name, more in (("default", ["--default-malloc"]), ("kept", [])):
            command = [sys.executable, __file__, *arguments, *more, "--json"]
            ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rates[name].append(json.loads(ran.stdout)["images_per_second"])
    ratios = [kept / default for default, kept in zip(rates["default"], rates["kept"], strict=True)]
    medians = {f"images_per_second_{name}": statistics.median(values) for name, values in rates.items()}
    return medians | {"ratio": statistics.median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of a training step.")
    parser.add_argument("--preset", choices=PRESETS, default="nano")
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="compute the network in bfloat16")
    parser.add_argument("--compile", action="store_true", help="network and loss with torch.compile")
    parser.add_argument("--malloc", action="store_true", help="compare glibc's defaults with keep_memory")
    parser.add_argument("--versus", type=int, metavar="PX", help="compare with steps at this resolution")
    parser.add_argument("--default-malloc", action="store_true", help="leave glibc's defaults")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.malloc:
        result = compare_malloc([argument for argument in sys.argv[1:] if argument not in ("--malloc", "--json")])
    else:
        if not options.default_malloc:
            keep_memory()  # as `tintype train` does
        make = PRESETS[options.preset]
        config = make(options.resolution) if options.resolution else make()
        batch_size = options.batch_size or config.train.batch_size
        config = replace(config, train=replace(config.train, batch_size=batch_size))
        device = torch.device(options.device)
        if options.versus:
            result = compare_sizes(config, make(options.versus), device, options.rounds, options.bf16)
        else:
            result = measure(config, device, options.rounds, options.bf16, options.compile)
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:28} {value:,.4g}" if isinstance(value, float) else f"{name:28} {value:,}")


if __name__ == "__main__":
    main()
