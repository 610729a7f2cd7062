"""Codecs between pictures and model space, in which the network works. Pixels are a codec too."""

from __future__ import annotations

from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from tintype.config import NetConfig
from tintype.errors import ConfigError


class Codec(Protocol):
    """Pictures uint8 [B, 3, H, W] <-> x0 in model space, float32 [B, C, H / factor, W / factor], about in [-1, 1]."""

    @property
    def channels(self) -> int:
        """C of model space, `config.net.channels`."""
        ...

    @property
    def factor(self) -> int:
        """Pixels that one position of model space stands for, along a side: `config.net.codec_factor`."""
        ...

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures uint8 [B, 3, H, W] -> x0 float32 [B, C, H / factor, W / factor]."""
        ...

    def decode(self, x0: Tensor) -> Tensor:
        """x0 [B, C, H / factor, W / factor] -> pictures uint8 [B, 3, H, W], clipped to [0, 255]."""
        ...


class PixelCodec:
    """Pixels themselves, scaled to [-1, 1]."""

    channels = 3
    factor = 1

    def encode(self, pictures: Tensor) -> Tensor:
        return pictures.to(torch.float32) / 127.5 - 1.0

    def decode(self, x0: Tensor) -> Tensor:
        return ((x0.to(torch.float32) + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


CODECS = {"pixels": PixelCodec}


def make_codec(config: NetConfig) -> Codec:
    """The codec `config.codec`. Raises ConfigError for an unknown codec, or one that does not fit the network."""
    if config.codec not in CODECS:
        raise ConfigError(f"codec must be one of {', '.join(CODECS)}, not {config.codec!r}")
    codec: Codec = CODECS[config.codec]()
    if (codec.channels, codec.factor) != (config.channels, config.codec_factor):
        raise ConfigError(
            f"the codec {config.codec} has {codec.channels} channels and the factor {codec.factor}, not "
            f"{config.channels} and {config.codec_factor}"
        )
    return codec


def pixels_of(picture: Image.Image) -> Tensor:
    """A picture as uint8 [1, C, H, W]."""
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.reshape(1, picture.height, picture.width, -1).permute(0, 3, 1, 2)


def pictures_of(pixels: Tensor) -> list[Image.Image]:
    """Pictures from uint8 [B, 3, H, W]."""
    rows = pixels.permute(0, 2, 3, 1).cpu().contiguous().numpy()
    return [Image.fromarray(picture) for picture in rows]
