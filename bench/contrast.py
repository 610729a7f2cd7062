"""Two ways to make a picture, measured against each other: at once out of noise, or token by token (docs/contrast.md).

    python bench/contrast.py [--diffusion shapes] [--tokens shapes-tokens] [--num 100] [--changed 40] [--seeds 0,1,2]
                             [--ways diffusion,tokens] [--only accuracy,cost,...] [--curve RUN] [--json]

The same captions of the drawn world and the same judge as in `bench/shapes_accuracy.py`; of each caption a picture for
every seed. Intervals are Wilson's, 95 %, over all pictures. `--curve` judges the checkpoints of a run of
`tintype tokens` instead. Seconds are of processor time, so that other programs disturb them less.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from contrast_figures import bits_text, mean_text, overlap, png_bytes, same_background, share_text, still_there
from contrast_ways import AtOnce, Damage, TokenByToken, Way
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tintype.diffusion.noise import Purpose, uniform
from tintype.evaluation.shapes_accuracy import SEED, SPLITS, CaptionTask, caption_tasks
from tintype.model import checkpoint
from tintype.model.codec import pictures_of, pixels_of
from tintype.pipeline.pipeline import Pipeline
from tintype.shapes.captions import captioned_scenes
from tintype.shapes.judge import check_picture
from tintype.shapes.scenes import COLORS
from tintype.shapes.write import example
from tintype.tokens import store
from tintype.tokens.writer import TokenWriter

BATCH = 50
SHARES = (0.25, 0.5, 0.75)  # of the making, at which something changes
SEEN, SEEN_SEED = 100_000, 0  # captions that the models may have been trained on
Rows = list[tuple[str, str]]  # what, and the figure


class Contrast:
    """The measurements: each method returns rows of a table."""

    def __init__(
        self, diffusion: str, writer: TokenWriter, num: int, changed: int, seeds: Sequence[int], ways: Sequence[str]
    ) -> None:
        net = writer.config.net
        self.writer, self.pipeline = writer, Pipeline.load(diffusion, "cpu")
        both: list[Way] = [AtOnce(self.pipeline, net.patch), TokenByToken(writer)]
        self.ways = [way for way in both if way.name in ways]
        self.seeds = seeds
        known = {caption for caption, _ in captioned_scenes(SEEN, SEEN_SEED)}
        self.tasks = {split: caption_tasks(SPLITS[split], num, known) for split in SPLITS}
        self.num_changed, self.changed = changed, self.tasks["new"][:changed]
        self.singles = [task for task in caption_tasks("train", 8 * changed, set()) if task.scene.kind == "single"]

    def accuracy(self) -> Rows:
        """How often all that a caption says is right."""
        rows = []
        for way in self.ways:
            for split, tasks in self.tasks.items():
                right = [self._right(tasks, lambda batch, seed, way=way: way.draw(_captions(batch), seed), [seed])
                         for seed in self.seeds]  # fmt: skip
                each = ", ".join(f"{np.mean(hits):.1%}" for hits in right)
                rows.append(
                    (
                        f"{way.name}, {split} captions",
                        f"{share_text([hit for hits in right for hit in hits])}; by seed {each}",
                    )
                )
        return rows

    def codebook(self) -> Rows:
        """What tokens keep of real pictures."""
        rows = []
        for split, tasks in self.tasks.items():
            real = _real(tasks, SPLITS[split])
            kept = self.writer.model.codebook.decode(self.writer.model.codebook.encode(real))
            errors = (kept.float() - real.float()).square().mean((1, 2, 3))
            psnr = float((10 * torch.log10(255**2 / errors.clamp(min=1e-3))).mean())
            rows.append(
                (
                    f"real pictures of {split} captions as tokens",
                    f"{psnr:.1f} dB; right {share_text(_judged(kept, tasks))}",
                )
            )
        return rows

    def cost(self) -> Rows:
        """What a picture takes: evaluations, operations, processor time."""
        rows, caption = [], "a small red circle left of a large blue square"
        steps = sum(1 for _ in self.pipeline.stream([caption], seeds=0))
        evaluations = {"diffusion": f"{steps} steps", "tokens": f"{self.writer.config.net.num_tokens} tokens"}
        for way in self.ways:
            with FlopCounterMode(display=False) as counter:
                way.draw([caption], 0)
            alone, together = _seconds(way, [caption], 5), _seconds(way, [caption] * BATCH, 1) / BATCH
            text = f"{evaluations[way.name]}, {counter.get_total_flops() / 1e9:.2f} billion operations, "
            rows.append(
                (f"{way.name}, a picture", f"{text}{alone:.3f} s alone, {together:.4f} s in a batch of {BATCH}")
            )
        return rows

    def likelihood(self) -> Rows:
        """Bits of unseen real pictures as tokens, and of the same pictures as PNG."""
        tasks = self.tasks["new"]
        real = _real(tasks, SPLITS["new"])
        tokens = self.writer.model.codebook.encode(real)
        kept = pictures_of(self.writer.model.codebook.decode(tokens))
        true = torch.cat([self.writer.bits(part, _captions(batch)) for part, batch in _batches(tokens, tasks)])
        shifted = [*tasks[1:], tasks[0]]
        other = torch.cat([self.writer.bits(part, _captions(batch)) for part, batch in _batches(tokens, shifted)])
        none = torch.cat([self.writer.bits(part, [""] * len(part)) for part, _ in _batches(tokens, tasks)])
        counts = torch.bincount(tokens.flatten()).float()
        shares = counts[counts > 0] / counts.sum()
        frequency = float(-(shares * shares.log2()).sum()) * tokens.shape[1]
        uniform_bits = tokens.shape[1] * math.log2(self.writer.config.net.codes)
        png = 8 * np.mean([len(png_bytes(picture)) for picture in kept])
        return [
            ("a picture as tokens of equal length", f"{uniform_bits:.0f} bits"),
            ("by the frequencies of the tokens in these pictures", f"{frequency:.0f} bits"),
            ("by the model, with its caption", bits_text(true)),
            ("by the model, without a caption", bits_text(none)),
            ("by the model, with another picture's caption", bits_text(other)),
            ("the same pixels as PNG", f"{png:.0f} bits"),
        ]

    def damage(self) -> Rows:
        """Wrong patches on the way: how often the picture is right all the same, and the patch is still there."""
        rows, tasks, net = [], self.changed, self.writer.config.net
        codes = self.writer.model.codebook.codes
        for num in (1, net.side):
            for share in SHARES:
                for way in self.ways:
                    hits, stays = [], []
                    for seed in self.seeds:
                        for start, batch in _starts(tasks):
                            draws = uniform(seed, Purpose.EVALUATE, start + torch.arange(len(batch)), num + 1)
                            column = (draws[:, 0] * net.side).long() if num == 1 else torch.zeros(len(batch)).long()
                            wrong = codes[(draws[:, 1:] * len(codes)).long()]
                            damage = Damage(share, int(share * net.side) * net.side + column, wrong)
                            made = way.damaged(_captions(batch), seed, damage)
                            hits += _judged(made, batch)
                            stays += still_there(made, damage, net.patch)
                    what = f"{num} wrong patch{'es' if num > 1 else ''} after {share:.0%}, {way.name}"
                    rows.append((what, f"right {share_text(hits)}; wrong patch still there {share_text(stays)}"))
        return rows

    def caption(self) -> Rows:
        """Another caption on the way: which of the two the picture shows."""
        rows, tasks = [], self.changed
        others = [*tasks[1:], tasks[0]]
        for share in SHARES:
            for way in self.ways:
                first, second = [], []
                for seed in self.seeds:
                    for start, batch in _starts(tasks):
                        later = others[start : start + len(batch)]
                        made = way.switched(_captions(batch), _captions(later), seed, share)
                        first += _judged(made, batch)
                        second += _judged(made, later)
                what = f"another caption after {share:.0%}, {way.name}"
                rows.append((what, f"shows the new one {share_text(second)}, the old one {share_text(first)}"))
        return rows

    def half(self) -> Rows:
        """One half of real pictures is given, the other made."""
        rows, tasks, net = [], self.changed, self.writer.config.net
        places = torch.arange(net.num_tokens)
        halves = {"lower": places >= net.num_tokens // 2, "upper": places < net.num_tokens // 2}
        for name, kept in halves.items():
            for way in self.ways:
                hits = self._right(
                    tasks,
                    lambda batch, seed, way=way, kept=kept: way.completed(
                        _captions(batch), seed, _real(batch, SPLITS["new"]), kept
                    ),
                    self.seeds,
                )
                rows.append((f"the {name} half given, {way.name}", f"right {share_text(hits)}"))
        return rows

    def seed(self) -> Rows:
        """What a seed decides that the caption leaves open: pictures of one object whose background is not named."""
        rows, colors = [], list(COLORS)
        tasks = [task for task in self.singles if task.scene.background is None][: self.num_changed]
        captions = _captions(tasks)
        specs = [task.scene.specs[0] for task in tasks]
        others = [colors[(colors.index(spec.color) + 3) % len(colors)] for spec in specs]
        recolored = [
            caption.replace(spec.color, other) for caption, spec, other in zip(captions, specs, others, strict=True)
        ]
        for way in self.ways:
            first, second = (_drawn(way, captions, seed) for seed in (self.seeds[0], self.seeds[0] + 1))
            for what, other in (
                ("same seed, another color word", _drawn(way, recolored, self.seeds[0])),
                ("same caption, another seed", second),
            ):
                shared, alike = mean_text(overlap(first, other)), share_text(same_background(first, other))
                rows.append((f"{what}, {way.name}", f"same background {alike}; objects overlap {shared}"))
        return rows

    def _right(
        self, tasks: Sequence[CaptionTask], make: Callable[[Sequence[CaptionTask], int], Tensor], seeds: Sequence[int]
    ) -> list[bool]:
        return [hit for seed in seeds for _, batch in _starts(tasks) for hit in _judged(make(batch, seed), batch)]


def curve(run: Path, contrast: Contrast) -> Rows:
    """Caption accuracy of the checkpoints of a token model, oldest first, written as the model that is given writes."""
    rows = []
    for folder in reversed(checkpoint.checkpoints(run)):
        way = TokenByToken(TokenWriter(store.load(folder)), contrast.writer.config.write)
        images = json.loads((folder / "state.json").read_text())["images_seen"]
        shares = [
            share_text(contrast._right(tasks, lambda batch, seed, way=way: way.draw(_captions(batch), seed), [0]))
            for tasks in contrast.tasks.values()
        ]
        rows.append(
            (f"{images:,} images", "; ".join(f"{s} {share}" for s, share in zip(contrast.tasks, shares, strict=True)))
        )
    return rows


def _captions(tasks: Sequence[CaptionTask]) -> list[str]:
    return [task.caption for task in tasks]


def _starts(tasks: Sequence[CaptionTask]) -> list[tuple[int, Sequence[CaptionTask]]]:
    return [(start, tasks[start : start + BATCH]) for start in range(0, len(tasks), BATCH)]


def _batches(tokens: Tensor, tasks: Sequence[CaptionTask]) -> list[tuple[Tensor, Sequence[CaptionTask]]]:
    return [(tokens[start : start + BATCH], batch) for start, batch in _starts(tasks)]


def _drawn(way: Way, captions: list[str], seed: int) -> Tensor:
    return torch.cat([way.draw(captions[i : i + BATCH], seed) for i in range(0, len(captions), BATCH)])


def _real(tasks: Sequence[CaptionTask], split: str) -> Tensor:
    """The pictures that the world draws for captions, at 64 pixels, reduced as training pictures are."""
    pictures = [example(SEED, task.number, split, 64).picture.reduce(2) for task in tasks]
    return torch.cat([pixels_of(picture) for picture in pictures])


def _judged(pictures: Tensor, tasks: Sequence[CaptionTask]) -> list[bool]:
    return [check_picture(p, task.scene).all for p, task in zip(pictures_of(pictures), tasks, strict=True)]


def _seconds(way: Way, captions: list[str], times: int) -> float:
    seconds = []
    for _ in range(times):
        start = time.process_time()
        way.draw(captions, 0)
        seconds.append(time.process_time() - start)
    return sorted(seconds)[times // 2]


MEASURES = ("accuracy", "codebook", "cost", "likelihood", "damage", "caption", "half", "seed")


def main() -> None:
    parser = argparse.ArgumentParser(description="Diffusion and token by token, compared.")
    parser.add_argument("--diffusion", default="shapes")
    parser.add_argument("--tokens", default="shapes-tokens")
    parser.add_argument("--num", type=int, default=100, help="captions in each of the two sets")
    parser.add_argument("--changed", type=int, default=40, help="of the new ones, those whose pictures are changed")
    parser.add_argument("--ways", default="diffusion,tokens")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default=",".join(MEASURES), help="measurements, between commas")
    parser.add_argument("--curve", type=Path, metavar="RUN", help="judge the checkpoints of a run instead")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    contrast = Contrast(
        options.diffusion, TokenWriter.load(options.tokens, "cpu"), options.num, options.changed, seeds, options.ways
    )
    names = options.only.split(",")
    if options.curve is not None:
        tables = {"curve": curve(options.curve, contrast)}
    else:
        tables = {name: getattr(contrast, name)() for name in MEASURES if name in names}
    if options.json:
        print(json.dumps(tables, indent=1))
        return
    for name, rows in tables.items():
        print(f"\n{getattr(Contrast, name, curve).__doc__}\n")
        for what, figure in rows:
            print(f"  {what:60} {figure}")


if __name__ == "__main__":
    main()
