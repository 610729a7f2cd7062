"""What guidance costs and what it brings: evaluations of the network, caption accuracy and nearness to true pictures.

    python bench/guided.py [--model M] [--num 200] [--steps 20] [--guidance 3] [--interval LOW,HIGH] [--guide WEAK]

Rows: no guidance; plain guidance, at all noise levels; the model's own interval; other intervals; and a weaker model
as the guide, at all noise levels and in the model's interval. All with the same captions and starting noise: --num
that are new and --num held out (see shapes_accuracy.py). *Distance* is that of `tintype evaluate`, to pictures that
the world drew of the same captions, 1 where all are alike; evaluations of a guide count like the network's.
"""

from __future__ import annotations

import argparse

import torch
from shapes_accuracy import from_model, seen_captions

from tintype.cli.options import interval
from tintype.evaluation.features import scattering
from tintype.evaluation.quality import Projection, corrected_frechet
from tintype.evaluation.shapes_accuracy import SEED, SPLITS, attribute_score, caption_tasks, judge_pictures
from tintype.model.codec import pixels_of
from tintype.pipeline.pipeline import Pipeline
from tintype.shapes.write import example

ALL = (0.0, 1e6)


class Bench:
    """The captions asked for, true pictures of them, and a table that rows are added to."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        seen = seen_captions(None, options.seen_num, 0)
        self.tasks = {split: caption_tasks(held_out, options.num, seen) for split, held_out in SPLITS.items()}
        drawn = [
            example(SEED, task.number, SPLITS[split], options.size).picture
            for split, tasks in self.tasks.items()
            for task in tasks
        ]
        real = scattering(torch.cat([pixels_of(picture) for picture in drawn]))
        self.project = Projection(real)
        self.real = self.project(real)
        print(f"{'':36}{'evaluations':>12}{'new':>24}{'held out':>24}{'distance':>26}")

    def row(self, name: str, pipeline: Pipeline, scale: float, levels: tuple[float, float] | None) -> float:
        """Make all pictures, judge them, print; returns evaluations a picture."""
        counts = list[int]()
        nets = [pipeline.denoiser.net] + ([pipeline.guide.denoiser.net] if pipeline.guide else [])
        hooks = [net.register_forward_pre_hook(lambda _, inputs: counts.append(len(inputs[0]))) for net in nets]
        make = from_model(pipeline, self.options.batch, self.options.steps, scale, levels)
        cells, samples = [], []
        for tasks in self.tasks.values():
            pictures = list(make(tasks))
            samples += pictures
            accuracy = attribute_score(judge_pictures(pictures, tasks), [task.scene for task in tasks], "all").right
            cells.append(f"{accuracy.value:8.1%} [{accuracy.low:.1%}, {accuracy.high:.1%}]")
        for hook in hooks:
            hook.remove()
        projection = self.project(scattering(torch.cat([pixels_of(picture) for picture in samples])))
        distance = corrected_frechet(projection, self.real)
        evaluations = sum(counts) / len(samples)
        print(
            f"{name:36}{evaluations:12.1f}"
            + "".join(f"{cell:>24}" for cell in cells)
            + f"{f'{distance.value:.4f} [{distance.low:.4f}, {distance.high:.4f}]':>26}",
            flush=True,
        )
        return evaluations


def loaded(model: str, guide: str | None, device: str | None) -> Pipeline:
    pipeline = Pipeline.load(model, device, guide)
    pipeline.batch_invariant = False
    return pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description="Guidance: what it costs and what it brings.")
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--num", type=int, default=200, help="captions in each of the two sets")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--interval", type=interval, action="append", default=[], metavar="LOW,HIGH")
    parser.add_argument("--guide", action="append", default=[], metavar="MODEL")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32, help="pixels")
    parser.add_argument("--seen-num", type=int, default=100_000, help="captions of the world that it was trained on")
    parser.add_argument("--device")
    options = parser.parse_args()

    bench, scale = Bench(options), options.guidance
    pipeline = loaded(options.model, None, options.device)
    sampling = pipeline.config.sample
    bench.row("no guidance", pipeline, 1.0, None)
    plain = bench.row(f"{scale:g}, at all noise levels", pipeline, scale, ALL)
    default = bench.row(
        f"{scale:g}, sigma {sampling.guidance_min:g} to {sampling.guidance_max:g} (its own)", pipeline, scale, None
    )
    for low, high in options.interval:
        bench.row(f"{scale:g}, sigma {low:g} to {high:g}", pipeline, scale, (low, high))
    for guide in options.guide:
        guided = loaded(options.model, guide, options.device)
        for levels, where in ((ALL, "all levels"), (None, "its own interval")):
            bench.row(f"{scale:g}, guide {guided.guide.name if guided.guide else ''}, {where}", guided, scale, levels)
    print(f"its own interval saves {1 - default / plain:.1%} of the evaluations of plain guidance")


if __name__ == "__main__":
    main()
