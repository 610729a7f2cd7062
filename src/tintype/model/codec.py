"""Between pictures and the space the network works in. Pixels are a codec too, so that every model has one."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor


class PixelCodec:
    """Pixels themselves, scaled to [-1, 1]."""

    def encode(self, pictures: Tensor) -> Tensor:
        """Turn uint8 pictures [B, 3, H, W] into x0, float32 [B, 3, H, W] in [-1, 1]."""
        return pictures.to(torch.float32) / 127.5 - 1.0

    def decode(self, x0: Tensor) -> Tensor:
        """Turn x0 [B, 3, H, W] into uint8 pictures [B, 3, H, W]; what lies outside [-1, 1] is cut off."""
        return ((x0.to(torch.float32) + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def pixels_of(picture: Image.Image) -> Tensor:
    """A picture as uint8 [1, C, H, W]."""
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.reshape(1, picture.height, picture.width, -1).permute(0, 3, 1, 2)


def pictures_of(pixels: Tensor) -> list[Image.Image]:
    """Pictures from uint8 [B, 3, H, W]."""
    rows = pixels.permute(0, 2, 3, 1).cpu().contiguous().numpy()
    return [Image.fromarray(picture) for picture in rows]
