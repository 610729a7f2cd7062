"""Time to .85 of real: the second board of dev/LEADERBOARD.md, on a folder of captioned pictures of 128 pixels.

    python bench/speedrun_128.py board DATA [--recipe tintype,diffusers,smalldiffusion@3e-4] [--minutes 150]
                                 [--every 15] [--seed 0] [--num 192] [--peer-num 96] [--threads 2] [--out FOLDER]

A tenth of the pictures is held out (`bench/quality.py hold`). Each recipe trains on the others, from scratch, the text
too, in a process of its own; all it does counts: reading, measuring, saving. Every so many minutes of that clock it
leaves its averaged weights, a mark. Then the judges of `bench/quality.py` read the kind in samples of the marks,
which does not count, from the last mark backwards. The time to .85 is that of the first mark from which on both judges
read the kind from at least .85 as many samples as from held-out pictures.

Other libraries have the same pictures, stretched to squares as the judges see them, and as many tokens of the caption;
they are sampled with `--peer-steps` steps and guidance `--peer-guidance`, Tintype's model with its own settings.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import quality
import torch
from peer_recipes import RECIPES
from peer_training import MAX_TOKENS, CaptionedPictures, PeerRun, drawn, load, padded
from quality import Judges
from quality_pictures import Pictures, read_pictures
from speedrun import Recipe, environment_of, images_seen, print_machine, recipes

from tintype.data.sources.find import find_pairs
from tintype.model.nets.text import LearnedVocabulary
from tintype.model.nets.tokens import learn_tokenizer
from tintype.training.core.device import keep_memory

SIDE = 128
MULTIPLE = 16  # pixels of which sides are multiples: the patch of Tintype's preset
GOAL = 0.85  # of what each judge reads from real pictures
PEERS_AT_ONCE = 8  # pictures that are drawn together


class Mark(NamedTuple):
    """Averaged weights at a moment of a run."""

    folder: Path
    minutes: float  # from the start of the command to these weights on the disk
    images: int


class Row(NamedTuple):
    """One run on the board."""

    recipe: Recipe
    minutes_to_goal: float | None  # None: not reached
    last: Mark
    table: dict[str, Any]  # what the judges say of the last mark


def read_squares(data: Path, held_out: set[str]) -> CaptionedPictures:
    """The pictures to train on, stretched to squares, once with each of their captions."""
    pairs = [pair for pair in find_pairs(data)[0] if pair.key not in held_out]
    squares = read_pictures(pairs, SIDE, MULTIPLE).squares(SIDE)
    rows = [row for row, pair in enumerate(pairs) for _ in pair.captions]
    captions = [caption for pair in pairs for caption in pair.captions]
    tokenizer, _ = learn_tokenizer(captions)
    tokens = LearnedVocabulary(tokenizer, MAX_TOKENS).text_embeddings(captions)
    return CaptionedPictures(squares[rows], padded(tokens), tokenizer)


def train_peer(options: argparse.Namespace) -> None:
    """Train another library's recipe, and leave a mark every so many minutes."""
    start = time.perf_counter()
    keep_memory()  # as `tintype train` does
    run = PeerRun(options.recipe, read_squares(options.data, keys_in(options.held_out)), options.lr, options.seed)
    print(f"{options.recipe}: {run.describe()}, ready after {time.perf_counter() - start:.0f} s", flush=True)
    marks = [*np.arange(options.every, options.minutes - options.every / 2, options.every), options.minutes]
    for mark in marks:
        run.train_until(start + 60 * float(mark))
        run.save(options.out / f"mark-{mark:06.1f}", minutes=(time.perf_counter() - start) / 60)


def keys_in(held_out: Path) -> set[str]:
    return set(held_out.read_text(encoding="utf-8").split("\n"))


def training(recipe: Recipe, out: Path, held_out: Path, options: argparse.Namespace) -> list[str]:
    """The command that trains."""
    shared = [str(options.data), "--out", str(out), "--seed", str(options.seed)]
    if recipe.name == "tintype":
        sizes = ["--resolution", str(SIDE), "--text", "learned", "--exclude", str(held_out)]
        clock = ["--time", f"{options.minutes:g}m", "--save-every", f"{options.every:g}m", "--keep", "1000"]
        return ["-m", "tintype", "train", *shared, *sizes, *clock]
    lr = [] if recipe.lr is None else ["--lr", f"{recipe.lr:g}"]
    clock = ["--minutes", f"{options.minutes:g}", "--every", f"{options.every:g}"]
    return [__file__, "peer", *shared, "--held-out", str(held_out), "--recipe", recipe.name, *lr, *clock]


def marks_of(recipe: Recipe, out: Path, started: float, minutes: float) -> list[Mark]:
    """The marks of a finished run, in order; started: by the clock of the file system."""
    if recipe.name != "tintype":
        folders = sorted(out.glob("mark-*"))
        facts = [json.loads((folder / "run.json").read_text(encoding="utf-8")) for folder in folders]
        return [Mark(at, fact["minutes"], fact["images_seen"]) for at, fact in zip(folders, facts, strict=True)]
    marks = []
    for folder in sorted((out / "checkpoints").glob("step-*")):
        written = (folder / "manifest.json").stat().st_mtime
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        marks.append(Mark(folder, (written - started) / 60, state["images_seen"]))
    return [*marks[:-1], Mark(out, minutes, images_seen(out))]  # the last checkpoint is that of the finished model


