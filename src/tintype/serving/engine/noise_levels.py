"""How it works: one picture at many noise levels, and what the model makes of each."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from tintype.diffusion.loss import noise_error
from tintype.diffusion.noise import Purpose, add_noise, normal
from tintype.diffusion.samplers import Coroutine, Query
from tintype.diffusion.sigmas import log_snr_sigmas
from tintype.model.codec import pixels_of
from tintype.pipeline.init_image import resize_and_crop
from tintype.pipeline.pipeline import Given, Pipeline
from tintype.pipeline.sampling_task import SamplingTask
from tintype.serving.engine.job import Begun
from tintype.serving.settings import cost_of
from tintype.view.contact_sheet import frame


@dataclass(frozen=True, slots=True)
class Looking:
    """Show a picture to the model once at each of `levels` noise levels. Returns [2 * levels, 3, H, W]: the noisy
    pictures, then what the model takes them for."""

    pipeline: Pipeline
    picture: Image.Image
    caption: str
    seed: int
    levels: int

    @property
    def size(self) -> tuple[int, int]:
        side = self.pipeline.config.net.resolution
        return side, side

    @property
    def num(self) -> int:
        return self.levels

    @property
    def cost(self) -> float:
        return cost_of(self.levels, self.size[0] ** 2, 1, False)

    def sigmas(self) -> Tensor:
        """From almost clear to static, [levels] float32."""
        noise = self.pipeline.config.noise
        return log_snr_sigmas(self.levels, noise.sigma_min, noise.sigma_max)[:-1].flip(0).float()

    def clear(self) -> Tensor:
        """The picture as the model would see it, x0 [1, 3, H, W] on the CPU."""
        return self.pipeline.codec.encode(pixels_of(resize_and_crop(self.picture, "RGB", *self.size)))

    def noise(self) -> Tensor:
        """The static that is added, the same at every level, [1, 3, H, W] on the CPU."""
        return normal(self.seed, Purpose.START, 0, tuple(self.clear().shape[1:]))

    def begin(self, given: Given) -> Begun:
        device = self.pipeline.device
        sigma = self.sigmas().to(device)
        clear, noise = self.clear().to(device), self.noise().to(device)
        shape = (self.levels, -1, -1, -1)
        x = add_noise(clear.expand(shape), noise.expand(shape), sigma)
        denoise = given(self.pipeline.encode([self.caption]).expand(self.levels))
        return Begun(SamplingTask(_look(x, sigma), denoise, 1), self.pipeline.num_cut([self.caption]))


def _look(x: Tensor, sigma: Tensor) -> Coroutine:
    denoised = yield Query(x, sigma)
    return torch.cat([x, denoised])


def levels(looking: Looking, result: Tensor) -> list[dict[str, Any]]:
    """What was seen, from clear to static: noise level, error of the predicted noise, and a strip of pictures.

    The strip is a data: URL of a PNG: noisy, the model's guess, the noise it identified, the noise there was.
    """
    clear, true = looking.clear(), looking.noise()
    seen = []
    for sigma, x, denoised in zip(looking.sigmas(), result[: looking.levels], result[looking.levels :], strict=True):
        level = float(sigma)
        shown = frame(0, 1, level, x[None], denoised[None])
        truth = frame(0, 1, level, level * true, torch.zeros_like(true)).noise
        pixels = torch.cat([shown.noisy, shown.guess, shown.noise, truth], dim=3)[0].permute(1, 2, 0)
        buffer = io.BytesIO()
        Image.fromarray(pixels.contiguous().numpy()).save(buffer, "PNG", compress_level=3)
        error = float(noise_error(denoised[None], clear, sigma[None]))
        strip = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        seen.append({"sigma": level, "noise_error": error, "strip": strip})
    return seen
