"""How often a model draws what the caption says, judged by a program: the drawn world of `tintype.data.shapes`.

    python bench/shapes_accuracy.py [--model NAME|FOLDER] [--num 500] [--steps N] [--guidance W]
                                    [--interval LOW,HIGH] [--batch 64]

Two sets of captions: *new*, of the kinds the model was trained on but none of them in its training set word for word;
and *held out*, with a color and shape, or an arrangement of two colors, that no training picture shows. `--drawn`
judges pictures that the world drew itself: the most that the checker can find. Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from PIL import Image

from tintype.data.shapes import KINDS, Scene, captions, example
from tintype.data.shapes_check import Verdict, check_picture
from tintype.options import interval
from tintype.pipeline import Pipeline

SEED = 1_000_003  # of the captions asked for; far from any seed of training
SPLITS = {"new": "train", "held out": "held_out"}
ATTRIBUTES = ("count", "shapes", "colors", "sizes", "relation", "background", "all")
Z = 1.959964  # standard normal quantile of 97.5 %

Asked = tuple[int, str, Scene]  # index in the world, caption, what it says


def wilson(num_right: int, num: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); (0, 1) of nothing."""
    if num == 0:
        return 0.0, 1.0
    share, spread = num_right / num, Z * Z / num
    middle = share + spread / 2
    half = Z * math.sqrt(share * (1 - share) / num + spread / num / 4)
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def asked(split: str, num: int, seen: set[str]) -> list[Asked]:
    """The first `num` different captions of a split that are not in `seen`."""
    found: dict[str, Asked] = {}
    for index, (caption, scene) in enumerate(captions(8 * num + 200, SEED, SPLITS[split])):
        if caption not in seen and caption not in found and len(found) < num:
            found[caption] = (index, caption, scene)
    return list(found.values())


def seen_captions(data: Path | None, num: int, seed: int) -> set[str]:
    """What the model was trained on: `metadata.jsonl` of a data folder, or the first `num` captions of a world."""
    if data is None:
        return {caption for caption, _ in captions(num, seed)}
    with (data / "metadata.jsonl").open(encoding="utf-8") as lines:
        return {json.loads(line)["text"] for line in lines}


def from_model(
    pipeline: Pipeline, batch: int, steps: int | None, guidance: float | None, interval: tuple[float, float] | None
) -> Callable:
    """A function from what is asked to pictures: picture i is drawn from seed i."""

    def make(asks: list[Asked]) -> Iterator[Image.Image]:
        for start in range(0, len(asks), batch):
            part = asks[start : start + batch]
            seeds = list(range(start, start + len(part)))
            texts = [caption for _, caption, _ in part]
            yield from pipeline.generate(texts, seeds=seeds, steps=steps, guidance=guidance, interval=interval)

    return make


def shares(verdicts: list[Verdict]) -> dict[str, dict[str, float]]:
    """Per attribute: how many captions speak of it, the share of pictures that show it, and the interval."""
    table = {}
    for attribute in ATTRIBUTES:
        said = [value for verdict in verdicts if (value := getattr(verdict, attribute)) is not None]
        low, high = wilson(sum(said), len(said))
        table[attribute] = {"num": len(said), "share": sum(said) / max(1, len(said)), "low": low, "high": high}
    return table


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
    make, asked_of_net = None, list[int]()
    if not options.drawn:
        pipeline = Pipeline.load(options.model, options.device)
        pipeline.denoiser.net.register_forward_pre_hook(lambda net, inputs: asked_of_net.append(len(inputs[0])))
        make = from_model(pipeline, options.batch, options.steps, options.guidance, options.interval)
    result: dict[str, dict] = {}
    start = time.perf_counter()
    for split in SPLITS:
        asks = asked(split, options.num, seen)
        if make is None:
            pictures = (example(SEED, index, SPLITS[split], options.size).picture for index, _, _ in asks)
        else:
            pictures = make(asks)
        verdicts = [check_picture(picture, scene) for picture, (_, _, scene) in zip(pictures, asks, strict=True)]
        kinds = {kind: [v for v, (_, _, s) in zip(verdicts, asks, strict=True) if s.kind == kind] for kind in KINDS}
        result[split] = shares(verdicts) | {f"all, {kind}": shares(some)["all"] for kind, some in kinds.items()}
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
        print(f"{sum(asked_of_net) / (2 * options.num):.1f} evaluations of the network a picture")


if __name__ == "__main__":
    main()
