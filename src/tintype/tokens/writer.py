"""The writer: captions -> pictures, token by token."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from tintype._version import __version__
from tintype.errors import ConfigError
from tintype.model.codec import pictures_of, pixels_of
from tintype.tokens import store
from tintype.tokens.model import TokenModel
from tintype.tokens.receipt import TokenReceipt
from tintype.tokens.write import Given, Switch, WriteRequest, Written, check, write
from tintype.training.core.device import choose_device


class Kept(NamedTuple):
    """A picture as tokens."""

    tokens: Tensor  # int64 [T]
    picture: Image.Image  # what the tokens keep of it
    psnr: float  # peak signal-to-noise ratio of that, in dB


class TokenWriter:
    """A model that writes pictures token by token, ready to use: the other way to make pictures than a `Pipeline`.

    writer = tintype.TokenWriter.load("shapes-tokens")
    writer.generate(["a red circle"], seeds=7)[0].save("circle.png")
    for step in writer.stream(["a red circle"], seeds=7, alternatives=3):
        print(step.place, step.tokens[0], step.probability[0])
    """

    def __init__(self, model: TokenModel, name: str = "", model_hash: str = "") -> None:
        self.model = model.eval()
        self.config = model.config
        self.name = name
        self.model_hash = model_hash

    @classmethod
    def load(cls, model: str | Path = store.SHIPPED, device: str | None = None) -> TokenWriter:
        """Load a shipped token model by name, or one in a folder; of a run that trains, its newest checkpoint.

        Raises CheckpointError, and ConfigError for a device that is not there.
        """
        folder = store.find(model)
        loaded = store.load(folder).to(choose_device(device)).requires_grad_(False)
        loaded.codebook = loaded.codebook.to(loaded.device)
        return cls(loaded, Path(model).name, store.weights_hash(folder))

    def request(
        self,
        captions: str | Sequence[str],
        *,
        seeds: int | Sequence[int] = 0,
        indices: int | Sequence[int] | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        guidance: float | None = None,
        given: Sequence[Given] = (),
        switch: Switch | None = None,
        alternatives: int = 0,
    ) -> WriteRequest:
        """A request, completed with the model's defaults and checked. Raises ConfigError.

        Args:
            captions: one a picture.
            seeds: of the draws, one a picture or one for all.
            indices: a picture is drawn from its seed and index; None: 0, 1, 2, ... for one seed, else 0.
            temperature: of the probabilities; 0 takes the likeliest token each time.
            top_k: draw only from so many of the likeliest tokens; 0: all.
            guidance: scale of guidance towards the caption; 1: none.
            given: tokens of each picture that are not to be written, with None where they are; or nothing.
            switch: another caption from a place on.
            alternatives: likeliest tokens to report at each place.
        """
        captions = (captions,) if isinstance(captions, str) else tuple(captions)
        num, defaults = len(captions), self.config.write
        if indices is None:
            indices = range(num) if isinstance(seeds, int) else 0
        request = WriteRequest(
            captions=captions,
            seeds=_each("seeds", seeds, num),
            indices=_each("indices", indices, num),
            temperature=defaults.temperature if temperature is None else temperature,
            top_k=defaults.top_k if top_k is None else top_k,
            guidance=defaults.guidance if guidance is None else guidance,
            given=tuple(given),
            switch=switch,
            alternatives=alternatives,
        )
        if given and len(given) != num:
            raise ConfigError(f"given must have the tokens of {num} pictures, not {len(given)}")
        if switch is not None and len(switch.captions) != num:
            raise ConfigError(f"switch must have {num} captions, not {len(switch.captions)}")
        check(request, self.config.net.num_tokens, self.config.net.codes)
        return request

    def write(self, request: WriteRequest) -> Iterator[Written]:
        """Write the pictures of a request: a step for each place, in order. Closing the iterator ends it."""
        return write(self.model, request)

    def stream(
        self, captions: str | Sequence[str], *, seeds: int | Sequence[int] = 0, alternatives: int = 0
    ) -> Iterator[Written]:
        """`write` for captions, with the model's defaults."""
        return self.write(self.request(captions, seeds=seeds, alternatives=alternatives))

    def tokens(self, request: WriteRequest) -> Tensor:
        """The tokens of the pictures of a request, int64 [B, T]."""
        return torch.stack([step.tokens for step in self.write(request)], dim=1)

    def generate(
        self,
        captions: str | Sequence[str],
        *,
        seeds: int | Sequence[int] = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        guidance: float | None = None,
    ) -> list[Image.Image]:
        """Write a picture for each caption. Raises ConfigError."""
        request = self.request(captions, seeds=seeds, temperature=temperature, top_k=top_k, guidance=guidance)
        return self.pictures(self.tokens(request))

    def pictures(self, tokens: Tensor) -> list[Image.Image]:
        """Tokens int64 [B, T] as pictures."""
        return pictures_of(self.model.codebook.decode(tokens))

    def encode(self, picture: Image.Image) -> Kept:
        """A picture as tokens, and what they keep of its middle square at the model's resolution."""
        side = self.config.net.resolution
        pixels = pixels_of(ImageOps.fit(picture.convert("RGB"), (side, side), Image.Resampling.BOX))
        tokens = self.model.codebook.encode(pixels.to(self.model.device))
        kept = self.model.codebook.decode(tokens).cpu()
        error = float((kept.float() - pixels.float()).square().mean())
        return Kept(tokens[0], pictures_of(kept)[0], 10 * math.log10(255**2 / max(error, 1e-3)))

    @torch.no_grad()
    def bits(self, tokens: Tensor, captions: Sequence[str]) -> Tensor:
        """-log2 of the probability of each token after those before it: tokens int64 [B, T] -> float32 [B, T].

        Their sum is what a picture takes to be stored with this model.
        """
        out: Tensor = self.model(tokens.to(self.model.device), self.model.encode(captions))
        return out

    def codebook_sheet(self) -> Image.Image:
        """All codes in order of their number, 64 a row."""
        return Image.fromarray(np.ascontiguousarray(self.model.codebook.sheet().permute(1, 2, 0).cpu().numpy()))

    def receipts(self, request: WriteRequest) -> list[TokenReceipt]:
        """A receipt for each picture of a request, with which the same model writes it again."""
        return [
            TokenReceipt(
                caption=caption,
                seed=seed,
                index=index,
                temperature=request.temperature,
                top_k=request.top_k,
                guidance=request.guidance,
                model=self.name,
                model_hash=self.model_hash,
                version=__version__,
                side=self.config.net.resolution,
            )
            for caption, seed, index in zip(request.captions, request.seeds, request.indices, strict=True)
        ]


def _each(name: str, values: int | Sequence[int], num: int) -> tuple[int, ...]:
    """One value for each of `num` pictures. Raises ConfigError."""
    values = (values,) * num if isinstance(values, int) else tuple(values)
    if len(values) != num:
        raise ConfigError(f"{name} must be one number, or {num}, not {len(values)}")
    if any(not 0 <= value < 2**63 for value in values):
        raise ConfigError(f"{name} must be from 0 to 2^63 - 1")
    return values
