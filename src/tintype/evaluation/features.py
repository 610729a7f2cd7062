"""Image features: a fixed scattering transform that needs no download, and pretrained networks where installed.

The scattering transform (Bruna and Mallat 2012, arXiv 1203.1513) has 132 numbers: mean colors on a 4 x 4 grid; on a
2 x 2 grid, magnitudes of Gabor wavelets of four directions and three lengths in brightness, and of three lengths in two
opponent colors; and second-order magnitudes, of longer wavelets in the magnitudes of shorter ones. Networks trained on
photographs describe photographs better, but drawings and icons poorly; these features favor no kind of picture.
`efficientnet`, `inception` and `hf:NAME` select such networks; the first needs no download from a hub.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tintype.errors import ConfigError, MissingExtraError
from tintype.evaluation.efficientnet import EfficientNetLite0

Features = Callable[[Tensor], Tensor]  # uint8 pictures [N, 3, H, W] -> float32 [N, D]
DEFAULT = "scattering"
SIDE = 32  # pixels that a picture is resized to
DIRECTIONS = 4
OCTAVES = 3  # wavelengths of 4, 8 and 16 pixels
LENGTH, SPREAD, EXTENT = 4.0, 2.0, 4  # wavelength, standard deviation and reach of the window, in pixels of an octave
# Brightness, blue against yellow, red against green: orthogonal, each row of length 1.
OPPONENT = ((0.57735, 0.57735, 0.57735), (-0.40825, -0.40825, 0.81650), (0.70711, -0.70711, 0.0))
BATCH = 256


def features_of(name: str) -> Features:
    """Feature functions by name: "scattering", "efficientnet" (a package), "inception" (torchmetrics) or
    "hf:NAME-OR-FOLDER" (transformers).

    Raises ConfigError for another name, MissingExtraError where the package is not installed.
    """
    if name == DEFAULT:
        return scattering
    if name == "efficientnet":
        return EfficientNetLite0()
    if name == "inception":
        return _inception()
    if name.startswith("hf:") and len(name) > 3:
        return _of_transformers(name[3:])
    raise ConfigError(f"features must be {DEFAULT}, efficientnet, inception or hf:NAME-OR-FOLDER, not {name!r}")


class FeatureSets(NamedTuple):
    """Features of the sets of pictures that an evaluation compares."""

    samples: Tensor  # [N, D]
    seen: Tensor  # of all training pictures
    unseen: Tensor  # of the pictures that the alarm for copies is calibrated on


@torch.no_grad()
def scattering(pictures: Tensor) -> Tensor:
    """Scattering features of uint8 pictures [N, 3, H, W] of any size: float32 [N, 132]."""
    return torch.cat([_scattering(pictures[start : start + BATCH]) for start in range(0, len(pictures), BATCH)])


def _scattering(pictures: Tensor) -> Tensor:
    x = pictures.float() / 127.5 - 1
    if x.shape[-2:] != (SIDE, SIDE):
        x = F.interpolate(x, size=(SIDE, SIDE), mode="area" if min(x.shape[-2:]) >= SIDE else "bilinear")
    colors = torch.einsum("oc,nchw->onhw", torch.tensor(OPPONENT), x)
    parts = [F.avg_pool2d(channel, SIDE // 4).flatten(1) for channel in colors]  # 3 of 16
    magnitudes: list[Tensor] = []  # of wavelets in brightness, mean over directions, [N, S, S] per octave
    for octave in range(OCTAVES):
        brightness, *opponent = (_magnitude(_halved(channel, octave)) for channel in colors)
        magnitudes.append(brightness.mean(1))
        parts.append(_quarters(brightness))  # 16 per octave
        parts += [_quarters(channel.mean(1, keepdim=True)) for channel in opponent]  # 2 of 4
        parts += [_magnitude(_halved(first, octave - k)).mean((2, 3)) for k, first in enumerate(magnitudes[:-1])]
    return torch.cat(parts, dim=1)


def _halved(channel: Tensor, times: int) -> Tensor:
    return F.avg_pool2d(channel[:, None], 2**times)[:, 0]


def _quarters(maps: Tensor) -> Tensor:
    return F.avg_pool2d(maps, maps.shape[-1] // 2).flatten(1)


def _magnitude(channel: Tensor) -> Tensor:
    """Magnitude of the wavelet responses to a channel [N, S, S]: [N, DIRECTIONS, S, S]."""
    padded = F.pad(channel[:, None], (EXTENT,) * 4, mode="reflect")
    real, imaginary = F.conv2d(padded, _wavelets()).chunk(2, dim=1)
    return torch.hypot(real, imaginary)


@cache
def _wavelets() -> Tensor:
    """Gabor wavelets of zero mean in all directions: [2 * DIRECTIONS, 1, 9, 9], real parts first."""
    down, right = torch.meshgrid(*[torch.arange(-EXTENT, EXTENT + 1, dtype=torch.float64)] * 2, indexing="ij")
    window = torch.exp(-(down.square() + right.square()) / (2 * SPREAD**2))
    real, imaginary = [], []
    for direction in range(DIRECTIONS):
        angle = math.pi * direction / DIRECTIONS
        phase = 2 * math.pi / LENGTH * (right * math.cos(angle) + down * math.sin(angle))
        mean = (window * phase.cos()).sum() / window.sum()
        real.append(window * (phase.cos() - mean))
        imaginary.append(window * phase.sin())
    return (torch.stack([*real, *imaginary])[:, None] / window.sum()).float()


def _inception() -> Features:
    try:
        from torchmetrics.image.fid import NoTrainInceptionV3  # type: ignore[import-not-found, unused-ignore]

        network: Any = NoTrainInceptionV3(name="inception-v3-compat", features_list=["2048"])
    except ImportError:  # also where torchmetrics is installed but torch-fidelity is not
        raise MissingExtraError("torchmetrics", "torchmetrics[image]") from None
    except OSError as error:  # its weights are downloaded at the first use
        raise ConfigError(f"the weights of the Inception network cannot be downloaded ({error})") from None

    @torch.no_grad()
    def features(pictures: Tensor) -> Tensor:
        rows = [network(pictures[start : start + 64]).float() for start in range(0, len(pictures), 64)]
        return torch.cat(rows).reshape(len(pictures), -1)

    return features


def _of_transformers(name: str) -> Features:
    """Features from a vision model (CLIP, DINO, ...) that `transformers` can load from this machine."""
    try:
        from transformers import AutoImageProcessor, AutoModel
    except ImportError:
        raise MissingExtraError("transformers", "transformers") from None
    try:
        processor: Any = AutoImageProcessor.from_pretrained(name, use_fast=False, local_files_only=True)
        network: Any = AutoModel.from_pretrained(name, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError) as error:
        remedy = "" if Path(name).is_dir() else f"; to download it from the Hugging Face hub: hf download {name}"
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"transformers cannot load the vision model {name!r} from this machine ({reason}){remedy}"
        ) from None
    network = getattr(network, "vision_model", network).eval()

    @torch.no_grad()
    def features(pictures: Tensor) -> Tensor:
        rows = []
        for start in range(0, len(pictures), 32):
            images = [picture.permute(1, 2, 0).numpy() for picture in pictures[start : start + 32]]
            outputs = network(pixel_values=processor(images=images, return_tensors="pt")["pixel_values"])
            pooled = getattr(outputs, "pooler_output", None)
            rows.append((outputs.last_hidden_state.mean(1) if pooled is None else pooled).float())
        return torch.cat(rows)

    return features
