"""Composing, measured on emoji: pictures of skin-tone variants that were never trained on.

    python bench/emoji.py hold DATA > held-out.txt          # one in ten of the variants, for train --exclude
    python bench/emoji.py judge MODEL DATA held-out.txt [--steps N] [--guidance W] [--wording "a sticker showing {}"]
                                [--sheet FILE.png]

DATA are captioned emoji with captions such as "man firefighter dark skin tone" (Noto Emoji, captions of Unicode CLDR).
A made picture is compared with true ones, pixel by pixel over white (root mean square): it has

    the tone      if, of the variants of what its caption names, the one with its tone is nearest;
    the subject   if, of all pictures with its tone, the one of its subject is nearest;
    all           if, of all pictures there are, its own is nearest.

Beside variants that were held out stand as many that were trained on, and as many pictures without a tone, of things
most of them; training holds out about one in forty of these to measure itself. `--wording` puts each caption into other
words: what is understood beyond the captions of training. What would be right by chance is printed too. Intervals are
Wilson's, 95 %.
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


def is_held_out(one: Emoji) -> bool:
    """Whether it is one of the variants that are never trained on: a tenth of those with a tone, by their key."""
    return bool(one.tones) and int(hashlib.sha256(one.pair.key.encode()).hexdigest(), 16) % ONE_IN == 0


def asked(everything: Sequence[Emoji], held_out: set[str]) -> dict[str, list[int]]:
    """Which pictures are made, by place: all variants that were held out, and as many of each other kind."""
    own = [place for place, one in enumerate(everything) if one.pair.key in held_out]
    rest = [place for place, one in enumerate(everything) if one.pair.key not in held_out]
    variants = [place for place in rest if everything[place].tones]
    plain = [place for place in rest if not everything[place].tones]
    return {"held out": own, "trained on": spread(variants, len(own)), "without a tone": spread(plain, len(own))}


def spread(places: Sequence[int], num: int) -> list[int]:
    """At most `num` of the places, evenly from first to last."""
    picked = np.linspace(0, len(places) - 1, min(num, len(places))).round().astype(int)
    return [places[at] for at in picked]


def true_pictures(everything: Sequence[Emoji], side: int) -> Tensor:
    """[N, 3, side, side] in 0 to 255, over white."""
    found = examine_all([one.pair.source for one in everything], preprocess_for(side))
    return torch.stack([torch.from_numpy(one.pixels) for one in found]).float()


def made_pictures(pipeline: Pipeline, captions: Sequence[str], steps: int | None, guidance: float | None) -> Tensor:
    """[N, 3, H, W] in 0 to 255: picture i is made from seed i."""
    made = []
    for start in range(0, len(captions), BATCH):
        part = captions[start : start + BATCH]
        seeds = list(range(start, start + len(part)))
        made += pipeline.generate(part, seeds=seeds, steps=steps, guidance=guidance)
    return torch.stack([torch.from_numpy(np.array(picture)).movedim(2, 0) for picture in made]).float()


def judged(made: Tensor, places: Sequence[int], true: Tensor, everything: Sequence[Emoji]) -> dict[str, dict]:
    """For each question, how many of N `made` pictures are right, and how many would be by chance.

    Of pictures without a tone the tone is not asked.
    """
    apart = torch.cdist(made.flatten(1), true.flatten(1))  # [N, all]
    questions: dict[str, Callable[[Emoji, Emoji], bool]] = {
        "the tone": lambda own, other: own.subject == other.subject and len(own.tones) == len(other.tones),
        "the subject": lambda own, other: own.tones == other.tones,
        "all": lambda own, other: True,
    }
    if not all(everything[place].tones for place in places):
        del questions["the tone"]
    table = {}
    for name, belongs in questions.items():
        right, chance = 0, 0.0
        for row, place in zip(apart, places, strict=True):
            among = [other for other, one in enumerate(everything) if belongs(everything[place], one)]
            right += among[int(row[among].argmin())] == place
            chance += 1 / len(among)
        found = proportion(right, len(places))
        table[name] = {"share": found.value, "low": found.low, "high": found.high, "chance": chance / len(places)}
    return table


def sheet(rows: Sequence[Tensor]) -> Image.Image:
    """Rows of pictures [n, 3, H, W] under each other."""
    pixels = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    return Image.fromarray(pixels.byte().movedim(0, 2).numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description="How well unseen skin-tone variants of emoji come out.")
    commands = parser.add_subparsers(dest="command", required=True)
    hold = commands.add_parser("hold", help="print the keys of the variants that are never trained on")
    hold.add_argument("data", type=Path)
    judge = commands.add_parser("judge", help="make them, and compare them with the true ones")
    judge.add_argument("model")
    judge.add_argument("data", type=Path)
    judge.add_argument("held_out", type=Path)
    judge.add_argument("--steps", type=int)
    judge.add_argument("--guidance", type=float)
    judge.add_argument("--wording", default="{}", help="what is asked for, {} for the caption")
    judge.add_argument("--sheet", type=Path, help="write 24 of each kind, made above true")
    judge.add_argument("--json", action="store_true")
    options = parser.parse_args()

    everything = collection(options.data)
    if options.command == "hold":
        print("\n".join(one.pair.key for one in everything if is_held_out(one)))
        return
    held_out = set(options.held_out.read_text(encoding="utf-8").splitlines())
    pipeline = Pipeline.load(options.model)
    true = true_pictures(everything, pipeline.config.net.resolution)
    result, rows = {}, []
    for kind, places in asked(everything, held_out).items():
        captions = [options.wording.replace("{}", everything[place].caption) for place in places]
        made = made_pictures(pipeline, captions, options.steps, options.guidance)
        result[kind] = judged(made, places, true, everything)
        shown = spread(range(len(places)), 24)
        rows += [made[shown], true[[places[at] for at in shown]]]
    if options.sheet:
        sheet(rows).save(options.sheet)
    if options.json:
        print(json.dumps(result))
        return
    for kind, table in result.items():
        for question, cell in table.items():
            interval = f"[{cell['low']:.1%}, {cell['high']:.1%}]"
            print(f"{kind:16}{question:14}{cell['share']:8.1%} {interval:18} by chance {cell['chance']:.1%}")


if __name__ == "__main__":
    main()
