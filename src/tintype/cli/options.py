"""Argument types and shared options of the command line, and files to write. Imports neither torch nor Pillow."""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import count, takewhile
from pathlib import Path
from typing import Any, NoReturn

from tintype.config import ANIMATIONS, CAPTION_FROM, CROPS, NO_CAPTION, REPEATS, DataOptions, check_text_encoder
from tintype.errors import ConfigError
from tintype.model.atomic_write import write_bytes, write_free
from tintype.pipeline.limits import PICTURE_SUFFIXES

_TIME = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?")
_OPTION = re.compile(r"--?[a-zA-Z][^ ]*")
DATA = "a folder, .tar, .zip or .parquet file, URL, hf:NAME, or a .txt file that lists several of these"
DEFAULT_MODEL = "shapes"
MAX_SLUG = 60  # characters
MAX_SLUG_BYTES = 150
ALIKE = 0.7  # of two spellings, from 0 to 1, as difflib compares them
OTHER_NAMES = {  # of options in other programs -> names here; the first that the command has is suggested
    "batch": ("num-images", "batch-size"),
    "cfg": ("guidance",),
    "cfg-scale": ("guidance",),
    "count": ("num-images",),
    "n": ("num-images",),
    "n-samples": ("num-images",),
    "samples": ("num-images",),
    "denoising-strength": ("strength",),
    "epochs": ("images",),
    "iterations": ("steps",),
    "learning-rate": ("lr",),
    "num-inference-steps": ("steps",),
    "num-samples": ("num-images",),
    "out": ("output",),
    "outdir": ("out", "output"),
    "output": ("out",),
    "output-dir": ("out", "output"),
    "prompt-file": ("prompts-file",),
    "scheduler": ("sampler",),
    "size": ("width", "resolution"),
}


class Parser(argparse.ArgumentParser):
    """An argument parser that reports an error in one line."""

    _arguments: Sequence[str] = ()  # that are being parsed

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        self._arguments = list(args or ())
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        if "required" in message and (unknown := self._unknown_options()):  # one of them may be what is missing
            self._arguments = ()
            self.unrecognized(unknown)
        self.exit(2, f"tintype: {' '.join(message.split())}; see {self.prog} --help\n")

    def unrecognized(self, arguments: Sequence[str]) -> NoReturn:
        """Report the first of the arguments that this command does not take, with the option that is meant if clear."""
        option = arguments[0].partition("=")[0]
        if not option.startswith("-"):
            self.error(f"unexpected argument {arguments[0]!r}; put quotes around a text that has spaces")
        nearest = self.nearest_option(option)
        self.error(f"there is no option {option}{f'; the nearest is {nearest}' if nearest else ''}")

    def _unknown_options(self) -> list[str]:
        """The options among the arguments that this command does not have."""
        known = self._option_string_actions
        options = takewhile(lambda argument: argument != "--", self._arguments)
        return [
            option
            for option in options
            if _OPTION.fullmatch(option) and option.partition("=")[0] not in known and option[:2] not in known
        ]

    def nearest_option(self, option: str) -> str | None:
        """The option of this command that another program calls `option`, or that is spelled nearly the same."""
        names = [
            name
            for action in self._actions
            if action.help != argparse.SUPPRESS
            for name in action.option_strings
            if name.startswith("--")
        ]
        renamed = next((name for name in OTHER_NAMES.get(option.strip("-"), ()) if f"--{name}" in names), None)
        if renamed is not None:
            return f"--{renamed}"
        longer = [name for name in names if len(option) > 3 and name.startswith(option)]
        swapped = [name for name in names if sorted(name) == sorted(option)]  # letters in another order
        return next(iter([*longer, *swapped, *difflib.get_close_matches(option, names, n=1, cutoff=ALIKE)]), None)


def parse(top: Parser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; its command (`command_parser`) reports an option that it does not have."""
    args: argparse.Namespace
    args, unrecognized = top.parse_known_args(arguments)
    if unrecognized:
        reporter: Parser = getattr(args, "command_parser", top)
        reporter.unrecognized(unrecognized)
    return args


def normalized(arguments: Sequence[str]) -> list[str]:
    """Option names with dashes: --num_images becomes --num-images. Arguments after `--` stay as they are."""
    result, before_separator = [], True
    for argument in arguments:
        before_separator = before_separator and argument != "--"
        if before_separator and argument.startswith("--"):
            name, equals, value = argument.partition("=")
            argument = name.replace("_", "-") + equals + value
        result.append(argument)
    return result


def whole(low: int, high: int) -> Callable[[str], int]:
    """An argument type: a whole number from low to high."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, not {text!r}")
        return value

    return parse


