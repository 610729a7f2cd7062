"""Between pictures and the space the network works in. Pixels are a codec too, so that every model has one."""

from __future__ import annotations

import torch
from torch import Tensor


class PixelCodec:
    """Pixels themselves, scaled to [-1, 1]."""

    def encode(self, pictures: Tensor) -> Tensor:
        """Turn uint8 pictures [B, 3, H, W] into x0, float32 [B, 3, H, W] in [-1, 1]."""
        return pictures.to(torch.float32) / 127.5 - 1.0

    def decode(self, x0: Tensor) -> Tensor:
        """Turn x0 [B, 3, H, W] into uint8 pictures [B, 3, H, W]; what lies outside [-1, 1] is cut off."""
        return ((x0.to(torch.float32) + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
