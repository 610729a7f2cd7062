"""Networks: what a denoiser needs of one, and those that `config.net.architecture` names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

from tintype.config import Config
from tintype.errors import ConfigError
from tintype.model.nets.conditioning import CaptionKV, Conditioning
from tintype.model.nets.dit import DiffusionTransformer


class Network(Protocol):
    """A network of one's own: a torch module with these two methods.

        class Convolutions(torch.nn.Module):
            def __init__(self, config: tintype.Config):
                super().__init__()
                self.text = torch.nn.Linear(config.net.width, config.net.channels)
                self.conv = torch.nn.Conv2d(config.net.channels, config.net.channels, 3, padding=1)

            def caption_kv(self, cond: tintype.Conditioning) -> tintype.CaptionKV:
                return tintype.CaptionKV((), (), cond.mask, self.text(cond.tokens.mean(1)))

            def forward(self, x: torch.Tensor, c_noise: torch.Tensor, text: tintype.CaptionKV) -> torch.Tensor:
                return self.conv(x + text.summary[:, :, None, None])

        for report in tintype.train("photos", "run", net=Convolutions): ...
        pipeline = tintype.Pipeline.load("run", net=Convolutions)

    The width of the caption tokens is `config.net.width`; pictures have `config.net.channels`, and sides that are
    multiples of `config.net.patch`. A network that `config.net.architecture` names may also have `shard_units()`: the
    modules, or lists of modules, whose weights `--shard` gathers together. `examples/own_network.py` is a U-Net.
    """

    def caption_kv(self, cond: Conditioning) -> CaptionKV:
        """Captions, tokens [B, L, D] and mask [B, L], as the network reads them: called once for a picture."""
        ...

    def __call__(self, x: Tensor, c_noise: Tensor, text: CaptionKV) -> Tensor:
        """`forward`: scaled noisy pictures x [B, C, H, W] and noise levels c_noise [B] -> prediction [B, C, H, W]."""
        ...


NetFactory = Callable[[Config], nn.Module]
ARCHITECTURES: dict[str, NetFactory] = {"dit": lambda config: DiffusionTransformer(config.net)}


def make_net(config: Config) -> nn.Module:
    """The network that a configuration describes, a `Network`. Raises ConfigError for an unknown architecture."""
    if config.net.architecture not in ARCHITECTURES:
        raise ConfigError(f"architecture must be one of {', '.join(ARCHITECTURES)}, not {config.net.architecture!r}")
    return ARCHITECTURES[config.net.architecture](config)
