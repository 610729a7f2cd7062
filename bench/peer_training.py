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
from tintype.training.core import device
from tintype.training.core.device import choose_device, keep_memory
from tintype.training.setup.prepare import prepare
from tintype.training.setup.request import TrainRequest

BATCH_SIZE = 16  # as the examples of diffusers; those of smalldiffusion have GPUs and 1024, Tintype's preset nano 32
MAX_TOKENS = 64
LEVELS = (0.3, 1.0, 3.0, 10.0)  # sigmas at which the error of the predicted noise is measured
MEASURED = 256  # pictures
DRAWN = 50  # pictures of SIDE pixels at once
TIMED = 4  # steps in each precision, to choose one
ROWS, COLUMNS, CELL = 4, 6, 96  # of a sheet


class CaptionedPictures(NamedTuple):
    """Square pictures and their captions in memory."""

    pictures: Tensor  # uint8 [N, 3, side, side]
    tokens: Tensor  # int64 [N, L], EMPTY where a caption has ended
    tokenizer: str  # JSON

    @property
    def side(self) -> int:
        return self.pictures.shape[-1]


def padded(tokens: list[Tensor]) -> Tensor:
    """Ragged token numbers -> [B, L] with EMPTY behind."""
    return pad_sequence(tokens, batch_first=True, padding_value=EMPTY)


def read(data: Path, out: Path) -> CaptionedPictures:
    """Read a folder as `tintype train --text learned` does; its cache is left in `out`."""
    request = TrainRequest(data=data, out=out, preset="nano", resolution=SIDE, text="learned")
    prepared = prepare(request, out, None, choose_device("cpu"), Console(stderr=True))
    indices = torch.arange(prepared.dataset.num_samples)
    assert prepared.tokenizer is not None
    return CaptionedPictures(
        prepared.dataset.pictures(indices),
        padded(prepared.dataset.text_embeddings(indices, torch.zeros_like(indices))),
        prepared.tokenizer,
    )


def new_recipe(name: str, tokenizer: str, side: int) -> Recipe:
    """An untrained network for pictures of `side` pixels."""
    recipe_class, _ = RECIPES[name]
    return recipe_class(len(json.loads(tokenizer)["model"]["vocab"]), side)


def bf16_is_faster(name: str, pictures: CaptionedPictures, lr: float) -> bool:
    """Whether a step of a recipe takes less time in bfloat16: the fastest of some, by turns, if products alone do."""
    if not device.bf16_is_faster(torch.device("cpu")):  # many times slower on some processors: minutes a step
        return False
    seconds = {}
    trainings = {}
    for bf16 in (False, True):
        recipe = new_recipe(name, pictures.tokenizer, pictures.side)
        trainings[bf16] = recipe.losses(Batches(pictures.pictures, pictures.tokens, BATCH_SIZE), lr)
    for turn in range(TIMED):
        for bf16, steps in trainings.items():
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                start = time.perf_counter()
                next(steps)
                elapsed = time.perf_counter() - start
            if turn:  # the first one also allocates
                seconds[bf16] = min(elapsed, seconds.get(bf16, elapsed))
    return seconds[True] < seconds[False]


class PeerRun:
    """A run of another library's recipe, which trains for as long as it is told.

    lr: None is the recipe's own.
    """

    def __init__(self, name: str, pictures: CaptionedPictures, lr: float | None, seed: int) -> None:
        lr = RECIPES[name][1] if lr is None else lr
        self.bf16 = bf16_is_faster(name, pictures, lr)
        torch.manual_seed(seed)
        self.recipe = new_recipe(name, pictures.tokenizer, pictures.side)
        self._losses = self.recipe.losses(Batches(pictures.pictures, pictures.tokens, BATCH_SIZE), lr)
        self._tokenizer = pictures.tokenizer
        self._facts = {"recipe": name, "lr": lr, "seed": seed, "bf16": self.bf16, "side": pictures.side}
        self._images = 0

    def describe(self) -> str:
        weights = sum(weight.numel() for weight in self.recipe.module.parameters() if weight.requires_grad)
        return f"{weights / 1e6:.2f}M weights, {'bfloat16' if self.bf16 else 'float32'}"

    def train_until(self, end: float) -> None:
        """Train until the clock shows `end`, and tell each minute how it goes."""
        start = printed_at = time.perf_counter()
        recent_losses: list[float] = []
        first = self._images
        now = start
        while now < end:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                recent_losses.append(next(self._losses))
            self._images += BATCH_SIZE
            now = time.perf_counter()
            if now >= end or now - printed_at >= 60:
                loss, rate = sum(recent_losses) / len(recent_losses), (self._images - first) / (now - start)
                print(f"{self._images:,} images, {rate:.1f}/s, loss {loss:.4f}", flush=True)
                recent_losses, printed_at = [], now

    def save(self, out: Path, **facts: float) -> None:
        """Write the averaged weights, which `load` reads, and facts of the run; training may go on."""
        out.mkdir(parents=True, exist_ok=True)
        averaged = {name: weight.contiguous() for name, weight in self.recipe.averaged_weights().items()}
        save_file(averaged, out / "weights.safetensors")
        (out / "tokenizer.json").write_text(self._tokenizer, encoding="utf-8")
        run = self._facts | {"images_seen": self._images} | facts
        (out / "run.json").write_text(json.dumps(run) + "\n", encoding="utf-8")


def train(data: Path, out: Path, name: str, lr: float | None, minutes: float, seed: int) -> None:
    """Train until the minutes are over, and save the averaged weights."""
    start = time.perf_counter()
    keep_memory()  # as `tintype train` does
    out.mkdir(parents=True, exist_ok=True)
    run = PeerRun(name, read(data, out), lr, seed)
    print(f"{name}: {run.describe()}, ready after {time.perf_counter() - start:.0f} s", flush=True)
    run.train_until(start + 60 * minutes)
    run.save(out)


