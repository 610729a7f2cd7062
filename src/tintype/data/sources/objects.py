"""Pictures and captions from a Python object: a list, or anything with a length whose items are pairs."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from tintype.config import DataConfig
from tintype.data.sources.captions import row_captions
from tintype.data.sources.files import FileError, ImageSource, SourceRoot
from tintype.data.sources.names import substitute
from tintype.data.sources.pairs import Listing, Pair, Problem
from tintype.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

_MODES = ("L", "RGB", "RGBA")  # that are stored as they are; others are converted


class CaptionedImages(Protocol):
    """A data set of one's own: a sequence of (image, caption), such as a list or a class with these two methods.

        class Squares:
            def __len__(self) -> int:
                return 1000

            def __getitem__(self, index: int) -> tuple[Image.Image, str]:
                return Image.new("RGB", (64, 64), (index % 256, 90, 0)), f"square number {index}"

        for report in tintype.train(Squares(), "run"): ...

    image: a PIL image of any size and mode, or a uint8 tensor [3, H, W] or [1, H, W]. caption: one text, or a sequence
    of several, of which training shows one at a time. Indices run from 0 to `len() - 1`. Every index must always give
    the same pair: it is asked for when the data are listed and when the cache is made (with `stream`, whenever
    it is shown). Pictures are cropped, resized, ordered and held out as those of a folder are.

    Raises DataError for an item that is no such pair, or for a picture that is another one the next time.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Image.Image | Tensor, str | Sequence[str]]: ...


Data = str | Path | CaptionedImages  # what can be trained on: see `data.sources.find` for paths and URLs


class _Root:
    """The object that all its pictures share; one thread at a time asks it."""

    def __init__(self, data: CaptionedImages) -> None:
        self._data = data
        self._lock = threading.Lock()

    def item(self, index: int) -> tuple[Image.Image, tuple[str, ...]]:
        """The picture and captions at an index. Raises DataError."""
        try:
            with self._lock:
                image, captions = self._data[index]
        except Exception as error:  # of code that is not ours
            raise DataError(f"data[{index}] is not (picture, caption): {type(error).__name__}: {error}") from error
        texts = (captions,) if isinstance(captions, str) else captions
        if not (isinstance(texts, Sequence) and all(isinstance(text, str) for text in texts)):
            raise DataError(f"data[{index}]: the caption must be a text or several, not {captions!r:.80}")
        return _image(image, index), tuple(texts)

    def deserialize(self, values: list[Any]) -> ImageSource:
        return ObjectItem(self, values[0], bytes.fromhex(values[1]))


@dataclass(frozen=True, slots=True)
class ObjectItem:
    """A picture at one index of an object."""

    root: _Root
    index: int
    fingerprint: bytes

    @property
    def archive_path(self) -> str:
        return ""

    @property
    def fork_safe(self) -> bool:
        return False  # it may have threads, connections or a GPU

    def read(self) -> bytes:
        try:
            image, _ = self.root.item(self.index)
        except DataError as error:
            raise FileError(str(error)) from None
        if _fingerprint(image) != self.fingerprint:
            raise FileError("it is another picture than when it was listed: the same index must give the same picture")
        buffer = io.BytesIO()
        image.save(buffer, format="TIFF")  # as it is: no compression, whose bytes depend on a library's version
        return buffer.getvalue()

    def serialize(self) -> tuple[SourceRoot, list[Any]]:
        return self.root, [self.index, self.fingerprint.hex()]


def list_objects(data: CaptionedImages, options: DataConfig) -> Listing:
    """List the captioned pictures of an object, by index. Raises DataError."""
    root = _Root(data)
    pairs, problems = [], []
    for index in range(len(data)):
        image, texts = root.item(index)
        key = f"item-{index:09d}"
        captions, reason = row_captions({"text": list(texts)})
        captions = captions or substitute(options, key, reason)
        source = ObjectItem(root, index, _fingerprint(image))
        if captions:
            pairs.append(Pair(key, source, captions))
        else:
            problems.append(Problem(key, reason, source=source))
    return Listing(pairs, tuple(problems), len(data))


def _image(image: object, index: int) -> Image.Image:
    if isinstance(image, Image.Image):
        return image if image.mode in _MODES else image.convert("RGBA" if image.has_transparency_data else "RGB")
    found = type(image).__name__
    if hasattr(image, "detach"):  # a tensor; torch is not imported for those who have none
        pixels = image.detach().cpu().numpy()
        if pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[0] in (1, 3):
            return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0).copy())
        found = f"a tensor {pixels.dtype} {list(pixels.shape)}"
    raise DataError(f"data[{index}]: the picture must be a PIL image or a uint8 tensor [3, H, W], not {found}")


def _fingerprint(image: Image.Image) -> bytes:
    return hashlib.sha256(f"{image.mode} {image.size}".encode() + image.tobytes()).digest()[:16]
