"""Composition on emoji: pictures of skin-tone variants that the model was never trained on.

    python bench/emoji.py hold DATA > held-out.txt          # one in ten of the variants, for train --exclude
    python bench/emoji.py judge MODEL DATA held-out.txt [--steps N] [--guidance W] [--wording "a sticker showing {}"]
                                [--sheet FILE.png]

DATA are captioned emoji with captions such as "man firefighter dark skin tone" (Noto Emoji, captions of Unicode CLDR).
A generated picture is compared with true ones by their RMS distance over white. It has

    the tone      if, among the variants of its subject, the one with its tone is nearest;
    the subject   if, among all pictures with its tone, the one of its subject is nearest;
    all           if, among all pictures, its own is nearest.

The held-out variants are compared with as many variants of the training set, and with as many pictures without a tone,
mostly of things; training holds out about one in forty of the latter for validation. `--wording` rewords each caption,
to test captions unlike those of training. The share right by chance is printed too. Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tintype.data.images.decode import examine_all, preprocess_for
from tintype.data.sources.find import find_pairs
from tintype.data.sources.pairs import Pair
from tintype.metrics.intervals import proportion
from tintype.pipeline.pipeline import Pipeline

TONE = re.compile(r"\b(?:medium-light|medium-dark|light|dark|medium) skin tone\b")
ONE_IN = 10
BATCH = 32


class Emoji(NamedTuple):
    """A captioned picture: "people holding hands light skin tone dark skin tone"."""

    pair: Pair
    caption: str
    subject: str  # people holding hands
    tones: tuple[str, ...]  # light skin tone, dark skin tone


def emoji(pair: Pair) -> Emoji:
    caption = pair.captions[0]
    return Emoji(pair, caption, " ".join(TONE.sub(" ", caption).split()), tuple(TONE.findall(caption)))


def collection(data: Path) -> list[Emoji]:
    """All emoji of a folder."""
    return [emoji(pair) for pair in find_pairs(data)[0]]


def is_held_out(item: Emoji) -> bool:
    """Whether this is a held-out variant: a tenth of those with a tone, by the hash of the key."""
    return bool(item.tones) and int(hashlib.sha256(item.pair.key.encode()).hexdigest(), 16) % ONE_IN == 0


def choose(items: Sequence[Emoji], held_out: set[str]) -> dict[str, list[int]]:
    """Indices of the emoji to generate: all held-out variants, and as many of each other group."""
    unseen = [index for index, item in enumerate(items) if item.pair.key in held_out]
    rest = [index for index, item in enumerate(items) if item.pair.key not in held_out]
    variants = [index for index in rest if items[index].tones]
    plain = [index for index in rest if not items[index].tones]
    num = len(unseen)
    return {"held out": unseen, "trained on": subsample(variants, num), "without a tone": subsample(plain, num)}


def subsample(indices: Sequence[int], num: int) -> list[int]:
    """At most `num` of the indices, evenly from first to last."""
    positions = np.linspace(0, len(indices) - 1, min(num, len(indices))).round().astype(int)
    return [indices[position] for position in positions]


def true_pictures(items: Sequence[Emoji], side: int) -> Tensor:
    """[N, 3, side, side] in 0 to 255, over white."""
    examined = examine_all([item.pair.source for item in items], preprocess_for(side))
    return torch.stack([torch.from_numpy(picture.pixels) for picture in examined]).float()


def generate(pipeline: Pipeline, captions: Sequence[str], steps: int | None, guidance: float | None) -> Tensor:
    """[N, 3, H, W] in 0 to 255: the seed of picture i is i."""
    pictures = []
    for start in range(0, len(captions), BATCH):
        part = captions[start : start + BATCH]
        seeds = list(range(start, start + len(part)))
        pictures += pipeline.generate(part, seeds=seeds, steps=steps, guidance=guidance)
    return torch.stack([torch.from_numpy(np.array(picture)).movedim(2, 0) for picture in pictures]).float()


def judge_pictures(
    pictures: Tensor, indices: Sequence[int], true: Tensor, items: Sequence[Emoji]
) -> dict[str, dict[str, float]]:
    """For each question, the share of the N pictures that are right, and the share right by chance.

    Pictures without a tone are not judged by tone.
    """
    distances = torch.cdist(pictures.flatten(1), true.flatten(1))  # [N, all]
    questions: dict[str, Callable[[Emoji, Emoji], bool]] = {
        "the tone": lambda item, other: item.subject == other.subject and len(item.tones) == len(other.tones),
        "the subject": lambda item, other: item.tones == other.tones,
        "all": lambda item, other: True,
    }
    if not all(items[index].tones for index in indices):
        del questions["the tone"]
    table = {}
    for name, belongs in questions.items():
        right, chance = 0, 0.0
        for row, index in zip(distances, indices, strict=True):
            candidates = [other for other, item in enumerate(items) if belongs(items[index], item)]
            right += candidates[int(row[candidates].argmin())] == index
            chance += 1 / len(candidates)
        share = proportion(right, len(indices))
        table[name] = {"share": share.value, "low": share.low, "high": share.high, "chance": chance / len(indices)}
    return table


def sheet(rows: Sequence[Tensor]) -> Image.Image:
    """A contact sheet: rows of pictures [B, 3, H, W] under each other."""
    pixels = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    return Image.fromarray(pixels.byte().movedim(0, 2).numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy on unseen skin-tone variants of emoji.")
    commands = parser.add_subparsers(dest="command", required=True)
    hold = commands.add_parser("hold", help="print the keys of the variants to hold out")
    hold.add_argument("data", type=Path)
    judge = commands.add_parser("judge", help="generate pictures and compare them with the true ones")
    judge.add_argument("model")
    judge.add_argument("data", type=Path)
    judge.add_argument("held_out", type=Path)
    judge.add_argument("--steps", type=int)
    judge.add_argument("--guidance", type=float)
    judge.add_argument("--wording", default="{}", help="the caption to generate from, with {} for the original")
    judge.add_argument("--sheet", type=Path, help="write 24 of each group, generated above true")
    judge.add_argument("--json", action="store_true")
    options = parser.parse_args()

    items = collection(options.data)
    if options.command == "hold":
        print("\n".join(item.pair.key for item in items if is_held_out(item)))
        return
    held_out = set(options.held_out.read_text(encoding="utf-8").splitlines())
    pipeline = Pipeline.load(options.model)
    true = true_pictures(items, pipeline.config.net.resolution)
    result, rows = {}, []
    for group, indices in choose(items, held_out).items():
        captions = [options.wording.replace("{}", items[index].caption) for index in indices]
        pictures = generate(pipeline, captions, options.steps, options.guidance)
        result[group] = judge_pictures(pictures, indices, true, items)
        columns = subsample(range(len(indices)), 24)
        rows += [pictures[columns], true[[indices[column] for column in columns]]]
    if options.sheet:
        sheet(rows).save(options.sheet)
    if options.json:
        print(json.dumps(result))
        return
    for group, table in result.items():
        for question, cell in table.items():
            interval = f"[{cell['low']:.1%}, {cell['high']:.1%}]"
            print(f"{group:16}{question:14}{cell['share']:8.1%} {interval:18} by chance {cell['chance']:.1%}")


if __name__ == "__main__":
    main()
