"""The pipeline, from captions to pictures: load a model, generate, watch, edit. Every picture is made here."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, Unpack

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from tintype.config import Config
from tintype.diffusion.noise import step_noise
from tintype.diffusion.parameterization import Prediction
from tintype.diffusion.samplers import Denoise, Randn, Step, finish, num_evaluations
from tintype.errors import ConfigError, TintypeError, TintypeWarning
from tintype.model import store
from tintype.model.codec import Codec, make_codec, pictures_of, pixels_of
from tintype.model.denoiser import Denoiser
from tintype.model.nets.conditioning import CaptionKV, Conditioning
from tintype.model.network import NetFactory
from tintype.pipeline.copy_index import CopyIndex, find_copy_index
from tintype.pipeline.cuda_graphs import GraphedNetwork
from tintype.pipeline.guided_denoiser import (
    ModelCall,
    batched_call,
    guided_denoiser,
    per_image,
    repaint,
    request_texts,
    sequential_calls,
)
from tintype.pipeline.receipt import Receipt, clean, receipts_of
from tintype.pipeline.request import Options, Request, make_request
from tintype.pipeline.round_trip import InversionRoundTrip
from tintype.pipeline.sampling_task import SamplingTask
from tintype.pipeline.sizes import enlarged
from tintype.pipeline.start import initial_noise, initial_x, request_sampler, request_sigmas
from tintype.pipeline.validators import side

ConditionalDenoiser = Callable[[Conditioning], Denoise]  # captions -> the denoiser of their pictures


class _Calls(NamedTuple):
    """The networks behind a request's denoiser."""

    model: ModelCall
    guide: ModelCall | None
    per_image: bool  # one model call per picture


