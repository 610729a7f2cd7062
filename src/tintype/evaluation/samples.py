"""Samples of a model, drawn with its own settings as `tintype generate` does."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence

import torch
from PIL import Image
from torch import Tensor

from tintype.pipeline.pipeline import Pipeline
from tintype.view.contact_sheet import Frame, contact_sheet, frame

BATCH = 32


def sample_images(
    pipeline: Pipeline, captions: Sequence[str], seed: int, steps: int | None = None, guidance: float | None = None
) -> Generator[int, None, list[Image.Image]]:
    """Sample one image per caption, image i from `seed` and index i. Yields the number of images advanced by one step.

    `steps` and `guidance` default to the model's own.
    """
    request = pipeline.request(captions, seeds=seed, steps=steps, guidance=guidance)
    pictures: list[Image.Image] = []
    for part in request.parts(BATCH):
        stream = pipeline.run(part)
        while True:
            try:
                next(stream)
            except StopIteration as end:
                x0: Tensor = end.value
                break
            yield len(part)
        pictures += pipeline.pictures(x0)
    return pictures


def estimate_seconds(pipeline: Pipeline, caption: str, num: int) -> float:
    """About how long `sample_images` takes for `num` captions, from the second step of one batch."""
    request = pipeline.request([caption] * min(num, BATCH), seeds=0)
    stream = pipeline.run(request)
    next(stream)
    started = time.monotonic()
    next(stream, None)
    seconds = time.monotonic() - started
    stream.close()
    return seconds * request.steps * num / len(request)


def denoising_sheet(pipeline: Pipeline, caption: str, seed: int) -> Generator[int, None, bytes]:
    """A contact sheet of one image at every sampling step: PNG."""
    frames: list[Frame] = []
    for step in pipeline.stream([caption], seeds=seed):
        frames.append(frame(pipeline.codec.decode, step.index, step.total, step.sigma, step.x, step.denoised))
        yield 1
    return contact_sheet(frames)


def images_to_tensor(pictures: Sequence[Image.Image]) -> Tensor:
    """Images of one size as uint8 [N, 3, H, W]."""
    rows = [torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8) for picture in pictures]
    width, height = pictures[0].size
    return torch.stack(rows).reshape(len(pictures), height, width, 3).permute(0, 3, 1, 2).contiguous()
