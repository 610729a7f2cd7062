"""Writing: a picture's tokens drawn one after another, each from the probabilities that the tokens before it leave.

Every draw is a pure function of (seed, picture, place). So a picture is the same alone and in a batch; and where one
token of it is changed, the places after it are drawn with the same random numbers: what differs is due to the change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tintype.diffusion.noise import Purpose, uniform
from tintype.errors import ConfigError
from tintype.tokens.model import TokenModel
from tintype.tokens.network import Reading

Given = Sequence[int | None]  # tokens of the places 0, 1, ...; None, and places beyond its end, are to be written


@dataclass(frozen=True, kw_only=True, slots=True)
class Switch:
    """Another caption from a place on. The tokens before it are read again under the new caption."""

    place: int
    captions: tuple[str, ...]  # one a picture


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteRequest:
    """Pictures to write, each with its caption, seed and index, and the tokens that it is given."""

    captions: tuple[str, ...]
    seeds: tuple[int, ...]
    indices: tuple[int, ...]
    temperature: float = 1.0  # 0: always the likeliest token
    top_k: int = 0  # 0: all
    guidance: float = 1.0  # 1: none
    given: tuple[Given, ...] = ()  # one a picture, or none
    switch: Switch | None = None
    alternatives: int = 0  # likeliest tokens to report at each place

    def __len__(self) -> int:
        return len(self.captions)


class Written(NamedTuple):
    """The tokens of one place of all pictures [B]."""

    place: int
    tokens: Tensor  # int64 [B]
    given: Tensor  # bool [B], not drawn
    probability: Tensor  # [B] of the token as it was drawn: after guidance, temperature and top_k
    bits: Tensor  # [B] -log2 of its probability by the model itself: without guidance, at temperature 1
    alternatives: Tensor  # int64 [B, A], likeliest first
    probabilities: Tensor  # [B, A] of the alternatives


def check(request: WriteRequest, num_tokens: int, num_codes: int) -> None:
    """Raise ConfigError, which starts with the name of the option, for a request that cannot be written."""
    for name, value, low, high in (
        ("temperature", request.temperature, 0.0, 4.0),
        ("top_k", request.top_k, 0, num_codes),
        ("guidance", request.guidance, 0.0, 100.0),
        ("alternatives", request.alternatives, 0, num_codes),
    ):
        if not low <= value <= high:
            raise ConfigError(f"{name} must be between {low:g} and {high:g}, not {value:g}")
    for tokens in request.given:
        if len(tokens) > num_tokens:
            raise ConfigError(f"tokens must be at most {num_tokens}, the places of a picture, not {len(tokens)}")
        if any(token is not None and not 0 <= token < num_codes for token in tokens):
            raise ConfigError(f"tokens must be codes from 0 to {num_codes - 1}")
    if request.switch is not None and not 0 < request.switch.place < num_tokens:
        raise ConfigError(f"switch_at must be a place from 1 to {num_tokens - 1}, not {request.switch.place}")


@torch.no_grad()
def write(model: TokenModel, request: WriteRequest) -> Iterator[Written]:
    """Write the pictures of a request, a place of all of them at a time. Raises ConfigError before the first.

    A place costs one evaluation of the network on one token; with guidance, on two.
    """
    num, net = len(request), model.config.net
    check(request, net.num_tokens, net.codes)
    given = _given(request, net.num_tokens).to(model.device)
    seeds = torch.tensor(request.seeds, dtype=torch.int64)
    draws = uniform(seeds, Purpose.TOKEN, torch.tensor(request.indices, dtype=torch.int64), net.num_tokens)
    reading = _start(model, request, request.captions)
    tokens = torch.empty(num, 0, dtype=torch.int64, device=model.device)
    unread = tokens
    for place in range(net.num_tokens):
        if request.switch is not None and place == request.switch.place:
            reading, unread = _start(model, request, request.switch.captions), tokens
        rows = len(reading.mask) // num
        logits = model.net.extend(reading, unread.repeat(rows, 1))[:, -1].float()
        step = _draw(request, place, logits, draws[:, place].to(model.device), given[:, place])
        yield step
        unread = step.tokens[:, None]
        tokens = torch.cat([tokens, unread], dim=1)


def _start(model: TokenModel, request: WriteRequest, captions: Sequence[str]) -> Reading:
    """The network with captions read: with guidance twice as many rows, of which the second half has none."""
    empty = [""] * len(captions) if request.guidance != 1 else []
    return model.net.start(model.encode([*captions, *empty]))


def _draw(request: WriteRequest, place: int, logits: Tensor, draws: Tensor, given: Tensor) -> Written:
    """The tokens at a place from logits [B or 2 B, V], with evenly distributed numbers `draws` [B]."""
    own = logits[: len(request)]
    guided = own if request.guidance == 1 else torch.lerp(logits[len(request) :], own, request.guidance)
    probabilities = _probabilities(guided, request.temperature, request.top_k)
    ends = probabilities.double().cumsum(1)
    drawn = torch.searchsorted(ends, (draws * ends[:, -1])[:, None])[:, 0].clamp(max=ends.shape[1] - 1)
    is_given = given >= 0
    tokens = torch.where(is_given, given, drawn)
    rows = torch.arange(len(tokens), device=tokens.device)
    bits = -own.log_softmax(1)[rows, tokens] / math.log(2)
    likeliest = probabilities.topk(request.alternatives, dim=1)
    return Written(place, tokens, is_given, probabilities[rows, tokens], bits, likeliest.indices, likeliest.values)


def _probabilities(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    """Logits [B, V] as probabilities; top_k: Fan et al. 2018, arXiv 1805.04833."""
    if temperature == 0:
        return torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1.0)
    if top_k:
        lowest = logits.topk(top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < lowest, -torch.inf)
    return (logits / temperature).softmax(1)


def _given(request: WriteRequest, num_tokens: int) -> Tensor:
    """The given tokens int64 [B, T]; -1 where a token is to be written."""
    given = torch.full((len(request), num_tokens), -1, dtype=torch.int64)
    for row, tokens in enumerate(request.given):
        for place, token in enumerate(tokens):
            given[row, place] = -1 if token is None else token
    return given
