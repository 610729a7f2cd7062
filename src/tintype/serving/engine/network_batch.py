"""Network calls of many requests, batched into one.

A request's denoiser (guidance, a mask) is a function of the network's predictions, written once, in `pipeline/`. A
`CallRecorder` stands in for the network: first it records the denoiser's calls, and after the batched call it replays
their results. This works because the calls depend on the noise level alone, never on a prediction.
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
from tintype.pipeline.cuda_graphs import GraphedNetwork


class DenoiseCall(NamedTuple):
    """A call of the network: pictures x [B, C, H, W] at noise levels sigma [B], with their captions."""

    cond: Conditioning
    x: Tensor
    sigma: Tensor

    def __len__(self) -> int:  # pictures, not fields
        return len(self.x)


class CallRecorder:
    """Stands in for the network: records the calls of one request's denoiser, then replays their results."""

    def __init__(self) -> None:
        self._calls: list[DenoiseCall] = []
        self._results: Iterator[Tensor] | None = None
        self.conds: list[Conditioning] = []  # in the order in which they were encoded

    def conditioned(self, cond: Conditioning) -> Denoise:
        """A denoiser for `Pipeline.sampling_task`, in place of the network's own."""
        self.conds.append(cond)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            if self._results is not None:
                return next(self._results)
            self._calls.append(DenoiseCall(cond, x, sigma))
            return torch.zeros_like(x)

        return denoise

    def record(self, denoise: Denoise, query: Query) -> list[DenoiseCall]:
        """The network calls that `denoise` makes to answer `query`."""
        self._calls, self._results = [], None
        denoise(query.x, query.sigma)
        return self._calls

    def replay(self, denoise: Denoise, query: Query, results: Sequence[Tensor]) -> Tensor:
        """The answer of `denoise` to `query`, [B, C, H, W], from the results of its recorded calls."""
        self._results = iter(results)
        return denoise(query.x, query.sigma)


class NetworkBatch:
    """Batched calls of one network. Captions are processed once for as long as the same pictures stay together."""

    def __init__(self, denoiser: Denoiser | GraphedNetwork) -> None:
        self._denoiser = denoiser
        self._rows: list[tuple[Conditioning, int, int]] = []
        self._denoise: Denoise | None = None

    def denoise(self, calls: Sequence[DenoiseCall], limit: int) -> list[Tensor]:
        """Denoised pictures [B, C, H, W] for each call; all of one picture size, at most `limit` in a network call."""
        total = sum(len(call) for call in calls)
        num_batches = -(-total // limit)
        parts: list[list[Tensor]] = [[] for _ in calls]
        for group in _split(calls, -(-total // num_batches)):
            x = torch.cat([calls[i].x[rows] for i, rows in group])
            sigma = torch.cat([calls[i].sigma[rows] for i, rows in group])
            denoised = self._conditioned([(calls[i].cond, rows.start, rows.stop) for i, rows in group])(x, sigma)
            sizes = [rows.stop - rows.start for _, rows in group]
            for (i, _), part in zip(group, torch.split(denoised, sizes), strict=True):
                parts[i].append(part)
        return [part[0] if len(part) == 1 else torch.cat(part) for part in parts]

    def clear(self) -> None:
        """Free the processed captions of the newest batch."""
        self._rows, self._denoise = [], None

    def _conditioned(self, rows: list[tuple[Conditioning, int, int]]) -> Denoise:
        same = len(rows) == len(self._rows) and all(
            a[0] is b[0] and a[1:] == b[1:] for a, b in zip(rows, self._rows, strict=True)
        )
        if self._denoise is None or not same:
            self.clear()
            self._denoise = self._denoiser.conditioned(concat_padded([cond[start:stop] for cond, start, stop in rows]))
            self._rows = rows
        return self._denoise


def concat_padded(conds: Sequence[Conditioning]) -> Conditioning:
    """Captions of several lengths as one Conditioning [B, L, D], padded to the longest."""
    longest = max(cond.tokens.shape[1] for cond in conds)
    tokens = conds[0].tokens.new_zeros((sum(map(len, conds)), longest, conds[0].tokens.shape[2]))
    mask = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    start = 0
    for cond in conds:
        rows, length = slice(start, start + len(cond)), cond.tokens.shape[1]
        tokens[rows, :length], mask[rows, :length] = cond.tokens, cond.mask
        start += len(cond)
    return Conditioning(tokens, mask)


def _split(calls: Sequence[DenoiseCall], size: int) -> Iterator[list[tuple[int, slice]]]:
    """The rows of all calls in order, in groups of at most `size`: (index of the call, its rows)."""
    group: list[tuple[int, slice]] = []
    room = size
    for index, call in enumerate(calls):
        start = 0
        while start < len(call):
            stop = min(len(call), start + room)
            group.append((index, slice(start, stop)))
            room -= stop - start
            start = stop
            if room == 0:
                yield group
                group, room = [], size
    if group:
        yield group
