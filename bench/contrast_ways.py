"""Two ways to make a picture behind one interface: at once out of noise, and token by token. `bench/contrast.py`.

Pictures are uint8 [B, 3, H, W]. Picture i of a call is drawn from (seed, i). A *share* says how far the making has
come: of the sampler's steps, or of the places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tintype.diffusion.noise import Purpose, normal
from tintype.diffusion.samplers import SAMPLERS, finish, steps_of
from tintype.pipeline.guided_denoiser import repaint
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.start import initial_noise, initial_x, request_sigmas
from tintype.tokens.codebook import nearest, pictures_of_patches
from tintype.tokens.config import WriteConfig
from tintype.tokens.write import Switch
from tintype.tokens.writer import TokenWriter


@dataclass(frozen=True)
class Damage:
    """Wrong patches in a row of places, put in after a share of the making."""

    share: float
    places: Tensor  # int64 [B], the first place of each picture
    patches: Tensor  # uint8 [B, N, 3 * patch * patch]


class Way(Protocol):
    """A way to make pictures."""

    name: str

    def draw(self, captions: Sequence[str], seed: int) -> Tensor:
        """A picture for each caption."""

    def damaged(self, captions: Sequence[str], seed: int, damage: Damage) -> Tensor:
        """The same pictures, with wrong patches put in on the way."""

    def switched(self, captions: Sequence[str], others: Sequence[str], seed: int, share: float) -> Tensor:
        """Pictures whose caption becomes another one on the way."""

    def completed(self, captions: Sequence[str], seed: int, pictures: Tensor, kept: Tensor) -> Tensor:
        """Pictures of which the places `kept` (bool [T]) are given."""


class AtOnce:
    """Diffusion, with the model's own sampler, steps and guidance."""

    name = "diffusion"

    def __init__(self, pipeline: Pipeline, patch: int) -> None:
        self.pipeline = pipeline
        self.patch = patch
        self.side = pipeline.config.net.resolution // patch
        pipeline.batch_invariant = False
        self.steps = pipeline.config.sample.steps

    def draw(self, captions: Sequence[str], seed: int) -> Tensor:
        request = self._request(captions, seed)
        return self.pipeline.codec.decode(finish(self.pipeline.run(request)))

    def damaged(self, captions: Sequence[str], seed: int, damage: Damage) -> Tensor:
        x, denoise, sigmas, step = self._begun(captions, seed, damage.share)
        sigma = float(sigmas[step])
        wrong = torch.zeros(len(x), self.side**2, 3 * self.patch**2, dtype=torch.uint8)
        mask = torch.zeros_like(wrong)
        for row, place in enumerate(damage.places.tolist()):
            wrong[row, place : place + damage.patches.shape[1]] = damage.patches[row]
            mask[row, place : place + damage.patches.shape[1]] = 1
        clean = self.pipeline.codec.encode(pictures_of_patches(wrong, self.patch, self.side))
        noise = normal(seed, Purpose.EVALUATE, torch.arange(len(x)), tuple(x.shape[1:]))
        inside = pictures_of_patches(mask, self.patch, self.side).bool()
        x = torch.where(inside, clean + sigma * noise, x)
        return self._finished(x, denoise, sigmas[step:])

    def switched(self, captions: Sequence[str], others: Sequence[str], seed: int, share: float) -> Tensor:
        x, _, sigmas, step = self._begun(captions, seed, share)
        return self._finished(x, self.pipeline.denoise(self._request(others, seed)), sigmas[step:])

    def completed(self, captions: Sequence[str], seed: int, pictures: Tensor, kept: Tensor) -> Tensor:
        patches = kept[None, :, None].expand(1, -1, 3 * self.patch**2).to(torch.uint8)
        mask = 1 - pictures_of_patches(patches, self.patch, self.side)[:, :1].float()
        original = self.pipeline.codec.encode(pictures)
        x, denoise, sigmas, _ = self._begun(captions, seed, 0.0)
        return self._finished(x, repaint(denoise, original, mask), sigmas)

    def _request(self, captions: Sequence[str], seed: int):  # type: ignore[no-untyped-def]
        return self.pipeline.request(list(captions), seeds=[seed] * len(captions), indices=range(len(captions)))

    def _begun(self, captions: Sequence[str], seed: int, share: float):  # type: ignore[no-untyped-def]
        """Noisy pictures after a share of the steps, their denoiser, all noise levels, and the step they are at."""
        request = self._request(captions, seed)
        sigmas = request_sigmas(request, self.pipeline.config.noise)
        side = self.pipeline.config.net.resolution
        x = initial_x(initial_noise(request, (3, side, side)), sigmas[0].item(), None)
        denoise = self.pipeline.denoise(request)
        step = round(share * (len(sigmas) - 1))
        if step:
            x = finish(steps_of(SAMPLERS[self.pipeline.config.sample.sampler], denoise, x, sigmas[: step + 1]))
        return x, denoise, sigmas, step

    def _finished(self, x: Tensor, denoise, sigmas: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        sampler = SAMPLERS[self.pipeline.config.sample.sampler]
        return self.pipeline.codec.decode(finish(steps_of(sampler, denoise, x, sigmas)))


class TokenByToken:
    """A token model, with its own temperature and guidance or those given."""

    name = "tokens"

    def __init__(self, writer: TokenWriter, write: WriteConfig | None = None) -> None:
        self.writer = writer
        self.write = write or writer.config.write
        self.net = writer.config.net

    def draw(self, captions: Sequence[str], seed: int) -> Tensor:
        return self._decoded(self._tokens(captions, seed))

    def damaged(self, captions: Sequence[str], seed: int, damage: Damage) -> Tensor:
        tokens = self._tokens(captions, seed).tolist()
        wrong = self._encoded_patches(damage.patches).tolist()
        given = [
            [*own[:place], *others] for own, others, place in zip(tokens, wrong, damage.places.tolist(), strict=True)
        ]
        return self._decoded(self._tokens(captions, seed, given=given))

    def switched(self, captions: Sequence[str], others: Sequence[str], seed: int, share: float) -> Tensor:
        switch = Switch(place=round(share * self.net.num_tokens), captions=tuple(others))
        return self._decoded(self._tokens(captions, seed, switch=switch))

    def completed(self, captions: Sequence[str], seed: int, pictures: Tensor, kept: Tensor) -> Tensor:
        tokens = self.writer.model.codebook.encode(pictures).tolist()
        given = [[token if keep else None for token, keep in zip(row, kept.tolist(), strict=True)] for row in tokens]
        return self._decoded(self._tokens(captions, seed, given=given))

    def _tokens(self, captions: Sequence[str], seed: int, **options) -> Tensor:  # type: ignore[no-untyped-def]
        num = len(captions)
        request = self.writer.request(
            list(captions),
            seeds=[seed] * num,
            indices=range(num),
            temperature=self.write.temperature,
            top_k=self.write.top_k,
            guidance=self.write.guidance,
            **options,
        )
        return self.writer.tokens(request)

    def _decoded(self, tokens: Tensor) -> Tensor:
        return self.writer.model.codebook.decode(tokens)

    def _encoded_patches(self, patches: Tensor) -> Tensor:
        """Patches uint8 [B, N, 3 * patch * patch] as tokens [B, N]."""
        codes = self.writer.model.codebook.codes.float()
        return nearest(patches.flatten(0, 1).float(), codes)[0].reshape(patches.shape[:2])
