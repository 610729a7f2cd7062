"""A second network and a second codec, each added in one place beside its own code, train and make pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import tintype
from tintype.config import Config, NetConfig, SampleConfig, TextConfig, TrainConfig
from tintype.errors import ConfigError
from tintype.model import codec as codecs
from tintype.model import network as networks
from tintype.model.codec import make_codec
from tintype.model.nets.conditioning import CaptionKV, Conditioning
from tintype.model.network import make_net
from tintype.pipeline.pipeline import Pipeline
from tintype.shapes.write import write_shapes

NET = NetConfig(resolution=16, patch=4, width=32, depth=1, heads=2, stem_width=16, stem_depth=1, stem_levels=1)


class Convolution(nn.Module):
    """The smallest network: one convolution, with a bias from the noise level and the pooled text."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(config.channels, config.channels, 3, padding=1)
        self.bias = nn.Linear(config.width + 1, config.channels)

    def caption_kv(self, cond: Conditioning) -> CaptionKV:
        return CaptionKV((), (), cond.mask, cond.tokens.mean(1))

    def forward(self, x: Tensor, c_noise: Tensor, kv: CaptionKV) -> Tensor:
        return self.convolution(x) + self.bias(torch.cat([kv.pooled_text, c_noise[:, None]], dim=1))[:, :, None, None]


class SpaceToDepth:
    """Blocks of 2 x 2 pixels as 12 channels, without loss."""

    channels = 12
    factor = 2

    def encode(self, pictures: Tensor) -> Tensor:
        return F.pixel_unshuffle(pictures.float() / 127.5 - 1, 2)

    def decode(self, x0: Tensor) -> Tensor:
        return ((F.pixel_shuffle(x0.float(), 2) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


CONFIGS = {
    "a second network": replace(NET, architecture="convolution"),
    "a second codec": replace(NET, codec="space-to-depth", codec_factor=2, channels=12, patch=2),
}


@pytest.fixture(scope="module", autouse=True)
def second() -> Iterator[None]:
    """One more network and one more codec, each in its table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks.NETWORKS, "convolution", Convolution)
        patch.setitem(codecs.CODECS, "space-to-depth", SpaceToDepth)
        patch.setattr("tintype.training.setup.prepare.bf16_is_faster", lambda device: False)  # not measured again
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of three steps with each."""
    folder = tmp_path_factory.mktemp("seams")
    write_shapes(folder / "drawings", 24, seed=1, size=16)
    train, sample = TrainConfig(images=24, batch_size=8, sample_minutes=1e9), SampleConfig(steps=2)
    for name, net in CONFIGS.items():
        text = TextConfig(encoder="learned", vocabulary=300)
        config = Config(net=net, text=text, train=train, sample=sample)
        reports = list(tintype.train(folder / "drawings", folder / name, config, device="cpu"))
        assert [report.images_seen for report in reports] == [8, 16, 24]
    return {name: folder / name for name in CONFIGS}


@pytest.mark.parametrize("name", CONFIGS)
def test_it_trains_and_makes_pictures(runs: dict[str, Path], name: str) -> None:
    pipeline = Pipeline.load(runs[name], "cpu")
    assert pipeline.config.net == CONFIGS[name]
    wide, tall = pipeline.generate(["a red circle", "two stars"], seeds=3, steps=3, width=24, height=16)
    assert wide.size == tall.size == (24, 16)
    assert wide.tobytes() == pipeline.generate(["a red circle"], seeds=3, steps=3, width=24)[0].tobytes()
    assert (runs[name] / "samples").is_dir()


def test_a_second_codec_keeps_what_a_mask_keeps(runs: dict[str, Path]) -> None:
    pipeline = Pipeline.load(runs["a second codec"], "cpu")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8))
    mask = Image.new("L", (16, 16), 0)
    mask.paste(255, (5, 5, 11, 11))
    (result,) = pipeline.generate(["x"], init_image=picture, mask=mask, steps=2)
    changed = (np.asarray(result) != np.asarray(picture)).any(-1)
    assert changed[5:11, 5:11].any()
    outside = np.ones((16, 16), dtype=bool)
    outside[4:12, 4:12] = False  # the mask grows to whole positions of model space
    assert not (changed & outside).any()


def test_sides_are_multiples_of_patch_and_factor(runs: dict[str, Path]) -> None:
    pipeline = Pipeline.load(runs["a second codec"], "cpu")
    assert pipeline.config.net.multiple == 4
    with pytest.raises(ConfigError, match="multiple of 4"):
        pipeline.generate(["x"], width=18)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (replace(NET, architecture="unet"), "architecture must be one of dit"),
        (replace(NET, codec="vae"), "codec must be one of pixels"),
        (replace(NET, channels=4), "3 channels"),
    ],
)
def test_what_is_not_there_is_refused(net: NetConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _ = make_net(net), make_codec(net)
