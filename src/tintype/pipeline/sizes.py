"""Sizes of pictures: the model's own for any shape, and the enlargement of finished pictures. Imports no torch."""

from __future__ import annotations

from PIL import Image, ImageOps

from tintype.config import Config
from tintype.config.sizes import Size, is_size, parse_size, size_text
from tintype.errors import ConfigError
from tintype.model.aspect_buckets import bucket_shapes, nearest_bucket
from tintype.pipeline.limits import MAX_SIDE
from tintype.pipeline.validators import integer

Sides = tuple[int | None, int | None]  # width, height
RESAMPLER = "lanczos"  # of enlargements, in receipts


def model_size(config: Config, shape: Size) -> Size:
    """Width and height, near the pixels of a training picture, whose aspect ratio is nearest to that of `shape`."""
    shapes = bucket_shapes(config.net.resolution, config.net.multiple, config.data.max_aspect)
    height, width = nearest_bucket(shape, shapes)
    return width, height


def picture_size(
    config: Config, sides: Sides, enlarge: bool | str | None, picture: Size | None, around: Size
) -> tuple[Size, str]:
    """Width and height of the picture that the model makes, and the enlargement of it, "" for none.

    Args:
        sides: width and height; a missing one follows the shape of the starting picture, else of the training pictures.
        enlarge: True: to `sides`; a size: likewise, from a picture of `sides`.
        picture: size of the starting picture.
        around: pixels that outpainting adds to its width and its height.

    Raises ConfigError.
    """
    if enlarge is True:
        if sides == (None, None):
            raise ConfigError("enlarge needs a width or a height: the size of the finished picture")
        shape = picture or config.default_size
        final = _completed(sides, shape, shape, (0, 0), 1)
        enlarge = enlarge_text(final)
        parse_enlarge(enlarge)
        return model_size(config, final), enlarge
    if enlarge and not isinstance(enlarge, str):
        raise ConfigError(f"enlarge must be true or a size such as 512x512, not {enlarge!r}")
    final_size = parse_enlarge(enlarge) if enlarge else None
    nearest_to = final_size or picture
    own = config.default_size if nearest_to is None else model_size(config, nearest_to)
    size = _completed(sides, own, picture, around, config.net.multiple)
    return size, enlarge_text(final_size) if final_size else ""


def _completed(sides: Sides, own: Size, picture: Size | None, around: Size, multiple: int) -> Size:
    """Both sides: a missing one follows the shape of `picture`, else is that of `own`."""
    width, height = sides
    if picture is not None and width is None and height is not None:
        width = around[0] + _other_side(max(1, height - around[1]), picture[1], picture[0], multiple)
    elif picture is not None and height is None and width is not None:
        height = around[1] + _other_side(max(1, width - around[0]), picture[0], picture[1], multiple)
    return own[0] + around[0] if width is None else width, own[1] + around[1] if height is None else height


def _other_side(side: int, along: int, across: int, multiple: int) -> int:
    """The side that goes with `side` as `across` goes with `along`, in pixels: a multiple, and at most MAX_SIDE."""
    pixels = multiple * round(side * across / along / multiple)
    return min(max(pixels, multiple), MAX_SIDE // multiple * multiple)


def parse_enlarge(text: str) -> Size:
    """Width and height of an enlarged picture, from `512x512` or, as in receipts, `512x512 lanczos`."""
    size, _, resampler = text.partition(" ")
    if resampler not in ("", RESAMPLER) or not is_size(size):
        raise ConfigError(f"enlarge must be true or a size such as 512x512, not {text[:40]!r}")
    width, height = parse_size(size)
    return integer("enlarge: width", width, 1, MAX_SIDE), integer("enlarge: height", height, 1, MAX_SIDE)


def enlarge_text(size: Size) -> str:
    """The text that `parse_enlarge` reads."""
    return f"{size_text(size)} {RESAMPLER}"


def enlarged(picture: Image.Image, enlarge: str) -> Image.Image:
    """The picture scaled to cover the size that `enlarge` names, and its middle; unchanged for an empty text."""
    return ImageOps.fit(picture, parse_enlarge(enlarge), Image.Resampling.LANCZOS) if enlarge else picture
