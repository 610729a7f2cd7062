"""What the denoiser is taught to say, and at which noise levels: the clean picture, or where a teacher's flow leads."""

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

LEVELS = (0.1, 0.3, 1.0, 3.0, 10.0)  # noise levels at which the held-out error is measured
SHARE_OF_LEVELS = 0.75  # of what a student is shown: at the levels of its own steps, where it will be asked


class Target(Protocol):
    """What training aims at. Pure functions: nothing in a target changes while the denoiser learns."""

    @property
    def levels(self) -> Sequence[float]:
        """Noise levels at which the error on held-out pictures is measured."""
        ...

    def sigmas(self, positions: Tensor) -> Tensor:
        """Noise levels [B] float32 of the samples at `positions` [B] of the run."""
        ...

    def __call__(self, x0: Tensor, x: Tensor, sigma: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
        """The training target [B, C, H, W] for x, x0 with noise of levels sigma [B]; embeddings: of the captions."""
        ...


class CleanPicture:
    """The picture under the noise: ordinary training.

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
    """Where the guided flow of a teacher leads in one of the student's steps (see diffusion.distill).

    Args:
        teacher: is moved to `device` and frozen; reads the same text embeddings as the student.
        config: of the student. A way from one of its levels to the next takes the teacher `distill.teacher_steps`.
    """

    def __init__(self, teacher: Denoiser, config: Config, device: torch.device) -> None:
        self._teacher = teacher.to(device).eval().requires_grad_(False)
        self._seed = config.train.seed
        self._noise = config.noise
        self._distill = config.distill
        self._own = teacher.config.sample  # around which levels the teacher's steps are
        self._grid = student_levels(config)

    @property
    def levels(self) -> Sequence[float]:
        return [float(level) for level in self._grid[:-1]]

    def sigmas(self, positions: Tensor) -> Tensor:
        drawn = uniform(self._seed, Purpose.SEGMENT, positions, 1)[:, 0] / SHARE_OF_LEVELS
        place = (drawn * (len(self._grid) - 1)).long().clamp(max=len(self._grid) - 2)
        own = self._grid.to(positions.device)[place]
        return torch.where(drawn < 1, own, _training_sigmas(self._seed, positions, self._noise))

    @torch.no_grad()
    def __call__(self, x0: Tensor, x: Tensor, sigma: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
        end, own = ends_of(sigma, self._grid), self._own
        return flow_target(
            self._guided(embeddings),
            x,
            sigma,
            end,
            self._distill.teacher_steps,
            sigma_min=self._noise.sigma_min,
            center=own.schedule_center,
            spread=own.schedule_spread,
        )

    def _guided(self, embeddings: Sequence[Tensor]) -> Denoise:
        """The teacher with guidance, as in sampling. The network without a caption is asked only where that acts."""
        teacher, distill = self._teacher, self._distill
        interval = distill.guidance_min, distill.guidance_max
        told = teacher.conditioned(teacher.condition(embeddings))
        nothing = teacher.condition([embeddings[0][:0]])
        has_caption = torch.tensor([len(embedding) > 0 for embedding in embeddings])

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            denoised = told(x, sigma)
            inside = (interval[0] <= sigma) & (sigma <= interval[1])
            rows = (inside & has_caption.to(x.device)).nonzero()[:, 0]
            if distill.guidance == 1 or not len(rows):
                return denoised
            untold = teacher.conditioned(nothing.expand(len(rows)))
            guided = guide(lambda _x, _sigma: denoised[rows], untold, distill.guidance, interval)
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
