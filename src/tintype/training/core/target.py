"""Training targets and their noise levels: the clean picture, or the end of a teacher's flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from tintype.config import Config, NoiseConfig
from tintype.diffusion.distill import ends_of, flow_target
from tintype.diffusion.guidance import guide
from tintype.diffusion.noise import Purpose, sigma_of, uniform
from tintype.diffusion.parameterization import Denoise
from tintype.diffusion.sigmas import SCHEDULES
from tintype.model.denoiser import Denoiser

LEVELS = (0.1, 0.3, 1.0, 3.0, 10.0)  # noise levels of validation
SHARE_OF_LEVELS = 0.75  # of a student's samples have the noise levels of its own steps


class Target(Protocol):
    """What the denoiser learns to predict. Stateless: training and exact resume do not depend on the target."""

    @property
    def levels(self) -> Sequence[float]:
        """Noise levels of validation."""
        ...

    def sigmas(self, positions: Tensor) -> Tensor:
        """Noise levels [B] float32 at `positions` [B] of the run."""
        ...

    def __call__(self, x0: Tensor, x: Tensor, sigma: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
        """The training target [B, C, H, W] for x, x0 with noise of levels sigma [B]; embeddings: of the captions."""
        ...


class CleanPicture:
    """The picture without noise: ordinary training.

    Args:
        sigmas: positions [B] -> noise levels [B]; None: those of the configuration.
    """

    levels = LEVELS

    def __init__(self, config: Config, sigmas: Callable[[Tensor], Tensor] | None = None) -> None:
        self._sigmas = sigmas
        self._seed = config.train.seed
        self._noise = config.noise

    def sigmas(self, positions: Tensor) -> Tensor:
        if self._sigmas is not None:
            return self._sigmas(positions)
        return _training_sigmas(self._seed, positions, self._noise)

    def __call__(self, x0: Tensor, x: Tensor, sigma: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
        return x0


class TeacherFlow:
    """The end of the teacher's guided flow over one step of the student (see diffusion.distill).

    Args:
        teacher: is moved to `device` and frozen; it has the student's text encoder.
        config: of the student. The teacher takes `distill.teacher_steps` for each of its steps.
    """

    def __init__(self, teacher: Denoiser, config: Config, device: torch.device) -> None:
        self._teacher = teacher.to(device).eval().requires_grad_(False)
        self._seed = config.train.seed
        self._noise = config.noise
        self._distill = config.distill
        self._sample = teacher.config.sample  # its schedule for the steps
        self._levels = student_levels(config)

    @property
    def levels(self) -> Sequence[float]:
        return [float(level) for level in self._levels[:-1]]

    def sigmas(self, positions: Tensor) -> Tensor:
        drawn = uniform(self._seed, Purpose.SEGMENT, positions, 1)[:, 0] / SHARE_OF_LEVELS
        index = (drawn * (len(self._levels) - 1)).long().clamp(max=len(self._levels) - 2)
        levels = self._levels.to(positions.device)[index]
        return torch.where(drawn < 1, levels, _training_sigmas(self._seed, positions, self._noise))

    @torch.no_grad()
    def __call__(self, x0: Tensor, x: Tensor, sigma: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
        end = ends_of(sigma, self._levels)
        return flow_target(
            self._guided(embeddings),
            x,
            sigma,
            end,
            self._distill.teacher_steps,
            sigma_min=self._noise.sigma_min,
            center=self._sample.schedule_center,
            spread=self._sample.schedule_spread,
        )

    def _guided(self, embeddings: Sequence[Tensor]) -> Denoise:
        """The teacher with guidance, as in sampling. It runs without captions only where guidance acts."""
        teacher, distill = self._teacher, self._distill
        interval = distill.guidance_min, distill.guidance_max
        conditional = teacher.conditioned(teacher.condition(embeddings))
        empty = teacher.condition([embeddings[0][:0]])
        has_caption = torch.tensor([len(embedding) > 0 for embedding in embeddings])

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            denoised = conditional(x, sigma)
            inside = (interval[0] <= sigma) & (sigma <= interval[1])
            rows = (inside & has_caption.to(x.device)).nonzero()[:, 0]
            if distill.guidance == 1 or not len(rows):
                return denoised
            unconditional = teacher.conditioned(empty.expand(len(rows)))
            guided = guide(lambda _x, _sigma: denoised[rows], unconditional, distill.guidance, interval)
            return denoised.index_copy(0, rows, guided(x[rows], sigma[rows]))

        return denoise


def student_levels(config: Config) -> Tensor:
    """The noise levels of a distilled model's own steps, [steps + 1] float32, ending in 0."""
    noise, sample = config.noise, config.sample
    schedule = SCHEDULES[sample.schedule]
    levels = schedule(
        config.distill.steps, noise.sigma_min, noise.sigma_max, sample.schedule_center, sample.schedule_spread
    )
    return levels.float()


def _training_sigmas(seed: int, positions: Tensor, noise: NoiseConfig) -> Tensor:
    return sigma_of(seed, positions, noise.log_sigma_mean, noise.log_sigma_std, noise.sigma_min, noise.sigma_max)
