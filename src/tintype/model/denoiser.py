"""The denoiser: network, text encoder and parameterization together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import cast

import torch
from torch import Tensor, nn

from tintype.config import Config
from tintype.diffusion.parameterization import Denoise, Prediction, scalings
from tintype.model.nets.conditioning import CaptionKV, Conditioning
from tintype.model.nets.dit import Positions
from tintype.model.nets.text import TextEncoder, TextRefiner, make_encoder
from tintype.model.network import Network, make_net, muon_matrices, shard_units


class Denoiser(nn.Module):
    """Network, text layers and prediction together: noisy pictures -> denoised pictures.

        cond = denoiser.encode(["a red circle"])
        denoised = denoiser(x, sigma, cond)  # x [1, C, H, W] = x0 + sigma * noise, sigma [1] -> [1, C, H, W]
        predicted_noise = (x - denoised) / sigma

    Args:
        config: the whole configuration of the model.
        tokenizer: JSON of the learned vocabulary, for text "learned" only.
        net: a network in place of the one that the configuration describes.
        prediction: the prediction of the network, in place of `noise.prediction`.
    """

    def __init__(
        self,
        config: Config,
        tokenizer: str | None = None,
        *,
        net: nn.Module | None = None,
        prediction: Prediction | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.net = cast(nn.Module, make_net(config.net) if net is None else net)
        self.prediction = prediction or partial(scalings, config.noise.prediction)
        self.text = TextRefiner(config.net, config.text)

    @cached_property
    def encoder(self) -> TextEncoder:
        """The text encoder; not a submodule, so that its frozen weights are never saved."""
        return make_encoder(self.config.text, self.tokenizer)

    def encode(self, captions: Sequence[str]) -> Conditioning:
        """Captions -> Conditioning [B, L, D]."""
        return self.condition(self.encoder.text_embeddings(captions))

    def condition(self, embeddings: Sequence[Tensor]) -> Conditioning:
        """Text embeddings, one tensor [L_i, ...] a caption -> Conditioning [B, L, D]."""
        cond: Conditioning = self.text(embeddings)
        return cond

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        cond: Conditioning,
        labels: Tensor | None = None,
        kept: Tensor | None = None,
        positions: Positions | None = None,
    ) -> Tensor:
        """Noisy pictures x [B, C, H, W] at noise levels sigma [B] -> denoised [B, C, H, W], float32.

        In training, labels [B, K] tell how the pictures were changed (`CaptionKV.told`), and kept [B, F] are the
        factors of dropout. positions: see `denoise`.
        """
        text = self.caption_kv(cond)
        if labels is not None:
            text = text.told(labels)
        if kept is not None:
            text = text._replace(kept=kept)
        return self.denoise(x, sigma, text, positions)

    def caption_kv(self, cond: Conditioning) -> CaptionKV:
        """Keys and values of captions [B, L, D]: computed once for all steps."""
        return cast(Network, self.net).caption_kv(cond)

    def conditioned(self, cond: Conditioning) -> Denoise:
        """The denoiser for one set of captions, whose keys and values are computed once for all steps."""
        text = self.caption_kv(cond)
        return lambda x, sigma: self.denoise(x, sigma, text)

    def muon_matrices(self) -> dict[str, int]:
        """Names of the weights that Muon steps -> number of matrices stacked in each."""
        parts = {"net": muon_matrices(self.net), "text": muon_matrices(self.text)}
        return {f"{part}.{name}": num for part, names in parts.items() for name, num in names.items()}

    def shard_units(self) -> list[list[nn.Module]]:
        """Submodules to gather together in a sharded run, inner ones first."""
        return [*shard_units(self.net), *shard_units(self.text)]

    def positions(self, height: int, width: int, device: torch.device) -> Positions | None:
        """The positions in pictures of a size, made once; None where the network has no such method."""
        make = getattr(self.net, "positions", None)
        return None if make is None else cast(Positions, make(height, width, device))

    def denoise(self, x: Tensor, sigma: Tensor, text: CaptionKV, positions: Positions | None = None) -> Tensor:
        """`forward` for captions whose keys and values are computed already.

        positions: what `positions` gives, for a compiled network, which would make them again at every call.
        """
        scalars = self.prediction(sigma, self.config.noise.sigma_data)
        c_skip, c_out, c_in = (scalar.view(-1, 1, 1, 1) for scalar in (scalars.c_skip, scalars.c_out, scalars.c_in))
        more = () if positions is None else (positions,)
        output: Tensor = self.net((c_in * x).float(), scalars.c_noise, text, *more)
        denoised: Tensor = c_skip * x + c_out * output.float()
        return denoised
