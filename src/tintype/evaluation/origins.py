"""Origins: the training pictures that the ideal denoiser would have made a picture from, along its own way.

The way of a picture is the noisy pictures between its noise and itself. At each of them the ideal denoiser of the
training set, which knows nothing but these pictures, answers with their weighted mean; the weight of picture y is
softmax(-|x - y|^2 / 2 sigma^2) (Karras et al. 2022, arXiv 2206.00364, eq. 57). The share of a training picture is the
mean of its weights over all steps. A model that has learned its pictures by heart follows these weights; of another
one, they say which training pictures lie on its way, and not what they have taught it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from tintype.diffusion.exact import posterior_weights
from tintype.diffusion.samplers import Step
from tintype.evaluation.eval_data import EvalData
from tintype.evaluation.progress import StageProgress, with_progress
from tintype.evaluation.results import OnTheWay, SampleNeighbors, SampleOrigins
from tintype.model.codec import Codec
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.request import Request

NUM_EXPLAINED, NUM_ORIGINS = 6, 3  # samples in the report, and training pictures named for each
DECIDED = 0.5  # weight of a picture from which on it counts as decided


class Way(NamedTuple):
    """The noisy pictures between noise and a picture, one for each step."""

    x: Tensor  # [K, C, h, w]
    sigmas: Tensor  # [K]
    result: Tensor  # [C, h, w], the picture in model space


class Origin(NamedTuple):
    """A training picture on the way of a picture."""

    picture: int  # its index in the data
    share: float  # mean of its weights over all steps; those of all training pictures sum to 1
    decided: float | None  # highest noise level from which on its weight stays above a half; None: it never does


def draw_way(pipeline: Pipeline, request: Request) -> Generator[int, None, list[Way]]:
    """Draw the pictures of a request, and keep their ways. Yields 1 for every step."""
    steps: list[Step] = []
    stream = pipeline.run(request)
    while True:
        try:
            step = next(stream)
        except StopIteration as end:
            x0: Tensor = end.value
            break
        steps.append(step)
        yield 1
    sigmas = torch.tensor([step.sigma for step in steps], dtype=torch.float64)
    x = torch.stack([step.x.cpu() for step in steps])
    return [Way(x[:, picture], sigmas, x0[picture].cpu()) for picture in range(len(request))]


def find_origins(data: EvalData, codec: Codec, way: Way, num: int) -> list[Origin]:
    """The `num` training pictures with the largest shares, largest first; pictures are resized to the shape of the way.

    Weights are those of pictures without captions.
    """
    height, width = (codec.factor * side for side in way.x.shape[-2:])
    weights = posterior_weights(_points(data, codec, height, width), way.x, way.sigmas)
    shares = weights.mean(0)
    chosen = shares.topk(min(num, len(shares))).indices.tolist()
    return [Origin(int(data.seen[row]), float(shares[row]), _decided(weights[:, row], way.sigmas)) for row in chosen]


def _points(data: EvalData, codec: Codec, height: int, width: int) -> Iterator[Tensor]:
    """All training pictures in model space, in blocks."""
    return (codec.encode(block) for block in data.blocks(data.seen, (height, width)))


def _decided(weights: Tensor, sigmas: Tensor) -> float | None:
    """The highest noise level from which on weights [K] stay above a half, down to the last."""
    decided = None
    for weight, sigma in zip(reversed(weights.tolist()), reversed(sigmas.tolist()), strict=True):
        if weight <= DECIDED:
            break
        decided = sigma
    return decided


def sample_origins(
    pipeline: Pipeline, data: EvalData, neighbors: Sequence[SampleNeighbors], seed: int
) -> Generator[StageProgress, None, list[SampleOrigins]]:
    """The training pictures on the ways of the first samples, drawn again from `seed`."""
    neighbors = neighbors[:NUM_EXPLAINED]
    if not neighbors:
        return []
    request = pipeline.request(
        [near.caption for near in neighbors], seeds=seed, indices=[near.index for near in neighbors]
    )
    ways = yield from with_progress("ways of samples", request.steps, draw_way(pipeline, request))
    found = []
    for near, way in zip(neighbors, ways, strict=True):
        origins = find_origins(data, pipeline.codec, way, NUM_ORIGINS)
        rows = torch.tensor([origin.picture for origin in origins])
        pictures = data.resized(rows, (near.sample.height, near.sample.width)).permute(0, 2, 3, 1).contiguous().numpy()
        on_way = [
            OnTheWay(Image.fromarray(pixels), data.dataset.keys[origin.picture], origin.share)
            for pixels, origin in zip(pictures, origins, strict=True)
        ]
        found.append(SampleOrigins(caption=near.caption, sample=near.sample, pictures=on_way))
    return found
