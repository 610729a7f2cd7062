"""A fixed space of features to compare pictures in: it ships, was never trained, and needs no download.

What is compared is where the colors are and which edges are where: means of colors on a 4 x 4 grid; on a 2 x 2 grid
the strength of Gabor waves of four directions and three lengths in brightness, and of three lengths in two opponent
colors; and the strength of longer waves in the strength of shorter ones. That is a small scattering transform (Bruna
and Mallat, 1203.1513), 132 numbers. Features of networks trained on photographs say more about photographs, and little
about drawings, icons or stains; this one favors no kind of picture. Where such networks are installed, `hf:NAME` and
`inception` take their place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tintype.errors import ConfigError, MissingExtraError

Features = Callable[[Tensor], Tensor]  # uint8 pictures [N, 3, H, W] -> float32 [N, D]
OWN = "scattering"
SIDE = 32  # pixels that a picture is brought to
DIRECTIONS = 4
OCTAVES = 3  # waves of 4, 8 and 16 pixels of SIDE
LENGTH, SPREAD, EXTENT = 4.0, 2.0, 4  # of a wave and of its Gaussian window, and where that ends: pixels of an octave
# Brightness, blue against yellow, red against green: orthogonal, each row of length 1.
OPPONENT = ((0.57735, 0.57735, 0.57735), (-0.40825, -0.40825, 0.81650), (0.70711, -0.70711, 0.0))
BATCH = 256


def features_of(name: str) -> Features:
    """A feature space by name: "scattering", "inception" (torchmetrics) or "hf:NAME-OR-FOLDER" (transformers).

    Raises ConfigError for another name, MissingExtraError where the package is not installed.
    """
    if name == OWN:
        return scattering
    if name == "inception":
        return _inception()
    if name.startswith("hf:") and len(name) > 3:
        return _of_transformers(name[3:])
    raise ConfigError(f"features must be {OWN}, inception or hf:NAME-OR-FOLDER, not {name!r}")


@torch.no_grad()
def scattering(pictures: Tensor) -> Tensor:
    """The features that ship, of uint8 pictures [N, 3, H, W] of any size: float32 [N, 132]."""
    return torch.cat([_scattering(pictures[start : start + BATCH]) for start in range(0, len(pictures), BATCH)])


def _scattering(pictures: Tensor) -> Tensor:
    x = pictures.float() / 127.5 - 1
    if x.shape[-2:] != (SIDE, SIDE):
        x = F.interpolate(x, size=(SIDE, SIDE), mode="area" if min(x.shape[-2:]) >= SIDE else "bilinear")
    colors = torch.einsum("oc,nchw->onhw", torch.tensor(OPPONENT), x)
    parts = [F.avg_pool2d(channel, SIDE // 4).flatten(1) for channel in colors]  # 3 of 16
    strengths: list[Tensor] = []  # of waves in brightness, whatever their direction, [N, S, S] an octave
    for octave in range(OCTAVES):
        bright, *opponent = (_strength(_halved(channel, octave)) for channel in colors)
        strengths.append(bright.mean(1))
        parts.append(_quarters(bright))  # 16 an octave
        parts += [_quarters(one.mean(1, keepdim=True)) for one in opponent]  # 2 of 4
        parts += [_strength(_halved(shorter, octave - own)).mean((2, 3)) for own, shorter in enumerate(strengths[:-1])]
    return torch.cat(parts, dim=1)


def _halved(channel: Tensor, times: int) -> Tensor:
    return F.avg_pool2d(channel[:, None], 2**times)[:, 0]


def _quarters(maps: Tensor) -> Tensor:
    return F.avg_pool2d(maps, maps.shape[-1] // 2).flatten(1)


def _strength(channel: Tensor) -> Tensor:
    """Modulus of the waves in a channel [N, S, S]: [N, DIRECTIONS, S, S]."""
    padded = F.pad(channel[:, None], (EXTENT,) * 4, mode="reflect")
    real, imaginary = F.conv2d(padded, _waves()).chunk(2, dim=1)
    return torch.hypot(real, imaginary)


@cache
def _waves() -> Tensor:
    """Gabor waves in all directions, silent on a flat picture: [2 * DIRECTIONS, 1, 9, 9], real parts first."""
    down, right = torch.meshgrid(*[torch.arange(-EXTENT, EXTENT + 1, dtype=torch.float64)] * 2, indexing="ij")
    window = torch.exp(-(down.square() + right.square()) / (2 * SPREAD**2))
    real, imaginary = [], []
    for direction in range(DIRECTIONS):
        angle = math.pi * direction / DIRECTIONS
        phase = 2 * math.pi / LENGTH * (right * math.cos(angle) + down * math.sin(angle))
        flat = (window * phase.cos()).sum() / window.sum()
        real.append(window * (phase.cos() - flat))
        imaginary.append(window * phase.sin())
    return (torch.stack([*real, *imaginary])[:, None] / window.sum()).float()


def _inception() -> Features:
    try:
        from torchmetrics.image.fid import NoTrainInceptionV3  # type: ignore[import-not-found, unused-ignore]

        network: Any = NoTrainInceptionV3(name="inception-v3-compat", features_list=["2048"])
    except ImportError:  # also where torchmetrics is there and torch-fidelity is not
        raise MissingExtraError("torchmetrics", "torchmetrics[image]") from None
    except OSError as error:  # its weights are fetched the first time
        raise ConfigError(f"the weights of the Inception network cannot be had ({error})") from None

    @torch.no_grad()
    def features(pictures: Tensor) -> Tensor:
        rows = [network(pictures[start : start + 64]).float() for start in range(0, len(pictures), 64)]
        return torch.cat(rows).reshape(len(pictures), -1)

    return features


def _of_transformers(name: str) -> Features:
    """What a vision model (CLIP, DINO and the like) that `transformers` loads says of a whole picture."""
    try:
        from transformers import AutoImageProcessor, AutoModel
    except ImportError:
        raise MissingExtraError("transformers", "transformers") from None
    try:
        processor: Any = AutoImageProcessor.from_pretrained(name, use_fast=False, local_files_only=True)
        network: Any = AutoModel.from_pretrained(name, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError) as error:
        fetch = "" if Path(name).is_dir() else f"; if it is one of the Hugging Face hub: hf download {name}"
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"no vision model {name!r} here that transformers can load ({reason}){fetch}") from None
    network = getattr(network, "vision_model", network).eval()

    @torch.no_grad()
    def features(pictures: Tensor) -> Tensor:
        rows = []
        for start in range(0, len(pictures), 32):
            some = [picture.permute(1, 2, 0).numpy() for picture in pictures[start : start + 32]]
            said = network(pixel_values=processor(images=some, return_tensors="pt")["pixel_values"])
            pooled = getattr(said, "pooler_output", None)
            rows.append((said.last_hidden_state.mean(1) if pooled is None else pooled).float())
        return torch.cat(rows)

    return features