def number(low: float, high: float) -> Callable[[str], float]:
    """An argument type: a number from low to high."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be a number from {low:g} to {high:g}, not {text!r}")
        return value

    return parse


def minutes(text: str) -> float:
    """An argument type: a time such as 90s, 30m, 2h or 1h30m, in minutes."""
    match = _TIME.fullmatch(text.strip().lower())
    hours, mins, seconds = (float(part or 0) for part in match.groups()) if match else (0.0, 0.0, 0.0)
    total = 60 * hours + mins + seconds / 60
    if not 0 < total < 60 * 24 * 366:
        raise argparse.ArgumentTypeError(f"must be a time such as 90s, 30m, 2h or 1h30m, not {text!r}")
    return total


def text_encoder(text: str) -> str:
    """An argument type: auto, minilm, learned or hf:NAME."""
    try:
        check_text_encoder(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("text ")) from None
    return text


def interval(text: str) -> tuple[float, float]:
    """An argument type: two noise levels, LOW,HIGH."""
    low, comma, high = text.partition(",")
    if not comma:
        raise argparse.ArgumentTypeError(f"must be two numbers such as 0.3,10, not {text!r}")
    parse = number(0, 1e6)
    return parse(low), parse(high)


def margins(text: str) -> tuple[int, int, int, int]:
    """An argument type: pixels on each side, N or LEFT,TOP,RIGHT,BOTTOM."""
    parse = whole(0, 4096)
    sides = [parse(part) for part in text.split(",")]
    if len(sides) == 1:
        sides *= 4
    if len(sides) != 4:
        raise argparse.ArgumentTypeError(f"must be N or LEFT,TOP,RIGHT,BOTTOM, not {text!r}")
    left, top, right, bottom = sides
    return left, top, right, bottom


SHEETS = {".png": "PNG", ".gif": "GIF", ".webp": "WEBP"}


def sheet_file(text: str) -> Path:
    """An argument type: where to save a contact sheet, a strip or an animation."""
    if Path(text).suffix.lower() not in SHEETS:
        raise argparse.ArgumentTypeError(f"must end in .png (one picture), .gif or .webp (an animation), not {text!r}")
    return Path(text)


def picture_path(text: str) -> Path:
    """An argument type: a picture file or a folder. A name without a suffix or with a slash at its end is a folder."""
    path = Path(text)
    if path.is_dir() or text.endswith(("/", "\\")) or path.suffix.lower() in ("", *PICTURE_SUFFIXES):
        return path
    raise argparse.ArgumentTypeError(f"must be a folder or end in {', '.join(PICTURE_SUFFIXES)}, not {text!r}")


def data_options(command: argparse.ArgumentParser) -> None:
    """Options for reading data, shared by check and train. Unset ones take the defaults of config.DataConfig."""
    group = command.add_argument_group("reading pictures and captions")
    group.add_argument("--crop", choices=CROPS, help="square: the center of each picture; none: keep its shape (none)")
    group.add_argument(
        "--min-size", type=whole(0, 10_000), metavar="PX", help="smallest shorter side; smaller pictures are left out"
    )
    group.add_argument("--max-aspect", type=number(1, 1000), metavar="X", help="largest aspect ratio, X to 1 (4)")
    group.add_argument("--alpha-color", metavar="COLOR", help="behind transparency: a name or #rrggbb (white)")
    group.add_argument("--animations", choices=ANIMATIONS, help="use their first frame, or skip them (first)")
    group.add_argument(
        "--caption-encoding", metavar="NAME", help="of caption files that are not UTF-8, such as latin-1"
    )
    group.add_argument(
        "--no-caption",
        choices=NO_CAPTION,
        help="for pictures without a caption: skip them, use an empty caption, or the file name (skip)",
    )
    group.add_argument(
        "--caption-from",
        choices=CAPTION_FROM,
        help="take captions from the names of files, of their folders, or from their paths below DATA",
    )
    group.add_argument(
        "--repeats", choices=REPEATS, help="folder: show pictures in a folder 10_name ten times as often (folder)"
    )


def given_data_options(args: argparse.Namespace) -> DataOptions:
    """The data options among parsed arguments; a command may lack some of them."""
    return DataOptions(**{entry.name: getattr(args, entry.name, None) for entry in fields(DataOptions)})


def cache_folder(args: argparse.Namespace) -> Path | None:
    """The folder for caches: --cache, else the environment variable TINTYPE_CACHE, else None."""
    folder = args.cache or os.environ.get("TINTYPE_CACHE")
    return Path(folder) if folder else None


def is_folder(path: Path) -> bool:
    """Whether `picture_path` gave a folder rather than a file."""
    return path.is_dir() or path.suffix.lower() not in PICTURE_SUFFIXES


def slug(caption: str) -> str:
    """A file name from a caption: letters and digits of any alphabet, joined with dashes."""
    name = re.sub(r"[\W_]+", "-", caption.lower()[: 4 * MAX_SLUG]).strip("-")
    if len(name) > MAX_SLUG:
        name = name[: MAX_SLUG + 1].rpartition("-")[0] or name[:MAX_SLUG]
    return name.encode()[:MAX_SLUG_BYTES].decode("utf-8", "ignore").strip("-") or "picture"


def numbered(stem: str, index: int, num: int) -> str:
    """A file stem for picture `index` of `num`, numbered so that names sort; a single picture keeps the stem."""
    return stem if num == 1 else f"{stem}-{index:0{len(str(num - 1))}d}"


def write_new(folder: Path, stem: str, content: bytes) -> Path:
    """Write stem.png in a folder; where that exists, stem_2.png, stem_3.png and so on. Nothing is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    names = (f"{stem}.png" if attempt == 1 else f"{stem}_{attempt}.png" for attempt in count(1))
    return write_free((folder / name for name in names), content)


def write_over(path: Path, content: bytes) -> Path:
    """Write a file that the user named, in place of one that is there, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return path
