"""The open questions of many requests in one call of the network.

A request's denoiser (guidance, a mask) is a function of the network's answers. So that it is written once, in
`pipeline.py`, an `Exchange` stands in for the network: first it hears what the denoiser asks, and after the call it
hands out the answers. What is asked depends on the noise level alone, never on an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tintype.diffusion.parameterization import Denoise
from tintype.diffusion.samplers import Query
from tintype.model.denoiser import Denoiser
from tintype.model.nets.conditioning import Conditioning


class Question(NamedTuple):
    """Pictures to denoise: x [B, C, H, W] at noise levels sigma [B], with what they show."""

    cond: Conditioning
    x: Tensor
    sigma: Tensor

    def __len__(self) -> int:  # pictures, not fields
        return len(self.x)


class Exchange:
    """Stands in for the network while one request's denoiser asks."""

    def __init__(self) -> None:
        self._questions: list[Question] = []
        self._answers: Iterator[Tensor] | None = None
        self.conds: list[Conditioning] = []  # what was read, in the order of reading

    def given(self, cond: Conditioning) -> Denoise:
        """What `Pipeline.denoise` takes for the network."""
        self.conds.append(cond)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            if self._answers is not None:
                return next(self._answers)
            self._questions.append(Question(cond, x, sigma))
            return torch.zeros_like(x)

        return denoise

    def ask(self, denoise: Denoise, query: Query) -> list[Question]:
        """What a denoiser wants to know of the network to answer `query`."""
        self._questions, self._answers = [], None
        denoise(query.x, query.sigma)
        return self._questions

    def tell(self, denoise: Denoise, query: Query, answers: Sequence[Tensor]) -> Tensor:
        """The denoiser's answer to `query` [B, C, H, W], from the network's."""
        self._answers = iter(answers)
        return denoise(query.x, query.sigma)


class Batch:
    """Calls one network. What captions are to it is computed once for as long as the same pictures stay together."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser
        self._rows: list[tuple[Conditioning, int, int]] = []
        self._denoise: Denoise | None = None

    def answer(self, questions: Sequence[Question], limit: int) -> list[Tensor]:
        """Denoised pictures [B, C, H, W] for each question; all of one picture size, at most `limit` in a call."""
        total = sum(len(question) for question in questions)
        num_calls = -(-total // limit)
        parts: list[list[Tensor]] = [[] for _ in questions]
        for group in _split(questions, -(-total // num_calls)):
            x = torch.cat([questions[i].x[rows] for i, rows in group])
            sigma = torch.cat([questions[i].sigma[rows] for i, rows in group])
            denoised = self._given([(questions[i].cond, rows.start, rows.stop) for i, rows in group])(x, sigma)
            sizes = [rows.stop - rows.start for _, rows in group]
            for (i, _), part in zip(group, torch.split(denoised, sizes), strict=True):
                parts[i].append(part)
        return [part[0] if len(part) == 1 else torch.cat(part) for part in parts]

    def forget(self) -> None:
        """Let go of what was kept for the pictures that were together."""
        self._rows, self._denoise = [], None

    def _given(self, rows: list[tuple[Conditioning, int, int]]) -> Denoise:
        same = len(rows) == len(self._rows) and all(
            a[0] is b[0] and a[1:] == b[1:] for a, b in zip(rows, self._rows, strict=True)
        )
        if self._denoise is None or not same:
            self.forget()
            self._denoise = self._denoiser.given(join([cond[start:stop] for cond, start, stop in rows]))
            self._rows = rows
        return self._denoise


def join(conds: Sequence[Conditioning]) -> Conditioning:
    """Captions of several lengths as one Conditioning, the shorter ones padded."""
    longest = max(cond.tokens.shape[1] for cond in conds)
    tokens = conds[0].tokens.new_zeros((sum(map(len, conds)), longest, conds[0].tokens.shape[2]))
    mask = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    start = 0
    for cond in conds:
        rows, length = slice(start, start + len(cond)), cond.tokens.shape[1]
        tokens[rows, :length], mask[rows, :length] = cond.tokens, cond.mask
        start += len(cond)
    return Conditioning(tokens, mask)


def _split(questions: Sequence[Question], size: int) -> Iterator[list[tuple[int, slice]]]:
    """All rows of all questions in order, at most `size` at a time: (which question, which of its rows)."""
    group: list[tuple[int, slice]] = []
    room = size
    for index, question in enumerate(questions):
        start = 0
        while start < len(question):
            stop = min(len(question), start + room)
            group.append((index, slice(start, stop)))
            room -= stop - start
            start = stop
            if room == 0:
                yield group
                group, room = [], size
    if group:
        yield group
