"""The diffusion transformer: shapes, symmetries and what it may and may not depend on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tintype.config import Config, NetConfig
from tintype.errors import ConfigError
from tintype.model.aspect_buckets import bucket_shapes
from tintype.model.nets.conditioning import Conditioning
from tintype.model.nets.dit import DiffusionTransformer

TINY = NetConfig(resolution=8, patch=4, width=32, depth=2, heads=2, stem_width=16, stem_depth=1, text_depth=1)
TINY_LEVELS = NetConfig(
    resolution=8, patch=4, width=32, depth=2, heads=2, stem_width=16, stem_depth=1, stem_levels=2, text_depth=1
)
TINY_HEAD = NetConfig(
    resolution=16, patch=4, width=32, depth=2, heads=2, stem_width=16, stem_depth=1, stem_levels=2, stem_factor=2,
    head_width=8, text_depth=1,
)  # fmt: skip
NETS = [TINY, TINY_LEVELS, TINY_HEAD, replace(TINY_HEAD, write_kernel=1)]


def scrambled(config: NetConfig) -> DiffusionTransformer:
    """A network whose zeros are filled in, so that everything matters."""
    torch.manual_seed(0)
    net = DiffusionTransformer(config).eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    return net


def captions(batch: int, length: int, seed: int = 0) -> Conditioning:
    draw = torch.Generator().manual_seed(seed)
    return Conditioning(torch.randn(batch, length, 32, generator=draw), torch.ones(batch, length, dtype=torch.bool))


def pictures(batch: int, height: int = 8, width: int = 8) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(9)
    return torch.randn(batch, 3, height, width, generator=draw), torch.rand(batch, generator=draw)


@pytest.mark.parametrize("config", NETS)
def test_a_fresh_network_says_zero(config: NetConfig) -> None:
    net = DiffusionTransformer(config)
    x, level = pictures(2)
    assert torch.equal(net(x, level, net.caption_kv(captions(2, 3))), torch.zeros_like(x))


@pytest.mark.parametrize("config", NETS)
@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 12), (16, 4), (20, 12)])
def test_any_size_that_the_patch_divides(config: NetConfig, height: int, width: int) -> None:
    net = scrambled(config)
    x, level = pictures(2, height, width)
    assert net(x, level, net.caption_kv(captions(2, 3))).shape == x.shape


@pytest.mark.parametrize("resolution", [128, 256])
@pytest.mark.parametrize("preset", ["nano", "small", "base", "large"])
def test_presets_for_large_pictures_take_any_shape_of_theirs(preset: str, resolution: int) -> None:
    config = Config.from_preset(preset, resolution)
    shapes = bucket_shapes(resolution, config.net.multiple, config.data.max_aspect)
    assert {height < width for height, width in shapes} == {True, False}
    height, width = max(shapes)
    with torch.device("meta"):  # shapes alone
        net = DiffusionTransformer(config.net)
        cond = Conditioning(torch.zeros(1, 3, config.net.width), torch.ones(1, 3, dtype=torch.bool))
        x = torch.zeros(1, 3, height, width)
        assert net(x, torch.zeros(1), net.caption_kv(cond)).shape == x.shape
    assert (resolution // config.net.patch) ** 2 in (64, 256)
    assert 2 * net.config.stem_factor * net.stride == config.net.patch


def test_another_size_is_refused_in_words() -> None:
    net = scrambled(TINY)
    x, level = pictures(1, 8, 10)
    with pytest.raises(ConfigError, match="10x8 is not a multiple of the patch, 4"):
        net(x, level, net.caption_kv(captions(1, 3)))


def test_samples_of_a_batch_do_not_see_each_other() -> None:
    net = scrambled(TINY)
    x, level = pictures(5)
    cond = captions(5, 4)
    together = net(x, level, net.caption_kv(cond))
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(net(x[order], level[order], net.caption_kv(cond[order])), together[order])
    alone = net(x[2:3], level[2:3], net.caption_kv(cond[2:3]))
    torch.testing.assert_close(alone, together[2:3], atol=1e-5, rtol=1e-5)


def test_padding_is_not_read() -> None:
    net = scrambled(TINY)
    x, level = pictures(2)
    cond = captions(2, 3)
    padded = Conditioning(
        torch.cat([cond.tokens, torch.full((2, 4, 32), 7.0)], dim=1),
        torch.cat([cond.mask, torch.zeros(2, 4, dtype=torch.bool)], dim=1),
    )
    torch.testing.assert_close(net(x, level, net.caption_kv(padded)), net(x, level, net.caption_kv(cond)))


def test_caption_level_and_every_pixel_matter() -> None:
    net = scrambled(TINY)
    x, level = pictures(1)
    base = net(x, level, net.caption_kv(captions(1, 3)))
    assert not torch.allclose(base, net(x, level, net.caption_kv(captions(1, 3, seed=1))), atol=1e-4)
    assert not torch.allclose(base, net(x, level + 0.5, net.caption_kv(captions(1, 3))), atol=1e-4)
    x = x.requires_grad_()
    net(x, level, net.caption_kv(captions(1, 3)))[0, 0, 0, 0].backward()
    assert x.grad is not None
    assert (x.grad.abs().amax(1) > 0).all()


def test_every_weight_gets_a_gradient() -> None:
    net = scrambled(TINY_LEVELS).train()
    x, level = pictures(3)
    net(x, level, net.caption_kv(captions(3, 3))).square().mean().backward()
    assert [name for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_a_stem_that_starts_smaller_still_sees_and_draws_every_pixel() -> None:
    net = scrambled(TINY_HEAD)
    x, level = pictures(1, 16, 16)
    x.requires_grad_(True)
    weight = torch.zeros(1, 3, 16, 16)
    weight[0, :, 5, 9] = 1
    (net(x, level, net.caption_kv(captions(1, 3))) * weight).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum(1).min() > 0  # the output at one place depends on every pixel, its own among them
    outputs = net(x.detach(), level, net.caption_kv(captions(1, 3)))
    assert torch.unique(outputs.detach().round(decimals=6)).numel() > 0.9 * outputs.numel()


def test_a_head_without_a_smaller_stem_is_the_network_with_one_more_layer() -> None:
    names = {name.split(".")[0] for name, _ in DiffusionTransformer(TINY_HEAD).named_parameters()}
    assert names - {name.split(".")[0] for name, _ in DiffusionTransformer(TINY_LEVELS).named_parameters()} == {
        "detail",
        "last",
    }


@pytest.mark.parametrize("patch", [2, 6])
def test_a_patch_that_the_stem_cannot_make_is_refused(patch: int) -> None:
    with pytest.raises(ConfigError, match=f"patch {patch} must be a multiple of 4, for its stem"):
        Config(net=replace(TINY_HEAD, patch=patch, resolution=48))