def judged(recipe: Recipe, judges: Judges, mark: Mark, options: argparse.Namespace) -> dict[str, Any]:
    """What the judges say of a mark."""
    if recipe.name == "tintype":
        sampling = argparse.Namespace(num=options.num, steps=None, guidance=None, settings="", sheet=None)
        return quality.judge(judges, str(mark.folder), sampling)
    network, vocabulary = load(mark.folder)
    rows = quality.asked_rows(judges, options.peer_num)
    captions = [judges.training.captions[row] for row in rows]
    tokens = padded(vocabulary.text_embeddings(captions))
    pictures = drawn(network, tokens, options.peer_steps, options.peer_guidance, PEERS_AT_ONCE)
    pixels = [torch.from_numpy(np.array(picture.convert("RGB"))).movedim(2, 0) for picture in pictures]
    return quality.measured(judges, Pictures(captions, pixels), rows, MULTIPLE)


def reaches(table: dict[str, Any]) -> bool:
    return min(table["kind_of_real"], table["kind_network_of_real"]) >= GOAL


def run(recipe: Recipe, judges: Judges, held_out: Path, out: Path, options: argparse.Namespace) -> Row:
    """Train, then judge marks from the last one backwards until one is below the goal."""
    started, start = time.time(), time.perf_counter()
    command = [sys.executable, *training(recipe, out, held_out, options)]
    subprocess.run(command, check=True, env=environment_of(options.threads))
    marks = marks_of(recipe, out, started, (time.perf_counter() - start) / 60)
    table, reached = {}, None
    for mark in reversed(marks):
        found = judged(recipe, judges, mark, options)
        print(f"{recipe}  {mark.minutes:.1f} min  {mark.images:,} images  {json.dumps(found)}", flush=True)
        table = table or found
        if not reaches(found):
            break
        reached = mark.minutes
    return Row(recipe, reached, marks[-1], table)


def board_row(row: Row, options: argparse.Namespace) -> str:
    """The row of dev/LEADERBOARD.md."""
    reached = "not reached" if row.minutes_to_goal is None else f"{row.minutes_to_goal:.0f}"
    shares = " | ".join(f"{row.table[f'{name}_of_real']:.2f}" for name in ("kind", "kind_network"))
    frechet = f"{row.table['frechet'][0]:.3f} ({row.table['frechet_real'][0]:.3f})"
    clock = f"{options.threads} | {reached} | {row.last.minutes:.1f} | {row.last.images:,}"
    return f"| {row.recipe} | {clock} | {shares} | {frechet} | {row.table['copies'][0]:.1%} | {options.seed} |"


def board(options: argparse.Namespace) -> None:
    """Run every recipe, and print the rows."""
    keep_memory()
    torch.set_num_threads(options.threads)
    print_machine(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        out = options.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        held_out = out / "held-out.txt"
        keys = [pair.key for pair in find_pairs(options.data)[0] if quality.is_held_out(pair)]
        held_out.write_text("\n".join(keys), encoding="utf-8")
        judges = quality.make_judges(options.data, set(keys), SIDE, MULTIPLE)
        if not judges.kinds:
            raise SystemExit(f"the captions of {options.data} name no kinds that can be judged")
        rows = [run(recipe, judges, held_out, out / str(recipe), options) for recipe in options.recipe]
    print("\n".join(board_row(row, options) for row in rows))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time until a model's pictures show what captions name.")
    commands = parser.add_subparsers(dest="command", required=True)
    whole = commands.add_parser("board", help="train, judge, and print rows of the board")
    whole.add_argument("--recipe", type=recipes, default="tintype", help="such as tintype,diffusers,diffusers@1e-3")
    whole.add_argument("--num", type=int, default=192, help="captions that samples are made of")
    whole.add_argument("--peer-num", type=int, default=96, help="captions of other libraries")
    whole.add_argument("--peer-steps", type=int, default=20)
    whole.add_argument("--peer-guidance", type=float, default=3.0)
    whole.add_argument("--threads", type=int, default=2)
    peer = commands.add_parser("peer", help="train another library's recipe; `board` does it")
    peer.add_argument("--recipe", choices=RECIPES, required=True)
    peer.add_argument("--lr", type=float)
    peer.add_argument("--held-out", type=Path, required=True)
    for command in (whole, peer):
        command.add_argument("data", type=Path)
        command.add_argument("--minutes", type=float, default=150.0)
        command.add_argument("--every", type=float, default=15.0, help="minutes between marks")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--out", type=Path, required=command is peer, help="by default runs are thrown away")
    options = parser.parse_args(arguments)
    board(options) if options.command == "board" else train_peer(options)


if __name__ == "__main__":
    main()
