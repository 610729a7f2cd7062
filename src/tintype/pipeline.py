"""From captions to pictures: load a model, watch it work, generate, edit. Every picture is made here."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Unpack

import torch
from PIL import Image
from torch import Tensor

from tintype import __version__, models
from tintype.codec import PixelCodec
from tintype.config import Config
from tintype.denoiser import Denoiser
from tintype.diffusion.guidance import guide
from tintype.diffusion.noise import Purpose, add_noise, normal, step_noise
from tintype.diffusion.samplers import SAMPLERS, Coroutine, Denoise, Randn, Step, num_evaluations, steps_of
from tintype.diffusion.sigmas import log_snr_sigmas
from tintype.errors import CheckpointError, ConfigError, TintypeError
from tintype.nets.conditioning import Conditioning
from tintype.receipt import Receipt, clean
from tintype.request import Options, Request, digest, make_request

Given = Callable[[Conditioning], Denoise]  # the network, told what the pictures show


class Pipeline:
    """A model ready to make pictures.

    Args:
        denoiser: used as it is; a denoiser in training may be lent.
        device: where to compute; None leaves the denoiser where it is.
        name, model_hash: for receipts.

    `one_by_one`, set on CPUs, gives the network one picture at a time: matrix products choose their order of summing by
    the size of the batch, and only so is a picture the same to the last bit alone and among others. Elsewhere pictures
    share a batch and may differ by one level in a few pixels. Set it to choose otherwise.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        device: torch.device | str | None = None,
        name: str = "",
        model_hash: str = "",
    ) -> None:
        self.denoiser = denoiser if device is None else denoiser.to(device)
        self.device = next(denoiser.parameters()).device
        self.config: Config = denoiser.config
        self.codec = PixelCodec()
        self.one_by_one = self.device.type == "cpu"
        self.name = name
        self.model_hash = model_hash

    @classmethod
    def load(cls, model: str | Path, device: torch.device | str | None = None) -> Pipeline:
        """Load a shipped name, a model folder or a run folder (while it trains: its newest checkpoint).

        `device` None chooses a GPU if there is one. No code is run: safetensors and JSON only. Raises CheckpointError.
        """
        found = models.find(model)
        denoiser = Denoiser(models.read_config(found), models.read_tokenizer(found))
        try:
            denoiser.load_state_dict(models.read_weights(found))
        except RuntimeError:
            raise CheckpointError(f"{found.folder}: the weights do not fit config.json; copy the model again") from None
        denoiser.eval().requires_grad_(False)
        return cls(denoiser, _device(device), found.name, models.weights_hash(found))

    def generate(
        self,
        captions: str | Sequence[str],
        *,
        seeds: int | Sequence[int] | None = None,
        indices: Sequence[int] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        sampler: str | None = None,
        negative: str | None = None,
        init_image: Image.Image | None = None,
        strength: float | None = None,
        mask: Image.Image | None = None,
        width: int | None = None,
        height: int | None = None,
    ) -> list[Image.Image]:
        """Make one picture per caption; None means the model's own setting.

        Args:
            seeds: one per caption (each at index 0), or one for all (the i-th at index i); None is seed 0 for all.
            indices: one per caption. Picture i of a request with seed S is the picture of seed S, index i, alone too.
            steps: 1 to 1000.
            guidance: how much more to follow the caption than the reference, "" or `negative`; 1 is no guidance.
            sampler: a name in SAMPLERS.
            negative: text to steer away from.
            init_image, strength: start from this picture with noise on it, from 0.01 (a touch) to 1 (static);
                default 0.6.
            mask: repaint init_image where the mask is white; black pixels stay exactly as they are.
            width, height: pixels, multiples of the model's patch, up to 2048.

        Raises ConfigError for a setting out of range.
        """
        request = self.request(
            captions,
            seeds=seeds,
            indices=indices,
            steps=steps,
            guidance=guidance,
            sampler=sampler,
            negative=negative,
            init_image=init_image,
            strength=strength,
            mask=mask,
            width=width,
            height=height,
        )
        parts = request.parts(self.batch_limit(request))
        return [picture for part in parts for picture in self.pictures(finish(self.run(part)))]

    def stream(self, captions: str | Sequence[str], **same: Unpack[Options]) -> Generator[Step, None, Tensor]:
        """Watch `generate`, with the same options, work on one batch: a Step per evaluation of the network.

        `pictures(step.denoised)` shows the guess of a step; the guess of the last step is the finished picture,
        which is also the generator's return value, [B, 3, H, W]. Closing the iterator cancels. Raises ConfigError.
        """
        return self.run(self.request(captions, **same))

    def request(self, captions: str | Sequence[str], **same: Unpack[Options]) -> Request:
        """The options of `generate`, completed and checked. Raises ConfigError."""
        return make_request(self.config, SAMPLERS, captions, **same)

    def batch_limit(self, request: Request) -> int:
        """How many pictures of a request to work on at once; bounds memory."""
        pixels = 2**18 if self.device.type == "cpu" else 2**22
        return max(1, min(256, pixels // (request.width * request.height)))

    def run(self, request: Request) -> Generator[Step, None, Tensor]:
        """The one path to a picture: everything else calls this. Returns x0 [B, 3, H, W]."""
        denoise = self.denoise(request)
        x, sigmas = self.start(request)
        return (yield from steps_of(SAMPLERS[request.sampler], denoise, x, sigmas, self._randn(request, x)))

    def coroutine(self, request: Request) -> tuple[Coroutine, int]:
        """The same path for who answers the questions of several requests at once: a sampler that has not begun yet,
        and how many questions it will ask. `denoise` with a `given` turns the network's answers into its answers."""
        x, sigmas = self.start(request)
        sampler = SAMPLERS[request.sampler]
        return sampler(x, sigmas, self._randn(request, x)), num_evaluations(sampler, sigmas)

    def start(self, request: Request) -> tuple[Tensor, Tensor]:
        """Starting pictures [B, 3, H, W] and the noise levels to take them through, [steps + 1], ending in 0."""
        level = self.config.noise
        shape = (self.config.net.channels, request.height, request.width)
        # Drawn on the CPU for every device: not every device has 64-bit integers.
        noise = normal(torch.tensor(request.seeds), Purpose.START, torch.tensor(request.indices), shape).to(self.device)
        if request.init_image is None:
            return level.sigma_max * noise, log_snr_sigmas(request.steps, level.sigma_min, level.sigma_max)
        # Part of the way back into the noise, and from there in steps of the same length as from the very start.
        sigma = level.sigma_min * (level.sigma_max / level.sigma_min) ** request.strength
        sigmas = log_snr_sigmas(max(1, round(request.steps * request.strength)), level.sigma_min, sigma)
        x0 = self._encoded(request.init_image).expand_as(noise)
        return add_noise(x0, noise, torch.full((len(request),), sigma, device=self.device)), sigmas

    def denoise(self, request: Request, given: Given | None = None) -> Denoise:
        """The denoiser of a request, with guidance and mask applied; each text is read once, here.

        given: what to ask in place of this pipeline's network, all pictures at once.
        """
        if given is not None:
            return self._denoise(request, given)
        if not self.one_by_one or len(request) == 1:
            return self._denoise(request, self._given)
        # Pictures of one caption share a denoiser of a single picture.
        first = {part.captions[0]: part for part in request.parts(1)}
        singles = {caption: self._denoise(part, self._given) for caption, part in first.items()}
        rows = [singles[caption] for caption in request.captions]
        return lambda x, sigma: torch.cat([one(x[i : i + 1], sigma[i : i + 1]) for i, one in enumerate(rows)])

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> Conditioning:
        """Captions -> Conditioning [B, L, D]; a caption that occurs more than once is read once."""
        texts = [clean(caption) for caption in captions]
        unique = list(dict.fromkeys(texts))
        return self.denoiser.encode(unique)[torch.tensor([unique.index(text) for text in texts], device=self.device)]

    def num_cut(self, captions: Sequence[str]) -> int:
        """How many of the captions are longer than this model reads."""
        return self.denoiser.encoder.num_cut([clean(caption) for caption in captions])

    def pictures(self, x0: Tensor) -> list[Image.Image]:
        """Model space [B, 3, H, W] -> pictures. Raises TintypeError if the network gave values that are not numbers."""
        if not bool(torch.isfinite(x0).all()):
            raise TintypeError("the model gave values that are not numbers; use an earlier checkpoint")
        pixels = self.codec.decode(x0).permute(0, 2, 3, 1).cpu().contiguous().numpy()
        return [Image.fromarray(picture) for picture in pixels]

    def receipts(self, request: Request) -> list[Receipt]:
        """What to write into each picture of a request."""
        return [
            Receipt(
                caption=caption,
                negative=request.negative,
                seed=seed,
                index=index,
                steps=request.steps,
                guidance=request.guidance,
                sampler=request.sampler,
                width=request.width,
                height=request.height,
                model=self.name,
                model_hash=self.model_hash,
                version=__version__,
                strength=request.strength,
                init_image=digest(request.init_image),
                mask=digest(request.mask),
            )
            for caption, seed, index in zip(request.captions, request.seeds, request.indices, strict=True)
        ]

    def _randn(self, request: Request, x: Tensor) -> Randn:
        randn = step_noise(torch.tensor(request.seeds), torch.tensor(request.indices), tuple(x.shape[1:]))
        return lambda num_drawn: randn(num_drawn).to(self.device)

    def _denoise(self, request: Request, given: Given) -> Denoise:
        sample = self.config.sample
        denoise = given(self.encode(request.captions))
        if request.guidance != 1:
            reference = given(self.encode([request.negative]).expand(len(request)))
            denoise = guide(denoise, reference, request.guidance, (sample.guidance_min, sample.guidance_max))
        if request.init_image is None or request.mask is None:
            return denoise
        mask = _pixels(request.mask).to(self.device) / 255
        return _repaint(denoise, self._encoded(request.init_image), mask)

    def _given(self, cond: Conditioning) -> Denoise:
        with torch.no_grad():
            denoise = self.denoiser.given(cond)
        return torch.no_grad()(denoise)

    def _encoded(self, picture: Image.Image) -> Tensor:
        return self.codec.encode(_pixels(picture).to(self.device))


def finish(stream: Generator[Step, None, Tensor]) -> Tensor:
    """Run a stream to its end. Returns x0 [B, 3, H, W]."""
    while True:
        try:
            next(stream)
        except StopIteration as end:
            x0: Tensor = end.value
            return x0


def _repaint(denoise: Denoise, original: Tensor, mask: Tensor) -> Denoise:
    """Where mask [1, 1, H, W] is 0, answer `original`: there the noise comes off again, down to the last pixel."""
    return lambda x, sigma: torch.where(mask == 0, original, torch.lerp(original, denoise(x, sigma), mask))


def _pixels(picture: Image.Image) -> Tensor:
    """A picture as uint8 [1, C, H, W]."""
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.reshape(1, picture.height, picture.width, -1).permute(0, 3, 1, 2)


def _device(device: torch.device | str | None) -> torch.device:
    try:
        return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise ConfigError(f"device must be cpu, cuda, cuda:N or mps, not {device!r}") from None
