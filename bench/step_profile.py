"""What a training step of a preset spends its time on: data, draws, text, stem, blocks, head, optimizer.

    python bench/step_profile.py [--preset nano] [--resolution 32] [--batch-size N] [--steps 12] [--device cpu] [--bf16]
                                 [--compile] [--json]

Steps of the real `Trainer`, on random pictures. A mark is set whenever a part of the network begins or ends, on the way
forward and on the way back, and time goes to the part of the mark before it: on a GPU the time of its kernels, by CUDA
events, so that nothing waits. What lies between two parts, such as norms and skips, counts for the one before. With
`--compile` the network is one part, for its graph has no seams. Prints milliseconds of the median step and shares.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from train_speed import SyntheticData, wait

from tintype.config import PRESETS, Config
from tintype.model.denoiser import Denoiser
from tintype.model.nets.dit import DiffusionTransformer
from tintype.training.core.compiled import COMPILER
from tintype.training.core.device import keep_memory
from tintype.training.core.trainer import Trainer

PARTS = ("data", "draws", "text", "stem", "blocks", "head", "network", "optimizer", "averages", "rest")
WARM_UP = 3


class Timeline:
    """Marks in the order of time; each says what begins there."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[tuple[str, Any]] = []

    def mark(self, part: str) -> None:
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append((part, event))
        else:
            self._marks.append((part, time.perf_counter()))

    def seconds(self) -> dict[str, float]:
        """The time of each part since the last call."""
        wait(self._device)
        total: dict[str, float] = defaultdict(float)
        for (part, start), (_, end) in zip(self._marks, self._marks[1:], strict=False):
            total[part] += start.elapsed_time(end) / 1000 if self._device.type == "cuda" else end - start
        self._marks = []
        return total

    def around(self, part: str, function: Callable[..., Any], after: str = "rest") -> Callable[..., Any]:
        def marked(*args: Any, **kwargs: Any) -> Any:
            self.mark(part)
            result = function(*args, **kwargs)
            self.mark(after)
            return result

        return marked

    def watch(self, part: str, module: nn.Module) -> None:
        """Mark `module` where it begins on the way forward, and where its gradient arrives on the way back."""

        def begins(_module: nn.Module, _inputs: Any) -> None:
            self.mark(part)

        def ends(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensor = output if isinstance(output, Tensor) else getattr(output, "tokens", None)
            if tensor is not None and tensor.requires_grad:
                tensor.register_hook(lambda _grad: self.mark(part))

        module.register_forward_pre_hook(begins)
        module.register_forward_hook(ends)


def watch_network(timeline: Timeline, denoiser: Denoiser) -> None:
    net = denoiser.net
    assert isinstance(net, DiffusionTransformer)
    timeline.watch("text", denoiser.text)
    timeline.watch("text", net.level)
    stem = [net.read, *net.down, *net.shrink, net.tokens, net.patches, *net.grow, *net.up, net.write]
    head = [net.detail, net.last] if net.config.head_width else []
    for part, modules in (("stem", stem), ("blocks", list(net.blocks)), ("head", head)):
        for module in modules:
            timeline.watch(part, module)


def profile(config: Config, device: torch.device, steps: int, bf16: bool, compiled: bool) -> dict[str, float]:
    """Seconds of each part in the median step, and of the whole step as `step`."""
    torch.manual_seed(0)
    compiler = COMPILER if compiled else None
    trainer = Trainer(Denoiser(config), SyntheticData(config), config, device, bf16=bf16, compiler=compiler)
    timeline = Timeline(device)
    if not compiled:
        watch_network(timeline, trainer.denoiser)
    objective, gradient, optimizers = trainer._objective, trainer._gradient, trainer._optimizers
    gradient._read = timeline.around("data", gradient._read)
    objective.x0 = timeline.around("data", objective.x0)
    objective.normal = timeline.around("draws", objective.normal)
    objective.errors = timeline.around("network", objective.errors, after="network")
    if objective._compiled is not None:
        objective._compiled = timeline.around("network", objective._compiled, after="network")
    optimizers.zero_grad = timeline.around("rest", optimizers.zero_grad)
    optimizers.step = timeline.around("optimizer", optimizers.step)
    for average in (trainer._ema, trainer._long_ema):
        average.update = timeline.around("averages", average.update)
    clip = torch.nn.utils.clip_grad_norm_
    torch.nn.utils.clip_grad_norm_ = timeline.around("optimizer", clip)
    iterator = trainer.steps(until=sys.maxsize)
    rows: list[dict[str, float]] = []
    try:
        for number in range(WARM_UP + steps):
            timeline.mark("rest")
            next(iterator)
            timeline.mark("rest")
            seconds = timeline.seconds()
            if number >= WARM_UP:
                rows.append(seconds | {"step": sum(seconds.values())})
    finally:
        torch.nn.utils.clip_grad_norm_ = clip
    return {part: statistics.median(row.get(part, 0.0) for row in rows) for part in (*PARTS, "step")}


def main() -> None:
    parser = argparse.ArgumentParser(description="Shares of a training step.")
    parser.add_argument("--preset", choices=PRESETS, default="nano")
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="compute the network in bfloat16")
    parser.add_argument("--compile", action="store_true", help="compile the network, which is then one part")
    parser.add_argument("--full-size", action="store_true", help="as at the end of a run: no samples of half the size")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    keep_memory()
    make = PRESETS[options.preset]
    config = make(options.resolution) if options.resolution else make()
    batch_size = options.batch_size or config.train.batch_size
    half_size = 0.0 if options.full_size else config.train.half_size
    config = replace(config, train=replace(config.train, batch_size=batch_size, half_size=half_size))
    seconds = profile(config, torch.device(options.device), options.steps, options.bf16, options.compile)
    if options.json:
        print(json.dumps(seconds))
        return
    side = config.net.resolution
    print(f"{options.preset}, {side} px, batch {batch_size}, {options.device}: ms of a step")
    for part, value in seconds.items():
        if value:
            print(f"{part:10} {1000 * value:10.2f} {value / seconds['step']:7.1%}")


if __name__ == "__main__":
    main()
