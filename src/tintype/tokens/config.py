"""Settings of a token model and of the run that trains it, saved as tokens.json."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field

from tintype.config import DataConfig, DistillConfig, NetConfig, NoiseConfig, SampleConfig, TextConfig, TrainConfig
from tintype.config.check import check_data, check_ranges, check_text_encoder
from tintype.config.config import build_settings
from tintype.errors import ConfigError

FORMAT = 1  # of tokens.json; raised when an older Tintype can no longer read it
MAX_TOKENS = 4096  # of a picture
MAX_CODES = 2**16


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenNetConfig:
    """Shape of the tokens and of the network that writes them."""

    resolution: int = 32  # pixels; the side of the square pictures
    patch: int = 4  # pixels; the side of the square that one token stands for
    codes: int = 4096  # of the codebook: different tokens
    width: int = 192  # of a token in the network
    depth: int = 5  # transformer blocks
    heads: int = 3
    text_depth: int = 2  # transformer blocks that refine the text embeddings

    @property
    def side(self) -> int:
        """Tokens along a side of the picture."""
        return self.resolution // self.patch

    @property
    def num_tokens(self) -> int:
        """T, the tokens of a picture."""
        return self.side**2


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteConfig:
    """Default settings of writing, by trials on drawn shapes (dev/LOG.md)."""

    temperature: float = 0.3  # of the probabilities: below 1 the likely tokens become likelier; 0: always the likeliest
    top_k: int = 0  # only the likeliest tokens are drawn; 0: all
    guidance: float = 1.25  # 1: off


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenConfig:
    """Everything about a token model but its weights and its data. Raises ConfigError for a setting out of range."""

    net: TokenNetConfig = field(default_factory=TokenNetConfig)
    text: TextConfig = field(default_factory=lambda: TextConfig(encoder="auto"))
    train: TrainConfig = field(default_factory=lambda: TrainConfig(images=224_000, batch_size=32, lr=1.4e-3))
    data: DataConfig = field(default_factory=lambda: DataConfig(repeats="folder"))
    write: WriteConfig = field(default_factory=WriteConfig)

    def __post_init__(self) -> None:
        check_ranges(
            NetConfig(), self.text, NoiseConfig(), self.train, self.data, SampleConfig(), DistillConfig()
        )  # the sections that both kinds of model have
        check_data(self.data)
        check_text_encoder(self.text.encoder)
        _check_net(self.net)
        _require("temperature", self.write.temperature, 0, 4)
        _require("top_k", self.write.top_k, 0, self.net.codes)
        _require("guidance", self.write.guidance, 0, 100)

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> TokenConfig:
        """Read `to_json` output. Raises ConfigError for anything else."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            raise ConfigError("tokens.json is not JSON; restore it from a backup") from None
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise ConfigError(f"tokens.json is not of format {FORMAT}; it needs another version of Tintype")
        return build_settings(cls, values, "tokens.json", {})


def _check_net(net: TokenNetConfig) -> None:
    _require("resolution", net.resolution, 8, 2048)
    _require("patch", net.patch, 1, 64)
    _require("codes", net.codes, 2, MAX_CODES)
    _require("width", net.width, 16, 8192)
    _require("depth", net.depth, 1, 200)
    _require("heads", net.heads, 1, 256)
    _require("text_depth", net.text_depth, 0, 64)
    if net.resolution % net.patch:
        raise ConfigError(f"resolution {net.resolution} must be a multiple of the patch, {net.patch}")
    if net.num_tokens > MAX_TOKENS:
        raise ConfigError(f"a picture of {net.num_tokens} tokens is too long; choose a larger patch, or a smaller size")
    if net.width % (4 * net.heads):
        raise ConfigError(f"width {net.width} must be a multiple of {4 * net.heads}, four times the heads")


def _require(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # NaN is neither
        raise ConfigError(f"{name} must be between {low:g} and {high:g}, not {value:g}")