class Pipeline:
    """A model ready to make pictures.

        pipeline = Pipeline.load("shapes")  # a shipped name, a model folder or a run folder
        pipeline.generate(["a red circle", "two blue stars"], seeds=[7, 8])[0].save("circle.png")
        for step in pipeline.stream("a red circle"):
            print(step.sigma, pipeline.pictures(step.denoised)[0])

    Args:
        denoiser: not copied; a denoiser in training may be passed.
        device: where to compute; None leaves the denoiser where it is.
        name: of the model, for receipts.
        model_hash: sha256 of its weights, for receipts.
        guide: a weaker model, such as an early checkpoint. Guidance then steers away from its prediction for the same
            caption, in place of this model's prediction without a caption (autoguidance, Karras et al. 2024, arXiv
            2406.02507).

    Attributes:
        batch_invariant: call the network with one picture at a time, so that a picture is the same to the last bit
            alone and in a batch: matrix products choose their order of summation by the size of the batch. True on
            CPUs. Where False, pictures share calls and may differ by one level of 255 in a few pixels. May be set.
        cuda_graphs: call the network by CUDA graphs, which makes few pictures at once much faster. True for a model
            that was loaded to a CUDA device. May be set to False.
        copy_index: the training pictures that `avoid_copies` steers away from; None: those of the copy index beside the
            model, read at its first use. May be set.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        device: torch.device | str | None = None,
        name: str = "",
        model_hash: str = "",
        guide: Pipeline | None = None,
    ) -> None:
        self.denoiser = denoiser if device is None else denoiser.to(device)
        self.device = next(denoiser.parameters()).device
        self.config: Config = denoiser.config
        self.codec: Codec = make_codec(self.config.net)
        self.batch_invariant = self.device.type == "cpu"
        # A denoiser in training lends its averaged weights only for a while.
        is_frozen = not any(weight.requires_grad for weight in denoiser.parameters())
        self.cuda_graphs = self.device.type == "cuda" and is_frozen
        self._graphed: GraphedNetwork | None = None
        self.name = name
        self.model_hash = model_hash
        self.guide = guide
        self.copy_index: CopyIndex | None = None
        self._files: store.Model | None = None
        if guide is not None and (guide.config.net.codec, guide.codec.channels) != (
            self.config.net.codec,
            self.codec.channels,
        ):
            raise ConfigError(f"{guide.name} cannot guide {name}: it has another codec")

    def __repr__(self) -> str:
        millions = sum(weight.numel() for weight in self.denoiser.parameters()) / 1e6
        (width, height), sample = self.config.default_size, self.config.sample
        guide = "" if self.guide is None else f", guided by {self.guide.name!r}"
        return (
            f"<Pipeline {self.name!r}: {width}x{height} pixels, {millions:.1f} million weights on {self.device}; "
            f"{sample.sampler}, {sample.steps} steps, guidance {sample.guidance:g}{guide}>"
        )

    @property
    def network(self) -> Denoiser | GraphedNetwork:
        """What answers for the network: the denoiser itself, or its graphs on CUDA."""
        if not self.cuda_graphs:
            return self.denoiser
        if self._graphed is None:
            self._graphed = GraphedNetwork(self.denoiser)
        return self._graphed

    @property
    def one_by_one(self) -> bool:
        """The older name of `batch_invariant`."""
        return self.batch_invariant

    @one_by_one.setter
    def one_by_one(self, value: bool) -> None:
        self.batch_invariant = value

    @classmethod
    def load(
        cls,
        model: str | Path,
        device: torch.device | str | None = None,
        guide: str | Path | None = None,
        *,
        net: nn.Module | NetFactory | None = None,
        prediction: Prediction | None = None,
    ) -> Pipeline:
        """Load a model and its guide: a shipped name, a model folder or a run folder (while it trains: its newest
        checkpoint); or `hf:OWNER/NAME`, which is fetched from the Hugging Face Hub.

        `device` None chooses a GPU if there is one. Loading runs no stored code: safetensors and JSON only. `net` and
        `prediction` are the objects that the model was trained with, if any. Warns of a newer checkpoint that is
        damaged and passed over. Raises CheckpointError.
        """
        files = store.find(model)
        if files.warning:
            warnings.warn(files.warning, TintypeWarning, stacklevel=2)
        return cls.from_files(files, device, guide, net=net, prediction=prediction)

    @classmethod
    def from_files(
        cls,
        files: store.Model,
        device: torch.device | str | None = None,
        guide: str | Path | None = None,
        *,
        net: nn.Module | NetFactory | None = None,
        prediction: Prediction | None = None,
    ) -> Pipeline:
        """Load a model that `store.find` has found; otherwise as `load`. Raises CheckpointError."""
        denoiser = store.load_denoiser(files, net, prediction)
        denoiser.eval().requires_grad_(False)
        weaker = None if guide is None else cls.load(guide, device)
        pipeline = cls(denoiser, _device(device), files.name, store.weights_hash(files), weaker)
        pipeline._files = files
        return pipeline

    def generate(self, captions: str | Sequence[str], **options: Unpack[Options]) -> list[Image.Image]:
        """Make one picture per caption. `help(tintype.Options)` explains the options; None means the model's own.

        Raises ConfigError for a setting out of range.
        """
        request = self.request(captions, **options)
        parts = request.parts(self.batch_limit(request))
        return [picture for part in parts for picture in self.pictures(finish(self.run(part)), request.enlarge)]

    def stream(self, captions: str | Sequence[str], **options: Unpack[Options]) -> Generator[Step, None, Tensor]:
        """Make pictures as `generate` does, in one batch, and yield a Step per evaluation of the network.

        Inversion (`source_caption`) yields one Step per noise level. `pictures(step.denoised)` shows what a step
        predicts. The generator returns the finished x0 [B, 3, H, W]; the prediction of the last step equals it, except
        after inversion. Closing the generator cancels and frees its tensors. Raises ConfigError.
        """
        return self.run(self.request(captions, **options))

    def request(self, captions: str | Sequence[str], **options: Unpack[Options]) -> Request:
        """Complete and check the options of `generate`. Raises ConfigError."""
        request = make_request(self.config, captions, options)
        if self.guide is not None:
            if request.negative_prompt:
                raise ConfigError("negative_prompt (negative) cannot be combined with a guide model")
            side("width", request.width, self.guide.config.net.multiple, request.width)
            side("height", request.height, self.guide.config.net.multiple, request.height)
        if request.avoid_copies and self.copy_index is None:
            self.copy_index = find_copy_index(self._files, self.name)
        if callable(request.schedule):
            request_sigmas(request, self.config.noise)  # a schedule that returns no noise levels is an error at once
        return request

    def batch_limit(self, request: Request) -> int:
        """The number of pictures of a request to make in one batch; bounds memory."""
        pixels = 2**18 if self.device.type == "cpu" else 2**22
        return max(1, min(256, pixels // (request.width * request.height)))

    def run(self, request: Request) -> Generator[Step, None, Tensor]:
        """Make the pictures of a request as one batch. Yields every Step, returns x0 [B, 3, H, W]."""
        return (yield from self.sampling_task(request).steps())

    def sampling_task(self, request: Request, network: ConditionalDenoiser | None = None) -> SamplingTask:
        """The one path to a picture: the sampler and the denoiser of a request, not started yet.

        network: called in place of this pipeline's own network, as in `denoise`.
        """
        x0 = None if request.init_image is None else self._encode_image(request.init_image)
        calls = self._calls(request, network)
        denoise, randn = self._guided(request, calls), self._randn(request)
        if request.source_caption is not None and x0 is not None:
            trip = InversionRoundTrip(request, self.config.noise, x0, self._repaint_mask(request), randn)
            source = self._guided(trip.source_request, calls)
            answer: Denoise = lambda x, sigma: (source if trip.inverting else denoise)(x, sigma)  # noqa: E731
            return SamplingTask(trip.coroutine(), answer, trip.total, lambda: trip.index)
        sampler, sigmas = request_sampler(request), request_sigmas(request, self.config.noise)
        noise = initial_noise(request, self._latent_shape(request)).to(self.device)
        x = initial_x(noise, sigmas[0].item(), x0)
        avoidance = None
        if request.avoid_copies and self.copy_index is not None:
            avoidance = self.copy_index.avoidance(request.seeds, request.indices, sigmas[-2].item())
        return SamplingTask(sampler(x, sigmas, randn), denoise, num_evaluations(sampler, sigmas), avoidance=avoidance)

    def denoise(self, request: Request, network: ConditionalDenoiser | None = None) -> Denoise:
        """The denoiser of a request, with guidance and mask; each text is encoded once, here.

        network: called in place of this pipeline's own network, with all pictures at once; a guide is not used then.
        """
        return self._guided(request, self._calls(request, network))

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> Conditioning:
        """Captions -> Conditioning [B, L, D]; a repeated caption is encoded once."""
        texts = [clean(caption) for caption in captions]
        unique = list(dict.fromkeys(texts))
        return self.denoiser.encode(unique)[torch.tensor([unique.index(text) for text in texts], device=self.device)]

    def num_cut(self, captions: Sequence[str]) -> int:
        """The number of captions that are longer than this model reads."""
        return self.denoiser.encoder.num_cut([clean(caption) for caption in captions])

    def illegible(self, captions: Sequence[str]) -> list[str]:
        """The signs or words of captions that this model cannot read: to it they are like any others of their kind."""
        lists = self.denoiser.encoder.reader.illegible([clean(caption) for caption in captions])
        return list(dict.fromkeys(word for words in lists for word in words))

    def pictures(self, x0: Tensor, enlarge: str = "") -> list[Image.Image]:
        """Model space [B, 3, H, W] -> pictures, enlarged as a request says. Raises TintypeError for NaN or infinity."""
        if not bool(torch.isfinite(x0).all()):
            raise TintypeError("the model produced NaN or infinity; use an earlier checkpoint")
        return [enlarged(picture, enlarge) for picture in pictures_of(self.codec.decode(x0))]

    def receipts(self, request: Request) -> list[Receipt]:
        """The receipt of each picture of a request."""
        guide = None if self.guide is None else (self.guide.name, self.guide.model_hash)
        avoided = self.copy_index.sha256 if request.avoid_copies and self.copy_index is not None else ""
        return receipts_of(request, (self.name, self.model_hash), guide, avoided)

    def _calls(self, request: Request, network: ConditionalDenoiser | None) -> _Calls:
        if network is not None:
            return _Calls(sequential_calls(cache(lambda captions: network(self.encode(captions)))), None, False)
        texts = self._caption_kv(request_texts(request))
        guide_call = None
        if self.guide is not None and any(scale != 1 for scale in request.guidance):
            guide_call = batched_call(self.guide.network, self.guide._caption_kv(texts))
        return _Calls(batched_call(self.network, texts), guide_call, self.batch_invariant)

    def _guided(self, request: Request, calls: _Calls) -> Denoise:
        parts = request.parts(1 if calls.per_image else len(request))
        denoise = per_image([guided_denoiser(calls.model, part, calls.guide) for part in parts])
        if request.init_image is None or request.mask is None:
            return denoise
        return repaint(denoise, self._encode_image(request.init_image), self._repaint_mask(request))

    def _repaint_mask(self, request: Request) -> Tensor:
        """How much of each position of model space to repaint: [1, 1, h, w], or 1 for all."""
        if request.mask is None:
            return torch.ones(())
        mask = pixels_of(request.mask).to(self.device) / 255
        return mask if self.codec.factor == 1 else F.max_pool2d(mask, self.codec.factor)

    def _latent_shape(self, request: Request) -> tuple[int, int, int]:
        """The shape [C, h, w] of a picture in model space."""
        factor = self.codec.factor
        return self.codec.channels, request.height // factor, request.width // factor

    def _randn(self, request: Request) -> Randn:
        shape = self._latent_shape(request)
        draws = step_noise(torch.tensor(request.seeds), torch.tensor(request.indices), shape)
        return lambda num_drawn: draws(num_drawn).to(self.device)

    @torch.no_grad()
    def _caption_kv(self, texts: Iterable[str]) -> dict[str, CaptionKV]:
        """The keys and values of each text; one text at a time where each picture has its own model call."""
        if self.batch_invariant:
            return {text: self.denoiser.caption_kv(self.encode([text])) for text in texts}
        keys = self.denoiser.caption_kv(self.encode(list(texts)))
        return {text: keys.select(index) for index, text in enumerate(texts)}

    def _encode_image(self, picture: Image.Image) -> Tensor:
        return self.codec.encode(pixels_of(picture).to(self.device))


def _device(device: torch.device | str | None) -> torch.device:
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise ConfigError(f"device must be cpu, cuda, cuda:N or mps, not {device!r}") from None
    if chosen.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"device must be cpu, cuda, cuda:N or mps, not {device!r}")
    num = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(chosen.type, 1)
    if (chosen.index or 0) >= num:
        raise ConfigError(f"PyTorch finds no {chosen} here; leave the device out, or run `tintype doctor`")
    return chosen
