"""Sample captions of a model, for people to try."""

from __future__ import annotations

from pathlib import Path

from tintype.model.file_names import SAMPLE_CAPTIONS
from tintype.model.read_file import MAX_CAPTIONS_BYTES, read_text

MAX_EXAMPLES = 4
MAX_EXAMPLE_LENGTH = 60  # characters


def sample_captions(folder: Path, *, chosen: bool) -> tuple[str, ...]:
    """Short captions in `samples/captions.txt` of a model or run folder; empty without a readable file.

    chosen: somebody has chosen them, and the first count; of the sample captions of a run the shortest do.
    """
    try:
        text = read_text(folder / SAMPLE_CAPTIONS, MAX_CAPTIONS_BYTES, folder)
    except (OSError, UnicodeDecodeError):
        return ()
    lines = [line for line in dict.fromkeys(map(str.strip, text.splitlines())) if 0 < len(line) <= MAX_EXAMPLE_LENGTH]
    return tuple((lines if chosen else sorted(lines, key=len))[:MAX_EXAMPLES])
