"""How long a picture takes once the model is loaded: from caption to picture, one after another.

    python bench/picture.py [MODEL | MODEL:STEPS:GUIDANCE ...] [--num 21] [--batch 1] [--threads 2] [--device cpu]
                            [--no-cuda-graphs]

MODEL alone is a model with its own steps and guidance; several take turns, picture by picture, so that a machine that
slows down slows all. `--batch` makes so many pictures at once. The first of each, which warms up, is made but not
counted. What is printed is the median, the fastest and the slowest of the rest, and how often the network was asked.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import NamedTuple

import torch

from tintype.evaluation.shapes_accuracy import SPLITS, caption_tasks
from tintype.pipeline.pipeline import Pipeline


class Setting(NamedTuple):
    """A model and how it is asked; None leaves it to the model."""

    model: str
    steps: int | None = None
    guidance: float | None = None

    def __str__(self) -> str:
        options = [] if self.steps is None else [f"{self.steps} steps, guidance {self.guidance:g}"]
        return ", ".join([self.model, *options])


def parse_setting(text: str) -> Setting:
    """ "shapes:4:1" -> what to run. Raises ArgumentTypeError."""
    model, *numbers = text.rsplit(":", 2) if text.count(":") >= 2 else [text]
    try:
        return Setting(model, int(numbers[0]), float(numbers[1])) if numbers else Setting(model)
    except ValueError:
        raise argparse.ArgumentTypeError(f"give MODEL or MODEL:STEPS:GUIDANCE, not {text!r}") from None


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds a picture, without starting and loading.")
    parser.add_argument(
        "settings", nargs="*", type=parse_setting, default=[Setting("shapes"), Setting("shapes", 4, 1.0)]
    )
    parser.add_argument("--num", type=int, default=21, help="times that each makes pictures")
    parser.add_argument("--batch", type=int, default=1, help="pictures at once")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", help="default: a GPU if there is one")
    parser.add_argument("--no-cuda-graphs", action="store_true", help="launch each kernel by itself")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    captions = [task.caption for task in caption_tasks(SPLITS["new"], options.num + 1, set())]
    pipelines = [Pipeline.load(setting.model, options.device) for setting in options.settings]
    for pipeline in pipelines:
        pipeline.cuda_graphs = pipeline.cuda_graphs and not options.no_cuda_graphs
    evaluations = [0] * len(pipelines)
    times: list[list[float]] = [[] for _ in pipelines]
    for index, pipeline in enumerate(pipelines):

        def count(net: object, inputs: tuple[torch.Tensor, ...], index: int = index) -> None:
            evaluations[index] += len(inputs[0])

        pipeline.denoiser.net.register_forward_pre_hook(count)
    for seed, caption in enumerate(captions):
        for setting, pipeline, seconds in zip(options.settings, pipelines, times, strict=True):
            start = time.perf_counter()
            numbers = list(range(seed * options.batch, (seed + 1) * options.batch))
            pipeline.generate([caption] * options.batch, seeds=numbers, steps=setting.steps, guidance=setting.guidance)
            seconds.append(time.perf_counter() - start)
    num = len(captions) * options.batch
    results = {
        str(setting): {
            "median": statistics.median(seconds[1:]),
            "fastest": min(seconds[1:]),
            "slowest": max(seconds[1:]),
            "evaluations": num_evaluations / num,
        }
        for setting, seconds, num_evaluations in zip(options.settings, times, evaluations, strict=True)
    }
    if options.json:
        print(json.dumps({"batch": options.batch, "device": str(pipelines[0].device), "settings": results}))
        return
    pictures = "" if options.batch == 1 else f" for {options.batch} at once"
    for name, row in results.items():
        print(
            f"{name}: {row['median']:.3f} s ({row['fastest']:.3f} to {row['slowest']:.3f}){pictures}, "
            f"{row['evaluations']:.1f} evaluations a picture, {options.threads} threads"
        )


if __name__ == "__main__":
    main()
