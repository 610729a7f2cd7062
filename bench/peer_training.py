"""Train another library's recipe on drawn shapes for some minutes, then judge it as `shapes_accuracy.py` does.

    python bench/peer_training.py train DATA --out RUN --recipe diffusers|smalldiffusion [--lr X] [--minutes 30]
    python bench/peer_training.py judge RUN --seen DATA [--num 200] [--steps 20] [--guidance 3,7.5] [--sheet FILE]

The minutes are of the wall clock, from start to saved weights, with everything between: pictures are read and packed by
the code that `tintype train` has for it, and then lie in memory. `judge` draws with each guidance and keeps the best;
it also prints the error of the predicted noise on pictures that were never shown, which tells learning rates apart
long before captions are followed. `speedrun.py` calls both.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peer_recipes import EMPTY, RECIPES, SIDE, Batches, Recipe
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save_file
from shapes_accuracy import measured, seen_captions
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tintype.data.images.resize import crop_and_resize
from tintype.evaluation.shapes_accuracy import SEED, CaptionTask, caption_tasks
from tintype.model.codec import PixelCodec, pictures_of
from tintype.model.nets.text import LearnedVocabulary
from tintype.shapes.write import example
from tintype.training.core.device import choose_device, keep_memory
from tintype.training.setup.prepare import prepare
from tintype.training.setup.request import TrainRequest

BATCH_SIZE = 16  # as the examples of diffusers; those of smalldiffusion have GPUs and 1024, Tintype's preset nano 32
MAX_TOKENS = 64
LEVELS = (0.3, 1.0, 3.0, 10.0)  # sigmas at which the error of the predicted noise is measured
MEASURED = 256  # pictures
DRAWN = 50  # pictures at once
TIMED = 4  # steps in each precision, to choose one
ROWS, COLUMNS, CELL = 4, 6, 96  # of a sheet


class Shapes(NamedTuple):
    """A folder of drawn pictures in memory."""

    pictures: Tensor  # uint8 [N, 3, SIDE, SIDE]
    tokens: Tensor  # int64 [N, L], EMPTY where a caption has ended
    tokenizer: str  # JSON


def padded(states: list[Tensor]) -> Tensor:
    """Ragged token numbers -> [B, L] with EMPTY behind."""
    return pad_sequence(states, batch_first=True, padding_value=EMPTY)


def read(data: Path, out: Path) -> Shapes:
    """Read a folder as `tintype train --text learned` does; its cache is left in `out`."""
    request = TrainRequest(data=data, out=out, preset="nano", resolution=SIDE, text="learned")
    ready = prepare(request, out, None, choose_device("cpu"), Console(stderr=True))
    every = torch.arange(ready.dataset.num_samples)
    assert ready.tokenizer is not None
    return Shapes(
        ready.dataset.pictures(every),
        padded(ready.dataset.text_embeddings(every, torch.zeros_like(every))),
        ready.tokenizer,
    )


def size_of(tokenizer: str) -> int:
    return len(json.loads(tokenizer)["model"]["vocab"])


def bf16_is_faster(name: str, shapes: Shapes, lr: float) -> bool:
    """Whether a step of a recipe takes less time in bfloat16: the fastest of some, by turns."""
    least = {}
    sides = {}
    for bf16 in (False, True):
        recipe = RECIPES[name][0](size_of(shapes.tokenizer))
        sides[bf16] = recipe.losses(Batches(shapes.pictures, shapes.tokens, BATCH_SIZE), lr)
    for number in range(TIMED):
        for bf16, steps in sides.items():
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                start = time.perf_counter()
                next(steps)
                took = time.perf_counter() - start
            if number:  # the first one also allocates
                least[bf16] = min(took, least.get(bf16, took))
    return least[True] < least[False]


def train(data: Path, out: Path, name: str, lr: float | None, minutes: float, seed: int) -> None:
    """Train until the minutes are over, and save the averaged weights."""
    start = time.perf_counter()
    keep_memory()  # as `tintype train` does
    out.mkdir(parents=True, exist_ok=True)
    shapes = read(data, out)
    kind, own_lr = RECIPES[name]
    lr = own_lr if lr is None else lr
    bf16 = bf16_is_faster(name, shapes, lr)
    torch.manual_seed(seed)
    recipe: Recipe = kind(size_of(shapes.tokenizer))
    weights = sum(weight.numel() for weight in recipe.module.parameters() if weight.requires_grad)
    begun = time.perf_counter()
    precision = "bfloat16" if bf16 else "float32"
    print(f"{name}: {weights / 1e6:.2f}M weights, {precision}, ready after {begun - start:.0f} s", flush=True)
    images = shown_until(start + 60 * minutes, recipe, shapes, lr, bf16)
    recipe.take_average()
    facts = {"recipe": name, "lr": lr, "seed": seed, "bf16": bf16, "images_seen": images}
    save(recipe, shapes.tokenizer, facts, out)


def shown_until(end: float, recipe: Recipe, shapes: Shapes, lr: float, bf16: bool) -> int:
    """Train until the clock shows `end`, and tell each minute how it goes; how many images that were."""
    losses = recipe.losses(Batches(shapes.pictures, shapes.tokens, BATCH_SIZE), lr)
    begun = told = time.perf_counter()
    recent = []
    images = 0
    while True:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            recent.append(next(losses))
        images += BATCH_SIZE
        now = time.perf_counter()
        if now >= end or now - told >= 60:
            loss = sum(recent) / len(recent)
            print(f"{images:,} images, {images / (now - begun):.1f}/s, loss {loss:.4f}", flush=True)
            recent, told = [], now
        if now >= end:
            return images


def save(recipe: Recipe, tokenizer: str, facts: dict[str, Any], out: Path) -> None:
    """What `load` reads."""
    weights = {name: weight.contiguous() for name, weight in recipe.module.state_dict().items()}
    save_file(weights, out / "weights.safetensors")
    (out / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    (out / "run.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")


def load(run: Path) -> tuple[Recipe, LearnedVocabulary]:
    """What `train` saved."""
    tokenizer = (run / "tokenizer.json").read_text(encoding="utf-8")
    kind, _ = RECIPES[json.loads((run / "run.json").read_text(encoding="utf-8"))["recipe"]]
    recipe: Recipe = kind(size_of(tokenizer))
    recipe.module.load_state_dict(load_file(run / "weights.safetensors"))
    recipe.module.eval()
    return recipe, LearnedVocabulary(tokenizer, MAX_TOKENS)


def drawn(recipe: Recipe, tokens: Tensor, steps: int, guidance: float) -> Iterator[Image.Image]:
    """Pictures of captions [B, L], the same every time."""
    for number, part in enumerate(tokens.split(DRAWN)):
        torch.manual_seed(number)
        yield from pictures_of(PixelCodec().decode(recipe.sample(part, steps, guidance)))


@torch.no_grad()
def noise_errors(recipe: Recipe, vocabulary: LearnedVocabulary) -> dict[str, float]:
    """Mean squared error of the predicted noise on pictures of another world, by noise level."""
    shown = [example(SEED, index) for index in range(MEASURED)]
    x0 = PixelCodec().encode(
        torch.stack([torch.from_numpy(crop_and_resize(one.picture, (SIDE, SIDE))) for one in shown])
    )
    tokens = padded(vocabulary.text_embeddings([one.caption for one in shown]))
    torch.manual_seed(0)
    errors = {}
    for level in LEVELS:
        noise, sigma = torch.randn_like(x0), recipe.nearest_level(level)
        found = [
            recipe.noise_at(part, sigma, told)
            for part, told in zip((x0 + sigma * noise).split(DRAWN), tokens.split(DRAWN), strict=True)
        ]
        errors[f"{level:g}"] = float((torch.cat(found) - noise).square().mean())
    return errors


def judge(run: Path, known: set[str], num: int, steps: int, guidances: list[float]) -> dict[str, Any]:
    """Shares of right pictures with the guidance that is best on new captions, and errors of the predicted noise.

    known: captions of training, which are not asked for.
    """
    recipe, vocabulary = load(run)

    def shares(guidance: float) -> dict[str, dict]:
        def make(asked: list[CaptionTask]) -> Iterator[Image.Image]:
            return drawn(recipe, padded(vocabulary.text_embeddings([ask.caption for ask in asked])), steps, guidance)

        return measured(make, num, known)

    tried = {guidance: shares(guidance) for guidance in guidances}
    best = max(tried, key=lambda guidance: tried[guidance]["new"]["all"]["share"])
    return {"shares": tried[best], "guidance": best, "noise_error": noise_errors(recipe, vocabulary)}


def write_sheet(run: Path, known: set[str], steps: int, guidance: float, path: Path) -> None:
    """Pictures of the first new captions, which are printed row by row."""
    recipe, vocabulary = load(run)
    texts = [ask.caption for ask in caption_tasks("train", ROWS * COLUMNS, known)]
    sheet = Image.new("RGB", (COLUMNS * CELL, ROWS * CELL))
    for place, picture in enumerate(drawn(recipe, padded(vocabulary.text_embeddings(texts)), steps, guidance)):
        at = (place % COLUMNS * CELL, place // COLUMNS * CELL)
        sheet.paste(picture.resize((CELL, CELL), Image.Resampling.NEAREST), at)
    sheet.save(path)
    for row in range(ROWS):
        print(f"row {row + 1}: " + " | ".join(texts[row * COLUMNS : (row + 1) * COLUMNS]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train another library's recipe on drawn shapes, and judge it.")
    parts = parser.add_subparsers(dest="part", required=True)
    training = parts.add_parser("train")
    training.add_argument("data", type=Path)
    training.add_argument("--out", type=Path, required=True)
    training.add_argument("--recipe", choices=RECIPES, required=True)
    training.add_argument("--lr", type=float, help="by default the recipe's own")
    training.add_argument("--minutes", type=float, default=30.0)
    training.add_argument("--seed", type=int, default=0)
    judging = parts.add_parser("judge")
    judging.add_argument("run", type=Path)
    judging.add_argument("--seen", type=Path, required=True, help="the data folder it was trained on")
    judging.add_argument("--num", type=int, default=200, help="captions in each of the two sets")
    judging.add_argument("--steps", type=int, default=20)
    judging.add_argument("--guidance", default="3,7.5", help="scales to try")
    judging.add_argument("--json", action="store_true")
    judging.add_argument("--sheet", type=Path, help="also write some of the pictures, side by side")
    options = parser.parse_args()
    if options.part == "train":
        train(options.data, options.out, options.recipe, options.lr, options.minutes, options.seed)
        return
    guidances = [float(scale) for scale in options.guidance.split(",")]
    known = seen_captions(options.seen, 0, 0)
    result = judge(options.run, known, options.num, options.steps, guidances)
    if options.sheet is not None:
        write_sheet(options.run, known, options.steps, result["guidance"], options.sheet)
    if options.json:
        print(json.dumps(result))
        return
    for split, table in result["shares"].items():
        print(f"{split}: " + "  ".join(f"{name} {cell['share']:.1%}" for name, cell in table.items()))
    print("noise error  " + "  ".join(f"{level}: {error:.4f}" for level, error in result["noise_error"].items()))
    print(f"guidance {result['guidance']:g}")


if __name__ == "__main__":
    main()
