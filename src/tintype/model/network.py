"""Networks: the protocols they fulfil, and the network of a configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from tintype.config import Config, NetConfig
from tintype.errors import ConfigError
from tintype.model.nets.conditioning import CaptionKV, Conditioning
from tintype.model.nets.dit import DiffusionTransformer


class Network(Protocol):
    """A network: an `nn.Module` with two methods, whose output means what the prediction says (`Prediction`).

        class Convolution(nn.Module):
            def __init__(self, config: tintype.Config):
                super().__init__()
                self.text = nn.Linear(config.net.width, config.net.channels)
                self.conv = nn.Conv2d(config.net.channels, config.net.channels, 3, padding=1)

            def caption_kv(self, cond: tintype.Conditioning) -> tintype.CaptionKV:
                return tintype.CaptionKV((), (), cond.mask, self.text(cond.tokens[:, -1]))

            def forward(self, x: Tensor, c_noise: Tensor, kv: tintype.CaptionKV) -> Tensor:
                return self.conv(x + kv.pooled_text[:, :, None, None])

        for report in tintype.train("photos", "run", net=Convolution): ...
        pipeline = tintype.Pipeline.load("run", net=Convolution)

    Caption tokens have `config.net.width` numbers each, padded ones are False in `cond.mask`. Pictures have sides that
    are multiples of `config.net.patch`. `examples/own_network.py` is a small U-Net. A network may also have
    `muon_matrices`, `shard_units` and `num_dropped` (see `MuonMatrices`, `ShardUnits` and `Droppable`). Without the
    first AdamW steps all its weights; without the second a sharded run gathers all of them at once; without the third
    it is trained without dropout.
    """

    def caption_kv(self, cond: Conditioning) -> CaptionKV:
        """Read captions, tokens [B, L, D] with their mask, once for all steps.

        A network without attention to the text may leave `keys` and `values` empty and use the pooled text alone.
        """
        ...

    def __call__(self, x: Tensor, c_noise: Tensor, kv: CaptionKV, /) -> Tensor:
        """Noisy pictures [B, C, H, W] scaled by c_in, noise levels c_noise [B] and captions -> output [B, C, H, W]."""
        ...


@runtime_checkable
class MuonMatrices(Protocol):
    """A module that names weights for Muon."""

    def muon_matrices(self) -> dict[str, int]:
        """The weights that Muon steps, by name: how many matrices lie stacked in each, such as 3 for queries, keys and
        values. AdamW steps the rest.

        Muon suits convolutions between features, since their matrices are small; and attention, where the binding of
        words to places is a weak direction at first, which AdamW leaves behind (dev/LOG.md).
        """
        ...


@runtime_checkable
class ShardUnits(Protocol):
    """A module that names the parts to shard apart."""

    def shard_units(self) -> list[list[nn.Module]]:
        """Submodules whose weights are gathered together, inner ones first; the rest is gathered as one (FSDP2)."""
        ...


@runtime_checkable
class Droppable(Protocol):
    """A network that dropout acts on: it multiplies features by `CaptionKV.kept`, which is given in training."""

    def num_dropped(self) -> int:
        """The number of these features, F of `kept` [B, F]."""
        ...


NetFactory = Callable[[Config], nn.Module]
NETWORKS = {"dit": DiffusionTransformer}


def make_net(config: NetConfig) -> Network:
    """A fresh network of `config.architecture`. Raises ConfigError for an unknown one."""
    if config.architecture not in NETWORKS:
        names = ", ".join(NETWORKS)
        raise ConfigError(f"architecture must be one of {names}, not {config.architecture!r}")
    return NETWORKS[config.architecture](config)


def muon_matrices(module: nn.Module) -> dict[str, int]:
    """`module.muon_matrices()` where it has that method, else none."""
    return module.muon_matrices() if isinstance(module, MuonMatrices) else {}


def shard_units(module: nn.Module) -> list[list[nn.Module]]:
    """`module.shard_units()` where it has that method, else none."""
    return module.shard_units() if isinstance(module, ShardUnits) else []


def num_dropped(module: nn.Module) -> int:
    """`module.num_dropped()` where it has that method, else 0."""
    return module.num_dropped() if isinstance(module, Droppable) else 0
