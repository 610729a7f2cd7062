"""How often a model draws what the caption says, judged by a program: the drawn world of `tintype.shapes.write`.

    python bench/shapes_accuracy.py [--model NAME|FOLDER] [--num 500] [--steps N] [--guidance W]
                                    [--interval LOW,HIGH] [--batch 64]

Two sets of captions: *new*, of the kinds the model was trained on but none of them in its training set word for word;
and *held out*, with a color and shape, or an arrangement of two colors, that no training picture shows. `--drawn`
judges pictures that the world drew itself: the most that the checker can find. Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from PIL import Image

from tintype.cli.options import interval
from tintype.evaluation.shapes_accuracy import SEED, SPLITS, CaptionTask, attribute_score, caption_tasks, judge_pictures
from tintype.pipeline.pipeline import Pipeline
from tintype.shapes.captions import captioned_scenes
from tintype.shapes.judge import Verdict
from tintype.shapes.scenes import KINDS, Scene
from tintype.shapes.write import example

Make = Callable[[list[CaptionTask]], Iterator[Image.Image]]
ATTRIBUTES = ("count", "shapes", "colors", "sizes", "relation", "background", "all")


def seen_captions(data: Path | None, num: int, seed: int) -> set[str]:
    """What the model was trained on: `metadata.jsonl` of a data folder, or the first `num` captions of a world."""
    if data is None:
        return {caption for caption, _ in captioned_scenes(num, seed)}
    with (data / "metadata.jsonl").open(encoding="utf-8") as lines:
        return {json.loads(line)["text"] for line in lines}


def from_model(
    pipeline: Pipeline, batch: int, steps: int | None, guidance: float | None, interval: tuple[float, float] | None
) -> Make:
    """A function from what is asked to pictures: picture i is drawn from seed i."""

    def make(tasks: list[CaptionTask]) -> Iterator[Image.Image]:
        for start in range(0, len(tasks), batch):
            batch_tasks = tasks[start : start + batch]
            seeds = list(range(start, start + len(batch_tasks)))
            texts = [task.caption for task in batch_tasks]
            yield from pipeline.generate(texts, seeds=seeds, steps=steps, guidance=guidance, guidance_interval=interval)

    return make


def shares(verdicts: list[Verdict], scenes: list[Scene]) -> dict[str, dict[str, float]]:
    """Per attribute: how many captions speak of it, the share of pictures that show it, and the interval."""
    table = {}
    for attribute in ATTRIBUTES:
        score = attribute_score(verdicts, scenes, attribute)
        share, low, high = score.right
        table[attribute] = {"num": score.num, "share": share if score.num else 0.0, "low": low, "high": high}
    return table


def measured(make: Make | None, num: int, seen: set[str], size: int = 32) -> dict[str, dict]:
    """`shares` of both sets of `num` captions, with "all" of each kind; without `make`, of pictures the world drew."""
    result: dict[str, dict] = {}
    for split in SPLITS:
        tasks = caption_tasks(SPLITS[split], num, seen)
        if make is None:
            pictures = (example(SEED, task.number, SPLITS[split], size).picture for task in tasks)
        else:
            pictures = make(tasks)
        scenes, verdicts = [task.scene for task in tasks], judge_pictures(pictures, tasks)
        result[split] = shares(verdicts, scenes)
        for kind in KINDS:
            indices = [index for index, scene in enumerate(scenes) if scene.kind == kind]
            kind_shares = shares([verdicts[index] for index in indices], [scenes[index] for index in indices])
            result[split][f"all, {kind}"] = kind_shares["all"]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Caption accuracy on drawn shapes.")
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--num", type=int, default=500, help="captions in each of the two sets")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--interval", type=interval, metavar="LOW,HIGH", help="noise levels at which guidance acts")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device")
    parser.add_argument("--seen", type=Path, help="the data folder that the model was trained on")
    parser.add_argument(
        "--seen-num", type=int, default=100_000, help="without --seen: captions of the world trained on"
    )
    parser.add_argument("--seen-seed", type=int, default=0, help="and its seed")
    parser.add_argument("--drawn", action="store_true", help="judge drawn pictures instead of a model's")
    parser.add_argument("--size", type=int, default=32, help="with --drawn: pixels")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    seen = seen_captions(options.seen, options.seen_num, options.seen_seed)
    make, batch_sizes = None, list[int]()
    if not options.drawn:
        pipeline = Pipeline.load(options.model, options.device)
        pipeline.denoiser.net.register_forward_pre_hook(lambda net, inputs: batch_sizes.append(len(inputs[0])))
        make = from_model(pipeline, options.batch, options.steps, options.guidance, options.interval)
    start = time.perf_counter()
    result = measured(make, options.num, seen, options.size)
    seconds = time.perf_counter() - start

    if options.json:
        print(json.dumps({"shares": result, "seconds": seconds, "threads": torch.get_num_threads()}))
        return
    print(f"{'':16}" + "".join(f"{split:>32}" for split in result))
    for row in result["new"]:
        cells = (
            f"{cell['share']:8.1%} [{cell['low']:.1%}, {cell['high']:.1%}] of {cell['num']:<4}"
            for cell in (result[split][row] for split in result)
        )
        print(f"{row:16}" + "".join(f"{cell:>32}" for cell in cells))
    print(f"{2 * options.num} pictures asked for, judged in {seconds:.0f} s with the rest")
    if make is not None:
        print(f"{sum(batch_sizes) / (2 * options.num):.1f} evaluations of the network a picture")


if __name__ == "__main__":
    main()
