"""Progress in the terminal: a bar and, where the terminal has the colors, the picture itself in half blocks."""

from __future__ import annotations

from types import TracebackType

import torch
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.style import Style
from rich.text import Text
from torch import Tensor

from tintype.view.contact_sheet import Decode, visible

MAX_COLUMNS = 64
UPPER = "▀"  # the character is the upper pixel, its background the lower one


class Preview:
    """A progress bar with the newest guess above it; nothing where stderr is no terminal.

    Args:
        decode: model space to pixels, `Codec.decode`.
        picture: whether to show pictures where the terminal has the colors.
        console: for tests.
    """

    def __init__(self, decode: Decode, picture: bool = True, console: Console | None = None) -> None:
        self.decode = decode
        self.console = console or Console(stderr=True)
        self.picture = picture and can_show(self.console)
        self.bar = Progress(
            TextColumn("developing"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
            console=self.console,
            auto_refresh=False,
        )
        self.task = self.bar.add_task("", total=None)
        self.live = Live(self.bar, console=self.console, transient=True, redirect_stdout=False, redirect_stderr=False)

    def __enter__(self) -> Preview:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def update(self, num_done: int, total: int, denoised: Tensor) -> None:
        """Show the number of finished evaluations, of `total`, and the first of the guesses, denoised [B, C, h, w]."""
        if not self.console.is_terminal:
            return
        self.bar.update(self.task, completed=num_done, total=total)
        if self.picture:
            columns = min(MAX_COLUMNS, self.console.width)
            pixels = visible(self.decode, denoised[:1])[0]
            self.live.update(Group(half_blocks(pixels, columns, self.console.height - 3), self.bar))


def can_show(console: Console) -> bool:
    """Whether a terminal can show pictures: 24-bit colors and half blocks."""
    return console.is_terminal and console.color_system == "truecolor" and console.encoding.startswith("utf")


def half_blocks(pixels: Tensor, max_columns: int, max_lines: int) -> Text:
    """Pixels [3, H, W] uint8 as text, two to a character; scaled down to fit, never up."""
    height, width = pixels.shape[1:]
    scale = max(1, -(-width // max_columns), -(-height // (2 * max(1, max_lines))))
    size = (max(2, height // scale // 2 * 2), max(1, width // scale))
    if size != (height, width):
        pixels = torch.nn.functional.interpolate(pixels[None].float(), size=size, mode="area")[0].round().byte()
    rows = pixels.permute(1, 2, 0).tolist()
    text = Text(no_wrap=True)
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        for above, below in zip(upper, lower, strict=True):
            text.append(UPPER, Style(color=_rgb(above), bgcolor=_rgb(below)))
        text.append("\n")
    return text


def _rgb(color: list[int]) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in color)
