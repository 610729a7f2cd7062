"""What samplers are measured against: exact mixtures, and a model's own pictures after 500 evaluations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import torch
from peers import SIGMA_MAX, SIGMA_MIN, Peer
from torch import Tensor

from tintype.config import SampleConfig
from tintype.diffusion.noise import Purpose, normal
from tintype.diffusion.parameterization import Denoise
from tintype.diffusion.samplers import SAMPLERS, num_evaluations, sample
from tintype.diffusion.sigmas import SCHEDULES, log_snr_sigmas
from tintype.model.checkpoint import read_tensors, write_tensors
from tintype.pipeline.pipeline import Pipeline
from tintype.shapes.captions import captioned_scenes

DEFAULT_SAMPLING = SampleConfig()
EVALUATIONS = 500  # of what a model's pictures are compared with
AT_ONCE = 16  # pictures


def mixtures() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Weights [K], means [K, C, 1, 1] and variances [K] of four worlds, float64."""
    turn = torch.arange(8).double() * math.pi / 4
    ring = torch.stack([turn.cos(), turn.sin()], dim=1)
    spread = normal(11, Purpose.EVALUATE, torch.arange(16), (48,)).double() / 2
    plane = normal(12, Purpose.EVALUATE, torch.arange(3), (48,)).double() * 0.6
    curved = (normal(13, Purpose.EVALUATE, torch.arange(40), (3,)).double() @ plane).clamp(-1, 1)
    worlds = {
        "3 blobs in 2-d": (
            torch.tensor([0.5, 0.3, 0.2]).double(),
            torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.2]]).double(),
            torch.tensor([0.05, 0.1, 0.02]).double(),
        ),
        "ring of 8 in 2-d": (torch.full((8,), 1 / 8).double(), ring, torch.full((8,), 0.02).double()),
        "16 spread in 48-d": (torch.full((16,), 1 / 16).double(), spread, torch.linspace(0.01, 0.05, 16).double()),
        "40 near a plane in 48-d": (torch.full((40,), 1 / 40).double(), curved, torch.full((40,), 0.02).double()),
    }
    return {name: (w, m[:, :, None, None], v) for name, (w, m, v) in worlds.items()}


def follow(denoise: Denoise, noise: Tensor, sigma: float, num: int = 400, end: float = 1e-3) -> Tensor:
    """Where the flow leads from sigma * noise: fourth order on a fine grid, down to next to no noise."""
    return sample(denoise, sigma * noise, log_snr_sigmas(num, end, sigma), "reference")


def levels(chosen: SampleConfig, steps: int) -> Tensor:
    return SCHEDULES[chosen.schedule](steps, SIGMA_MIN, SIGMA_MAX, chosen.schedule_center, chosen.schedule_spread)


def tintype_peer(chosen: SampleConfig = DEFAULT_SAMPLING) -> Peer:
    """Our sampler and grid as a model's settings say."""

    def run(denoise: Denoise, noise: Tensor, num: int) -> tuple[Tensor, float]:
        sigmas, sampler = levels(chosen, num), chosen.sampler
        for steps in range(num - 1, 0, -1):
            if num_evaluations(SAMPLERS[sampler], sigmas) <= num:
                break
            sigmas = levels(chosen, steps)
        return sample(denoise, SIGMA_MAX * noise, sigmas, sampler), SIGMA_MAX

    return run


class Judge(NamedTuple):
    """Pictures of a model, or of a mixture, that a sampler is to come close to."""

    denoise: Denoise
    noise: Tensor
    truth: Tensor  # after 500 evaluations, or exactly

    def errors(self, chosen: SampleConfig, num: int) -> Tensor:
        """RMS distance of each picture after so many evaluations."""
        samples, _ = tintype_peer(chosen)(self.denoise, self.noise, num)
        return distances(samples, self.truth)


def distances(samples: Tensor, truth: Tensor) -> Tensor:
    """RMS distance of each picture, [B] float64."""
    return (samples.double() - truth.double()).flatten(1).square().mean(1).sqrt()


def of_model(
    pipeline: Pipeline, num: int, first: int, seed: int = 0, guidance: float | None = None, keep: Path | None = None
) -> Judge:
    """The guided denoiser of a model for `num` captions from number `first` on, and its pictures after 500 evaluations.

    keep: a folder for those pictures, which take longest: what is there of the same model and settings is used again.
    """
    texts = [caption for caption, _ in captioned_scenes(num, first)]
    request = pipeline.request(texts, seeds=seed, guidance=guidance)
    shape = (pipeline.config.net.channels, request.height, request.width)
    noise = normal(first + seed, Purpose.START, torch.arange(num), shape).to(pipeline.device)
    sigmas, truth = log_snr_sigmas(EVALUATIONS, SIGMA_MIN, SIGMA_MAX), list[Tensor]()
    low, high = request.guidance_interval
    name = f"{pipeline.model_hash[:12]}-{first}-{seed}-{request.guidance[0]:g}-{low:g}-{high:g}"
    for batch, part in enumerate(request.parts(AT_ONCE)):
        file = None if keep is None else keep / f"{name}-{batch * AT_ONCE}-{len(part)}.safetensors"
        if file is not None and file.is_file():
            truth.append(read_tensors(file)["x0"])
            continue
        rows = slice(batch * AT_ONCE, batch * AT_ONCE + len(part))
        truth.append(sample(pipeline.denoise(part), SIGMA_MAX * noise[rows], sigmas, "unipc"))
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(file, {"x0": truth[-1].cpu()})
    return Judge(pipeline.denoise(request), noise, torch.cat([part.to(noise.device) for part in truth]))
