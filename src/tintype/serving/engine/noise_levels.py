"""Noise sweep of POST /api/look: one picture at many noise levels, and the model's prediction at each."""

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
from tintype.pipeline.pipeline import ConditionalDenoiser, Pipeline
from tintype.pipeline.sampling_task import SamplingTask
from tintype.pipeline.sizes import model_size
from tintype.serving.settings import cost_of
from tintype.view.contact_sheet import frame


@dataclass(frozen=True, slots=True)
class NoiseSweepTask:
    """Denoise a picture once at each of K noise levels.

    Returns [2 K, C, h, w]: the K noisy pictures, then the K denoised ones.
    """

    pipeline: Pipeline
    x0: Tensor  # the picture in model space, [1, C, h, w] on the CPU, as from `encode_picture`
    caption: str
    seed: int
    num_levels: int  # K

    @property
    def size(self) -> tuple[int, int]:
        height, width = (side * self.pipeline.codec.factor for side in self.x0.shape[2:])
        return width, height

    @property
    def num(self) -> int:
        return self.num_levels

    @property
    def cost(self) -> float:
        return cost_of(self.num_levels, self.size[0] * self.size[1], 1, False)

    @property
    def num_bytes(self) -> int:
        return self.x0.nbytes

    @property
    def texts(self) -> list[str]:
        return [self.caption]

    def sigmas(self) -> Tensor:
        """The noise levels from low to high, [K] float32."""
        noise = self.pipeline.config.noise
        return log_snr_sigmas(self.num_levels, noise.sigma_min, noise.sigma_max)[:-1].flip(0).float()

    def noise(self) -> Tensor:
        """The noise, the same at every level, [1, C, h, w] on the CPU."""
        return normal(self.seed, Purpose.START, 0, tuple(self.x0.shape[1:]))

    def start(self, network: ConditionalDenoiser) -> SamplingTask:
        device = self.pipeline.device
        sigma = self.sigmas().to(device)
        x0, noise = self.x0.to(device), self.noise().to(device)
        shape = (self.num_levels, -1, -1, -1)
        x = add_noise(x0.expand(shape), noise.expand(shape), sigma)
        denoise = network(self.pipeline.encode([self.caption]).expand(self.num_levels))
        return SamplingTask(_sweep(x, sigma), denoise, 1)


def encode_picture(pipeline: Pipeline, picture: Image.Image) -> Tensor:
    """An upright picture in model space, at the model's size for its shape, [1, C, h, w] on the CPU.

    A large picture takes seconds.
    """
    size = model_size(pipeline.config, picture.size)
    return pipeline.codec.encode(pixels_of(resize_and_crop(picture, "RGB", *size))).cpu()


def _sweep(x: Tensor, sigma: Tensor) -> Coroutine:
    denoised = yield Query(x, sigma)
    return torch.cat([x, denoised])


def describe_levels(task: NoiseSweepTask, result: Tensor) -> list[dict[str, Any]]:
    """The noise levels from low to high: sigma, error of the predicted noise, and a strip of pictures.

    The strip is a PNG as a data: URL: noisy picture, denoised picture, predicted noise, true noise.
    """
    x0, noise = task.x0, task.noise()
    noisy, denoised = result[: task.num_levels], result[task.num_levels :]
    decode = task.pipeline.codec.decode
    levels = []
    for sigma, x, prediction in zip(task.sigmas(), noisy, denoised, strict=True):
        level = float(sigma)
        predicted = frame(decode, 0, 1, level, x[None], prediction[None])
        true = frame(decode, 0, 1, level, level * noise, torch.zeros_like(noise)).noise
        pixels = torch.cat([predicted.noisy, predicted.guess, predicted.noise, true], dim=3)[0].permute(1, 2, 0)
        buffer = io.BytesIO()
        Image.fromarray(pixels.contiguous().numpy()).save(buffer, "PNG", compress_level=3)
        error = float(noise_error(prediction[None], x0, sigma[None]))
        strip = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        levels.append({"sigma": level, "noise_error": error, "strip": strip})
    return levels
