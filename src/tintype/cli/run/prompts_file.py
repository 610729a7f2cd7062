"""Prompts files: a caption on each line, with comments and with the options that trainers and web pages write there."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

from tintype.cli.options import number, whole
from tintype.errors import ConfigError, DataError
from tintype.pipeline.limits import MAX_GUIDANCE, MAX_SEED, MAX_SIDE, MAX_STEPS
from tintype.pipeline.request import Options

_OPTION = re.compile(r"(?:^|\s)--([A-Za-z][\w-]*)(?=[\s=]|$)[\s=]*")
_OTHER_FORMATS = (".json", ".jsonl", ".toml")
_SIDE, _SEED, _STEPS, _GUIDANCE = whole(1, MAX_SIDE), whole(0, MAX_SEED), whole(1, MAX_STEPS), number(0, MAX_GUIDANCE)
LINE_OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {  # name in a file -> option of a request, and its type
    "n": ("negative_prompt", str),
    "w": ("width", _SIDE),
    "h": ("height", _SIDE),
    "s": ("steps", _STEPS),
    "d": ("seeds", _SEED),
    "l": ("guidance", _GUIDANCE),
    "negative-prompt": ("negative_prompt", str),
    "width": ("width", _SIDE),
    "height": ("height", _SIDE),
    "steps": ("steps", _STEPS),
    "seed": ("seeds", _SEED),
    "guidance": ("guidance", _GUIDANCE),
    "cfg-scale": ("guidance", _GUIDANCE),
}


class Prompt(NamedTuple):
    """A caption, and the options of its line."""

    caption: str
    options: Options


def read_prompts(path: Path) -> tuple[list[Prompt], list[str]]:
    """The prompts of a text file, and notes about what in it is not used.

    Lines that are empty or begin with # are no prompts. Options follow the caption, such as `a red circle --n blurry
    --w 64 --h 64 --d 7`; `--prompt "a red circle" --steps 8` works too. Raises DataError if the file is not UTF-8, is
    of another format or has no prompt, and ConfigError for a value out of range.
    """
    if path.suffix.lower() in _OTHER_FORMATS:
        raise DataError(f"{path}: a prompts file is plain text; write one caption on each line of a .txt file")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text: save it as UTF-8") from None
    numbered = [(line_number, line.strip()) for line_number, line in enumerate(lines, 1)]
    parsed = [_parse(f"{path}, line {at}", line) for at, line in numbered if line and not line.startswith("#")]
    if not parsed:
        raise DataError(f"{path} has no captions: write one on each line")
    num_comments = sum(line.startswith("#") for _, line in numbered)
    notes = [f"{path}: comments that are left out, lines beginning with #: {num_comments}"] if num_comments else []
    return [prompt for prompt, _ in parsed], notes + [note for _, note in parsed if note]


def _parse(where: str, line: str) -> tuple[Prompt, str]:
    """The prompt on a line, and a note about options that mean nothing here."""
    matches = list(_OPTION.finditer(line))
    ends = [*(match.start() for match in matches[1:]), len(line)]
    caption = line[: matches[0].start() if matches else len(line)].strip()
    options: dict[str, Any] = {}
    unknown = []
    for match, end in zip(matches, ends, strict=bool(matches)):
        name, text = match[1].lower().replace("_", "-"), _unquoted(line[match.end() : end].strip())
        if name == "prompt" and not caption:
            caption = text
        elif name in LINE_OPTIONS:
            option, parse = LINE_OPTIONS[name]
            try:
                options[option] = parse(text)
            except argparse.ArgumentTypeError as error:
                raise ConfigError(f"{where}: --{match[1]} {error}") from None
        else:
            unknown.append(f"--{match[1]}")
    if not caption:
        raise ConfigError(f"{where}: there is no caption before the options; say what to make")
    names = ", ".join(f"--{name}" for name in LINE_OPTIONS)
    note = f"{where}: {', '.join(unknown)} is not used; the options of a line are {names}" if unknown else ""
    return Prompt(caption, cast(Options, options)), note


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
