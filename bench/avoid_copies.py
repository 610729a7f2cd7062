"""Sampling that turns away from copies, with a network that knows its 64 pictures by heart; and what it costs.

    python bench/avoid_copies.py --out FOLDER            # trains the network, some minutes on one core
    python bench/avoid_copies.py --out FOLDER --cost     # of a step, for 1,000 to 10,000 training pictures

Pictures are drawn shapes of 32 pixels, two objects on white, each with a caption of its own. A program judges whether a
picture shows what its caption says. Copies are counted by the alarm of the verdict, which the steer also uses, and by
an independent one: the distance of pixels relative to that of the 20 nearest, with 1 % of held-out pictures below it.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import tintype
from tintype.cli.run.copy_index import BEYOND
from tintype.config import Config
from tintype.copies.alarm import calibrate
from tintype.copies.index import PictureIndex
from tintype.diffusion.samplers import finish
from tintype.model.codec import pixels_of
from tintype.pipeline.copy_index import CopyIndex
from tintype.pipeline.pipeline import Pipeline
from tintype.shapes.captions import sample_caption
from tintype.shapes.draw import draw
from tintype.shapes.judge import check_picture
from tintype.shapes.scenes import RandomStream, Scene, make_rng, scene_at

NUM, HELD_OUT = 64, 300  # pictures
TRAINING_SEED, HELD_OUT_SEED = 21, 22
IMAGES = 14_000  # seen in training
KINDS = ("shapes", "colors", "count", "relation")  # what a picture shows, without sizes


def scenes(num: int, seed: int) -> list[Scene]:
    """Scenes of two objects on white."""
    found: list[Scene] = []
    index = 0
    while len(found) < num:
        scene = scene_at(seed, index)
        if scene.kind == "relation":
            found.append(Scene(scene.specs, 2, scene.relation, "white"))
        index += 1
    return found


def captions(num: int, seed: int) -> list[str]:
    """A caption of each of the scenes, which does not name the background."""
    return [
        sample_caption(replace(scene, background=None), make_rng(seed, index, RandomStream.CAPTION))
        for index, scene in enumerate(scenes(num, seed))
    ]


def pictures(num: int, seed: int) -> list[Image.Image]:
    """The pictures of the scenes, 32 x 32."""
    return [
        draw(scene, 32, make_rng(seed, index, RandomStream.PICTURE)) for index, scene in enumerate(scenes(num, seed))
    ]


def stack(images: list[Image.Image]) -> Tensor:
    """uint8 [N, 3, H, W]."""
    return torch.cat([pixels_of(image) for image in images])


def memorizing_model(folder: Path, images: int = IMAGES) -> Path:
    """A network of 1.2 million weights that has seen 64 pictures until it knows them by heart; trained if not there."""
    data, run = folder / "pictures", folder / "run"
    data.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(pictures(NUM, TRAINING_SEED)):
        image.save(data / f"{index:03d}.png")
        (data / f"{index:03d}.txt").write_text(captions(NUM, TRAINING_SEED)[index] + "\n")
    config = Config.from_preset("nano", 32)
    config = replace(
        config,
        net=replace(config.net, width=128, depth=3, heads=2, stem_width=16),
        text=replace(config.text, encoder="learned", max_tokens=32),
        train=replace(config.train, held_out=0.0, sample_minutes=60.0, save_minutes=30.0, batch_size=16, lr=2e-3),
    )
    if not (run / "model.safetensors").is_file():
        for _ in tintype.train(data, run, config, images=images, threads=1):
            pass
    return run


def copy_index() -> tuple[CopyIndex, float]:
    """The index of the 64 pictures, and the limit of the independent distance."""
    training, held_out = stack(pictures(NUM, TRAINING_SEED)), stack(pictures(HELD_OUT, HELD_OUT_SEED))
    index = PictureIndex.of([training])
    alarm = calibrate(index, held_out, training)
    typical = float(index.nearest(held_out).relative.median())
    limit = float(pixel_distance(held_out, training).sort().values[HELD_OUT // 100 - 1])
    return CopyIndex(index, alarm.limit, alarm.limit + BEYOND * (typical - alarm.limit), alarm.num), limit


def pixel_distance(images: Tensor, training: Tensor) -> Tensor:
    """Distance to the nearest training picture relative to the mean of the nearest 20, in pixels: [N]."""
    distances = torch.cdist(images.flatten(1).double(), training.flatten(1).double()).sort(1).values[:, :20]
    return distances[:, 0] / distances.mean(1)


def measure(
    pipeline: Pipeline, avoid: bool, seed: int, pixel_limit: float
) -> tuple[dict[str, float], list[Image.Image]]:
    """Shares of copies, of pictures that show what their captions say, and of those that were turned away."""
    index = pipeline.copy_index
    assert index is not None
    request = pipeline.request(captions(NUM, TRAINING_SEED), seeds=[seed] * NUM, indices=range(NUM), avoid_copies=avoid)
    started = time.process_time()
    task = pipeline.sampling_task(request)
    images = pipeline.pictures(finish(task.steps()))
    seconds = time.process_time() - started
    verdicts = [check_picture(image, scene) for image, scene in zip(images, scenes(NUM, TRAINING_SEED), strict=True)]
    right = [all(getattr(verdict, kind) is not False for kind in KINDS) for verdict in verdicts]
    made = stack(images)
    return {
        "copies": float((index.pictures.nearest(made).relative <= index.limit).double().mean()),
        "copies in pixels": float(
            (pixel_distance(made, stack(pictures(NUM, TRAINING_SEED))) <= pixel_limit).double().mean()
        ),
        "kinds": sum(right) / NUM,
        "all, with sizes": sum(verdict.all for verdict in verdicts) / NUM,
        "turned": task.num_turned / NUM,
        "seconds": seconds,
    }, images


def sheet(rows: list[list[Image.Image]], path: Path) -> None:
    """Pictures in rows, twice their size."""
    image = Image.new("RGB", (66 * len(rows[0]), 66 * len(rows)), "gray")
    for down, row in enumerate(rows):
        for right, picture in enumerate(row):
            image.paste(picture.resize((64, 64), Image.Resampling.NEAREST), (66 * right, 66 * down))
    image.save(path)


def print_cost(pipeline: Pipeline) -> None:
    """Processor time of looking at a picture that is no copy, beside a step of the network."""
    caption = captions(1, TRAINING_SEED)
    for num in (1_000, 3_000, 10_000):
        noise = torch.randint(0, 256, (num, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        pipeline.copy_index = CopyIndex(PictureIndex(noise), 0.4, 0.5, 100)
        times: dict[bool, float] = {}
        for avoid in (False, True, False, True, False, True):
            started = time.process_time()
            finish(pipeline.sampling_task(pipeline.request(caption, avoid_copies=avoid)).steps())
            seconds = time.process_time() - started
            times[avoid] = min(times.get(avoid, seconds), seconds)
        steps = pipeline.config.sample.steps
        print(
            f"{num:,} training pictures: a step {1000 * times[False] / steps:.2f} ms, avoiding "
            f"{1000 * (times[True] - times[False]) / steps:+.2f} ms, {times[True] / times[False] - 1:+.1%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--cost", action="store_true", help="of the preset nano at 32 pixels")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.cost:
        print_cost(Pipeline.load("shapes"))
        return
    pipeline = Pipeline.load(memorizing_model(args.out))
    pipeline.batch_invariant = False
    pipeline.copy_index, pixel_limit = copy_index()
    print(
        f"limit {pipeline.copy_index.limit:.3f}, target {pipeline.copy_index.target:.3f}, in pixels {pixel_limit:.3f}"
    )
    for seed in range(args.seeds):
        rows = [pictures(NUM, TRAINING_SEED)[:16]]
        for avoid in (False, True):
            figures, images = measure(pipeline, avoid, seed, pixel_limit)
            rows.append(images[:16])
            print(
                f"seed {seed}, {'avoiding' if avoid else 'plain'}: "
                + ", ".join(f"{k} {v:.3f}" for k, v in figures.items())
            )
        sheet(rows, args.out / f"seed-{seed}.png")


if __name__ == "__main__":
    main()
