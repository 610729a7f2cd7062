"""Pictures saved where the user asked for them."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from tintype.cli import options
from tintype.pipeline.image_file import SavedReceipt, encode, has_receipt
from tintype.printable import print_line


def report(message: str) -> None:
    """Print a line about what was done, to stderr."""
    print_line(f"tintype: {message}", sys.stderr)


def save_picture(
    output: Path | None, stem: str, picture: Image.Image, receipt: SavedReceipt, index: int, num: int
) -> Path:
    """Write to a new file in a folder, or to the file that the user named, numbered if there are several."""
    if output is None or options.is_folder(output):
        return options.write_new(output or Path(), stem, encode(picture, receipt, ".png"))
    path = output.with_name(options.numbered(output.stem, index, num) + output.suffix)
    content = encode(picture, receipt, output.suffix)
    if not has_receipt(content, receipt):
        report(f"note: the caption is too long for a receipt in {path}, so redo cannot reproduce it; a .png has room")
    return options.write_over(path, content)