def load(run: Path) -> tuple[Recipe, LearnedVocabulary]:
    """What a run saved."""
    tokenizer = (run / "tokenizer.json").read_text(encoding="utf-8")
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    recipe = new_recipe(facts["recipe"], tokenizer, facts.get("side", SIDE))
    recipe.module.load_state_dict(load_file(run / "weights.safetensors"))
    recipe.module.eval()
    return recipe, LearnedVocabulary(tokenizer, MAX_TOKENS)


def drawn(recipe: Recipe, tokens: Tensor, steps: int, guidance: float, at_once: int = DRAWN) -> Iterator[Image.Image]:
    """Pictures of captions [B, L], the same every time with as many at once."""
    for number, part in enumerate(tokens.split(at_once)):
        torch.manual_seed(number)
        yield from pictures_of(PixelCodec().decode(recipe.sample(part, steps, guidance)))


@torch.no_grad()
def noise_errors(recipe: Recipe, vocabulary: LearnedVocabulary) -> dict[str, float]:
    """Mean squared error of the predicted noise on pictures of another world, by noise level."""
    examples = [example(SEED, index) for index in range(MEASURED)]
    x0 = PixelCodec().encode(
        torch.stack([torch.from_numpy(crop_and_resize(pair.picture, (SIDE, SIDE))) for pair in examples])
    )
    tokens = padded(vocabulary.text_embeddings([pair.caption for pair in examples]))
    torch.manual_seed(0)
    errors = {}
    for level in LEVELS:
        noise, sigma = torch.randn_like(x0), recipe.nearest_level(level)
        predicted = [
            recipe.noise_at(part, sigma, part_tokens)
            for part, part_tokens in zip((x0 + sigma * noise).split(DRAWN), tokens.split(DRAWN), strict=True)
        ]
        errors[f"{level:g}"] = float((torch.cat(predicted) - noise).square().mean())
    return errors


def judge(run: Path, seen: set[str], num: int, steps: int, guidances: list[float]) -> dict[str, Any]:
    """Shares of right pictures with the guidance that is best on new captions, and errors of the predicted noise.

    known: captions of training, which are not asked for.
    """
    recipe, vocabulary = load(run)

    def shares(guidance: float) -> dict[str, dict]:
        def make(tasks: list[CaptionTask]) -> Iterator[Image.Image]:
            return drawn(recipe, padded(vocabulary.text_embeddings([task.caption for task in tasks])), steps, guidance)

        return measured(make, num, seen)

    shares_by_guidance = {guidance: shares(guidance) for guidance in guidances}
    best = max(shares_by_guidance, key=lambda guidance: shares_by_guidance[guidance]["new"]["all"]["share"])
    return {"shares": shares_by_guidance[best], "guidance": best, "noise_error": noise_errors(recipe, vocabulary)}


def write_sheet(run: Path, seen: set[str], steps: int, guidance: float, path: Path) -> None:
    """Pictures of the first new captions, which are printed row by row."""
    recipe, vocabulary = load(run)
    texts = [task.caption for task in caption_tasks("train", ROWS * COLUMNS, seen)]
    sheet = Image.new("RGB", (COLUMNS * CELL, ROWS * CELL))
    for index, picture in enumerate(drawn(recipe, padded(vocabulary.text_embeddings(texts)), steps, guidance)):
        corner = (index % COLUMNS * CELL, index // COLUMNS * CELL)
        sheet.paste(picture.resize((CELL, CELL), Image.Resampling.NEAREST), corner)
    sheet.save(path)
    for row in range(ROWS):
        print(f"row {row + 1}: " + " | ".join(texts[row * COLUMNS : (row + 1) * COLUMNS]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train another library's recipe on drawn shapes, and judge it.")
    commands = parser.add_subparsers(dest="part", required=True)
    train_parser = commands.add_parser("train")
    train_parser.add_argument("data", type=Path)
    train_parser.add_argument("--out", type=Path, required=True)
    train_parser.add_argument("--recipe", choices=RECIPES, required=True)
    train_parser.add_argument("--lr", type=float, help="by default the recipe's own")
    train_parser.add_argument("--minutes", type=float, default=30.0)
    train_parser.add_argument("--seed", type=int, default=0)
    judge_parser = commands.add_parser("judge")
    judge_parser.add_argument("run", type=Path)
    judge_parser.add_argument("--seen", type=Path, required=True, help="the data folder it was trained on")
    judge_parser.add_argument("--num", type=int, default=200, help="captions in each of the two sets")
    judge_parser.add_argument("--steps", type=int, default=20)
    judge_parser.add_argument("--guidance", default="3,7.5", help="scales to try")
    judge_parser.add_argument("--json", action="store_true")
    judge_parser.add_argument("--sheet", type=Path, help="also write some of the pictures, side by side")
    options = parser.parse_args()
    if options.part == "train":
        train(options.data, options.out, options.recipe, options.lr, options.minutes, options.seed)
        return
    guidances = [float(scale) for scale in options.guidance.split(",")]
    seen = seen_captions(options.seen, 0, 0)
    result = judge(options.run, seen, options.num, options.steps, guidances)
    if options.sheet is not None:
        write_sheet(options.run, seen, options.steps, result["guidance"], options.sheet)
    if options.json:
        print(json.dumps(result))
        return
    for split, table in result["shares"].items():
        print(f"{split}: " + "  ".join(f"{name} {cell['share']:.1%}" for name, cell in table.items()))
    print("noise error  " + "  ".join(f"{level}: {error:.4f}" for level, error in result["noise_error"].items()))
    print(f"guidance {result['guidance']:g}")


if __name__ == "__main__":
    main()
