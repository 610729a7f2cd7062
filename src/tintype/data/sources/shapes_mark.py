"""The mark of a data folder that `tintype shapes` wrote, by which an evaluation knows that it can judge samples."""

from __future__ import annotations

import json

from tintype.data.sources.files import FileError
from tintype.data.sources.walk import File

SHAPES_MARK = "shapes.json"  # beside metadata.jsonl
DRAWN = "pictures that tintype shapes drew: evaluate judges samples by their captions"  # the remark on it
_WRITER = "tintype shapes"
_MAX_BYTES = 4096


def make_mark(num: int, seed: int, size: int) -> str:
    """The content of the mark: what draws the same folder again."""
    return json.dumps({"drawn_by": _WRITER, "num": num, "seed": seed, "size": size}) + "\n"


def is_mark(file: File) -> bool:
    """Whether a file with the name of the mark is one, and not of somebody's own."""
    try:
        values = json.loads(file.read(_MAX_BYTES))
    except (FileError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and values.get("drawn_by") == _WRITER
