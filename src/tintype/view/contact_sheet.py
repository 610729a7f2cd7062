"""Contact sheets (PNG) and animations (GIF, WebP) of sampling steps, and strips of pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CELL = 96  # pixels; smaller pictures are enlarged to at least this on a sheet
GIF_CELL = 192
MAX_CELL = 256
FILM_CELLS = (GIF_CELL, 128, 96)  # the sizes to which pictures shrink in a film of too many pixels
MAX_COLUMNS = 16
MAX_FRAMES = 120
MAX_DETAILED = 4  # up to this number each picture gets three rows: noisy, guess, noise
MAX_ROWS = 16
PALETTE_SIDE = 192  # pixels; of the part of a page from which its colors are chosen
MARGIN = 4
LABEL = 14  # pixels; height of a line of text
INK, PAPER = (235, 235, 235), (24, 24, 24)


Decode = Callable[[Tensor], Tensor]  # model space [B, C, h, w] -> uint8 pixels [B, 3, H, W]: `Codec.decode`


class Frame(NamedTuple):
    """One step of a batch as pictures: the noisy input, the guess at the clean picture, and the predicted noise."""

    label: str
    sigma: float
    noisy: Tensor  # [B, 3, H, W] uint8
    guess: Tensor
    noise: Tensor


def frame(decode: Decode, index: int, total: int, sigma: float, x: Tensor, denoised: Tensor) -> Frame:
    """The frame of a step: x, denoised [B, C, h, w]; x is scaled by 1 / sqrt(1 + sigma^2), to constant variance."""
    return Frame(
        label=f"{index + 1}/{total}",
        sigma=sigma,
        noisy=visible(decode, x / math.sqrt(1 + sigma * sigma)),
        guess=visible(decode, denoised),
        noise=visible(decode, (x - denoised) / sigma / 2),
    )


def visible(decode: Decode, x: Tensor) -> Tensor:
    """Model space [B, C, h, w] as uint8 pixels on the CPU; NaN counts as the lowest value."""
    return decode(x.detach().nan_to_num(nan=-1.0)).cpu()


def subsample(frames: Sequence[Frame], limit: int) -> list[Frame]:
    """At most `limit` frames, evenly spread, always with the first and the last."""
    if len(frames) <= limit:
        return list(frames)
    return [frames[round(i * (len(frames) - 1) / (limit - 1))] for i in range(limit)]


def num_shown(num_pictures: int, animated: bool) -> int:
    """The number of pictures, of `num_pictures`, that an animation or a sheet has room for."""
    return min(num_pictures, MAX_DETAILED if animated else MAX_ROWS)


def contact_sheet(frames: Sequence[Frame]) -> bytes:
    """PNG: a column per step; three rows (noisy, guess, noise) per picture for a few pictures, else only the guess."""
    frames = subsample(frames, MAX_COLUMNS)
    num_pictures = num_shown(len(frames[0].guess), animated=False)
    row_names = ("noisy", "guess", "noise") if num_pictures <= MAX_DETAILED else ("guess",)
    width, height = _cell(frames[0].guess, CELL)
    gutter = 48
    rows = num_pictures * len(row_names)
    sheet = Image.new(
        "RGB", (gutter + len(frames) * (width + MARGIN), 2 * LABEL + MARGIN + rows * (height + MARGIN)), PAPER
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    for row in range(rows):
        top = 2 * LABEL + MARGIN + row * (height + MARGIN)
        draw.text((MARGIN, top + height // 2 - LABEL // 2), row_names[row % len(row_names)], INK, font)
        for column, step in enumerate(frames):
            pixels = {"noisy": step.noisy, "guess": step.guess, "noise": step.noise}[row_names[row % len(row_names)]]
            picture = _enlarged(pixels[row // len(row_names)], width, height)
            sheet.paste(picture, (gutter + column * (width + MARGIN), top))
    for column, step in enumerate(frames):
        left = gutter + column * (width + MARGIN)
        draw.text((left, 1), f"step {step.label}", INK, font)
        draw.text((left, LABEL), f"sigma {step.sigma:.3g}", INK, font)
    buffer = BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def animation(frames: Sequence[Frame], file_format: str = "GIF") -> bytes:
    """GIF or WEBP: a frame per step; a row per picture with noisy, guess and noise side by side; the last one stays."""
    frames = subsample(frames, MAX_FRAMES)
    return encode_film(film_pages(frames), len(frames), file_format)


def within_pixels(frames: Sequence[Frame], max_pixels: int) -> tuple[list[Frame], int]:
    """The frames of a film of at most `max_pixels`, pages of all frames together, and the cell for `film_pages`.

    The pictures shrink first; where that does not suffice, frames are left out evenly, but never the last two.
    """
    frames = subsample(frames, MAX_FRAMES)
    for cell in FILM_CELLS:
        width, height = _page_size(frames[0], cell)
        if len(frames) * width * height <= max_pixels:
            break
    return subsample(frames, max(2, max_pixels // (width * height))), cell


def film_pages(frames: Iterable[Frame], cell: int = GIF_CELL) -> Iterator[Image.Image]:
    """A page per step: a row per picture with noisy, guess and noise side by side, each at least `cell` pixels."""
    font = ImageFont.load_default(12)
    for step in frames:
        num_pictures = num_shown(len(step.guess), animated=True)
        width, height = _film_cell(step, cell)
        page = Image.new("RGB", _page_size(step, cell), PAPER)
        draw = ImageDraw.Draw(page)
        draw.text((MARGIN, 1), f"step {step.label}   sigma {step.sigma:.3g}", INK, font)
        for column, (name, pixels) in enumerate((("noisy", step.noisy), ("guess", step.guess), ("noise", step.noise))):
            left = MARGIN + column * (width + MARGIN)
            draw.text((left, LABEL), name, INK, font)
            for row in range(num_pictures):
                picture = _enlarged(pixels[row], width, height)
                page.paste(picture, (left, 2 * LABEL + MARGIN + row * (height + MARGIN)))
        yield page


def indexed(page: Image.Image) -> Image.Image:
    """A page in 256 colors, chosen from a part of its pixels: for noise that is ten times faster than from all."""
    part = page.resize((PALETTE_SIDE, PALETTE_SIDE), Image.Resampling.NEAREST)
    return page.quantize(palette=part.quantize(), dither=Image.Dither.NONE)


def encode_film(pages: Iterable[Image.Image], num: int, file_format: str = "GIF") -> bytes:
    """GIF or WEBP of `num` pages; the last one stays. An error of the iterator ends the work."""
    durations = [max(60, min(400, 6000 // num))] * (num - 1) + [2500]  # milliseconds
    return _encode_animation(pages, durations, file_format)


def strip(pictures: Sequence[Image.Image], file_format: str = "PNG") -> bytes:
    """Pictures of one size side by side (PNG), or one after the other, forward and backward (GIF or WEBP)."""
    width, height = _cell_of(pictures[0].width, pictures[0].height, CELL if file_format == "PNG" else GIF_CELL)
    enlarged = [_resized(picture, width, height) for picture in pictures]
    if file_format != "PNG":
        pages = [*enlarged, *enlarged[-2:0:-1]]
        return _encode_animation(pages, [max(60, min(400, 6000 // len(pages)))] * len(pages), file_format)
    page = Image.new("RGB", (len(enlarged) * (width + MARGIN) - MARGIN, height), PAPER)
    for index, picture in enumerate(enlarged):
        page.paste(picture, (index * (width + MARGIN), 0))
    buffer = BytesIO()
    page.save(buffer, format="PNG")
    return buffer.getvalue()


def _encode_animation(pages: Iterable[Image.Image], durations: Sequence[int], file_format: str) -> bytes:
    """A GIF is encoded page by page as they come, so that a generator need not hold them all."""
    buffer = BytesIO()
    others = iter(pages)
    first = next(others)
    if file_format == "WEBP":
        first.save(buffer, "WEBP", save_all=True, append_images=others, duration=list(durations), lossless=True)
    else:
        first.save(buffer, "GIF", save_all=True, append_images=others, duration=list(durations), loop=0)
    return buffer.getvalue()


def _page_size(step: Frame, cell: int) -> tuple[int, int]:
    """Width and height of a page of a film."""
    width, height = _film_cell(step, cell)
    num_pictures = num_shown(len(step.guess), animated=True)
    return 3 * (width + MARGIN) + MARGIN, 2 * LABEL + MARGIN + num_pictures * (height + MARGIN)


def _film_cell(step: Frame, cell: int) -> tuple[int, int]:
    return _cell(step.guess, cell, MAX_CELL * cell // GIF_CELL)


def _cell(pixels: Tensor, min_side: int, max_side: int = MAX_CELL) -> tuple[int, int]:
    """Width and height of one picture on the page: a whole multiple if it is small, shrunk if it is large."""
    return _cell_of(pixels.shape[-1], pixels.shape[-2], min_side, max_side)


def _cell_of(width: int, height: int, min_side: int, max_side: int = MAX_CELL) -> tuple[int, int]:
    side = max(width, height)
    if side > max_side:
        return max(1, width * max_side // side), max(1, height * max_side // side)
    scale = max(1, math.ceil(min_side / side))
    return width * scale, height * scale


def _enlarged(pixels: Tensor, width: int, height: int) -> Image.Image:
    return _resized(Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()), width, height)


def _resized(picture: Image.Image, width: int, height: int) -> Image.Image:
    resampling = Image.Resampling.NEAREST if width >= picture.width else Image.Resampling.BOX
    return picture.resize((width, height), resampling)
