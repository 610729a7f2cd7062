"""The denoiser of a request: captions, mixtures of two captions, guidance and mask, in the fewest model calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tintype.diffusion.guidance import guide, guide_pair
from tintype.diffusion.parameterization import Denoise
from tintype.diffusion.sigmas import per_sample
from tintype.model.denoiser import Denoiser
from tintype.model.nets.conditioning import CaptionKV, concat_padded
from tintype.pipeline.cuda_graphs import GraphedNetwork
from tintype.pipeline.request import Request

Predictions = Callable[[Tensor, Tensor], Sequence[Tensor]]  # (x, sigma) -> denoised, once for each list of captions
ModelCall = Callable[[Sequence[Sequence[str]]], Predictions]  # lists of captions, each with one caption per picture


def request_texts(request: Request) -> list[str]:
    """Every text that the network needs for a request, without repeats."""
    guided = [request.negative_prompt] if any(scale != 1 for scale in request.guidance) else []
    source = [] if request.source_caption is None else [request.source_caption]
    return list(dict.fromkeys([*request.captions, *request.captions_to, *guided, *source]))


def guided_denoiser(call: ModelCall, request: Request, guide_call: ModelCall | None = None) -> Denoise:
    """The denoiser of a request's pictures, with guidance.

    Within the guidance interval one model call predicts with and without the caption; outside it, with the caption
    alone. Two captions of a picture are mixed by interpolating their predictions with the picture's mix weight.

    guide_call: a weaker model. Guidance then steers away from its prediction for the same captions, in place of this
    model's prediction without them.
    """
    captions = [request.captions, request.captions_to] if request.captions_to else [request.captions]
    weights = torch.tensor(request.mix_weights)
    predict = call(captions)

    def mix(predictions: Sequence[Tensor]) -> Tensor:
        first, *second = predictions
        return torch.lerp(first, second[0], per_sample(weights.to(first.device), first)) if second else first

    def plain(x: Tensor, sigma: Tensor) -> Tensor:
        return mix(predict(x, sigma))

    if all(scale == 1 for scale in request.guidance):
        return plain
    scales = torch.tensor(request.guidance)
    if guide_call is not None:
        weaker = guided_denoiser(guide_call, replace(request, guidance=(1.0,) * len(request)))
        return guide(plain, weaker, scales, request.guidance_interval)
    predict_both = call([*captions, (request.negative_prompt,) * len(request)])

    def pair(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        *with_caption, reference = predict_both(x, sigma)
        return mix(with_caption), reference

    return guide_pair(plain, pair, scales, request.guidance_interval)


def repaint(denoise: Denoise, original: Tensor, mask: Tensor) -> Denoise:
    """Predict `original` where mask [1, 1, H, W] is 0, so that sampling ends there with exactly its pixels."""
    return lambda x, sigma: torch.where(mask == 0, original, torch.lerp(original, denoise(x, sigma), mask))


def per_image(denoisers: Sequence[Denoise]) -> Denoise:
    """The denoiser of a batch from one denoiser per picture, called one after another."""
    if len(denoisers) == 1:
        return denoisers[0]
    return lambda x, sigma: torch.cat(
        [denoise(x[i : i + 1], sigma[i : i + 1]) for i, denoise in enumerate(denoisers)],
    )


def batched_call(denoiser: Denoiser | GraphedNetwork, texts: Mapping[str, CaptionKV]) -> ModelCall:
    """A ModelCall that predicts for all lists of captions in one call of the network."""

    def call(captions: Sequence[Sequence[str]]) -> Predictions:
        num = len(captions)
        keys = concat_padded([texts[text] for row in captions for text in row])

        def predict(x: Tensor, sigma: Tensor) -> Sequence[Tensor]:
            with torch.no_grad():
                if num == 1:
                    return [denoiser.denoise(x, sigma, keys)]
                return denoiser.denoise(torch.cat([x] * num), torch.cat([sigma] * num), keys).chunk(num)

        return predict

    return call


def sequential_calls(conditioned: Callable[[Sequence[str]], Denoise]) -> ModelCall:
    """A ModelCall that calls a conditioned denoiser for each list of captions in turn."""

    def call(captions: Sequence[Sequence[str]]) -> Predictions:
        denoisers = [conditioned(row) for row in captions]
        return lambda x, sigma: [denoise(x, sigma) for denoise in denoisers]

    return call
