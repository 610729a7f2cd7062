"""What the network is asked for one request: captions, mixtures of two, guidance and mask, in the fewest calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from tintype.diffusion.guidance import guide, guide_pair
from tintype.diffusion.parameterization import Denoise
from tintype.diffusion.sigmas import per_sample
from tintype.model.denoiser import Denoiser
from tintype.model.nets.dit import TextKeys, join
from tintype.pipeline.request import Request

Texts = Mapping[str, TextKeys]  # every text of a request, read
Answers = Callable[[Tensor, Tensor], Sequence[Tensor]]  # (x, sigma) -> denoised, once for each text told
Asking = Callable[[Sequence[Sequence[str]]], Answers]  # texts, each for all pictures -> who answers for them


def texts_of(request: Request) -> list[str]:
    """Every text that a request needs to be read, each once."""
    guided = [request.negative] if any(scale != 1 for scale in request.guidance) else []
    known = [] if request.invert is None else [request.invert]
    return list(dict.fromkeys([*request.captions, *request.captions_to, *guided, *known]))


def answering(asking: Asking, request: Request, reference: Denoise | None = None) -> Denoise:
    """The denoiser of a request's pictures: with and without the caption at once, and without only in the interval.

    Two captions of one picture are mixed as their answers are, by its share. reference: what to steer away from, in
    place of the same network without the caption.
    """
    told = [request.captions, request.captions_to] if request.captions_to else [request.captions]
    shares = torch.tensor(request.shares)
    ask = asking(told)

    def mixed(answers: Sequence[Tensor]) -> Tensor:
        first, *other = answers
        return torch.lerp(first, other[0], per_sample(shares.to(first.device), first)) if other else first

    def plain(x: Tensor, sigma: Tensor) -> Tensor:
        return mixed(ask(x, sigma))

    if all(scale == 1 for scale in request.guidance):
        return plain
    if reference is not None:
        return guide(plain, reference, torch.tensor(request.guidance), request.interval)
    ask_all = asking([*told, (request.negative,) * len(request)])

    def pair(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        *with_caption, reference = ask_all(x, sigma)
        return mixed(with_caption), reference

    return guide_pair(plain, pair, torch.tensor(request.guidance), request.interval)


def repaint(denoise: Denoise, original: Tensor, mask: Tensor) -> Denoise:
    """Where mask [1, 1, H, W] is 0, answer `original`: there the noise comes off again, down to the last pixel."""
    return lambda x, sigma: torch.where(mask == 0, original, torch.lerp(original, denoise(x, sigma), mask))


def one_by_one(rows: Sequence[Denoise]) -> Denoise:
    """The denoiser of several pictures from one of each, asked one after another."""
    if len(rows) == 1:
        return rows[0]
    return lambda x, sigma: torch.cat([one(x[i : i + 1], sigma[i : i + 1]) for i, one in enumerate(rows)])


def in_one_call(denoiser: Denoiser, texts: Texts) -> Asking:
    """Ask a network about all texts in one call."""

    def asking(told: Sequence[Sequence[str]]) -> Answers:
        num = len(told)
        keys = join([texts[text] for captions in told for text in captions])

        def ask(x: Tensor, sigma: Tensor) -> Sequence[Tensor]:
            with torch.no_grad():
                if num == 1:
                    return [denoiser.denoise(x, sigma, keys)]
                return denoiser.denoise(torch.cat([x] * num), torch.cat([sigma] * num), keys).chunk(num)

        return ask

    return asking


def one_after_another(given: Callable[[Sequence[str]], Denoise]) -> Asking:
    """Ask about each text in a call of its own."""

    def asking(told: Sequence[Sequence[str]]) -> Answers:
        each = [given(captions) for captions in told]
        return lambda x, sigma: [denoise(x, sigma) for denoise in each]

    return asking
