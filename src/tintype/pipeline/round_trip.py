"""The inversion round trip: a picture back to the noise that leads to it, then from that noise to a new picture."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import torch
from torch import Tensor

from tintype.config import NoiseConfig
from tintype.diffusion.inversion import invert
from tintype.diffusion.samplers import Coroutine, Query, Randn, num_evaluations
from tintype.pipeline.request import Request
from tintype.pipeline.start import initial_x, interpolated_noise, request_sampler, request_sigmas, seed_noise


class InversionRoundTrip:
    """Inversion and sampling in turn, as one coroutine.

    The network never saw a picture without noise in training, so noise of the lowest level, drawn from the request's
    seed, is added first. Sampling ends with what the network predicts behind that noise; the difference to the picture
    itself is added back at the end.

    Args:
        request: with a source caption.
        config: noise levels of the model.
        x0: the picture [1, C, H, W].
        mask: how much of each pixel to repaint, [1, 1, H, W], or 1 for all.
        randn: fresh noise for the sampler.

    Attributes:
        source_request: the request with the picture's own caption; its denoiser answers while `inverting`, the
            request's own answers afterwards.
        inverting: whether the open query belongs to inversion.
        index: step of the open query, of `total`. Inversion takes one step per noise level, with several queries each;
            sampling takes one step per query.
    """

    def __init__(self, request: Request, config: NoiseConfig, x0: Tensor, mask: Tensor, randn: Randn) -> None:
        self._request, self._x0, self._mask, self._randn = request, x0, mask, randn
        self._sampler, self._sigmas = request_sampler(request), request_sigmas(request, config)
        captions = (request.source_caption or "",) * len(request)
        self.source_request = replace(request, captions=captions, captions_to=(), mask=None)
        self.total = len(self._sigmas) - 1 + num_evaluations(self._sampler, self._sigmas)
        self.index = 0
        self.inverting = True

    def coroutine(self) -> Coroutine:
        """Ask the denoiser of `source_request`, then that of the request; return the new pictures [B, C, H, W]."""
        levels = self._sigmas[:-1]
        noise = seed_noise(self._request, (self._x0.shape[1], self._x0.shape[2], self._x0.shape[3])).to(self._x0.device)
        start = initial_x(noise, levels[-1].item(), self._x0)
        inverted_noise, reconstruction = yield from self._invert(invert(start, levels))
        noise = interpolated_noise(self._request, (inverted_noise / levels[0]).cpu()).to(inverted_noise.device)
        self.inverting = False
        pictures = yield from self._count(self._sampler(levels[0] * noise, self._sigmas, self._randn))
        return pictures + (self._x0 - reconstruction) * self._mask

    def _invert(self, inversion: Coroutine) -> Generator[Query, Tensor, tuple[Tensor, Tensor]]:
        """Returns the x at the highest noise level, and the prediction at the lowest."""
        query, reconstruction = next(inversion), None
        while True:
            denoised = yield query
            reconstruction = denoised if reconstruction is None else reconstruction
            sigma = query.sigma
            try:
                query = inversion.send(denoised)
            except StopIteration as finished:
                return finished.value, reconstruction
            self.index += not torch.equal(query.sigma, sigma)

    def _count(self, sampler: Coroutine) -> Coroutine:
        query = next(sampler)
        while True:
            self.index += 1
            denoised = yield query
            try:
                query = sampler.send(denoised)
            except StopIteration as finished:
                x0: Tensor = finished.value
                return x0
