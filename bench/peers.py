"""Samplers of diffusers and k-diffusion, run through their public interfaces on a denoiser of ours.

    pip install -c constraints.txt -e ".[bench]" && pip install -c constraints.txt --no-deps k-diffusion

Each peer is a function (denoise, noise, num_evaluations) -> (pictures, first noise level): it starts from
sigma_0 * noise, where sigma_0 is the first level of its own grid, and uses at most that many evaluations. All are told
SIGMA_MIN and SIGMA_MAX; diffusers' flow grids go by their own ends.
"""

from __future__ import annotations

import importlib
import math
import sys
import types
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tintype.diffusion.parameterization import Denoise, network_target

SIGMA_MIN, SIGMA_MAX = 0.02, 80.0
Peer = Callable[[Denoise, Tensor, int], tuple[Tensor, float]]


def log_uniform_betas() -> list[float]:
    """Betas of 1000 timesteps whose noise levels are even in ln sigma from SIGMA_MIN to SIGMA_MAX."""
    sigmas = torch.linspace(math.log(SIGMA_MIN), math.log(SIGMA_MAX), 1000, dtype=torch.float64).exp()
    bars = torch.cat([torch.ones(1).double(), 1 / (1 + sigmas.square())])
    return (1 - bars[1:] / bars[:-1]).tolist()


def at_level(denoise: Denoise, x: Tensor, sigma: float) -> Tensor:
    return denoise(x, x.new_full((len(x),), sigma))


def preserving(scheduler: Any, denoise: Denoise, noise: Tensor, num: int) -> tuple[Tensor, float]:
    """A scheduler whose state is (x0 + sigma * noise) / sqrt(1 + sigma^2), asked for noise."""
    scheduler.set_timesteps(num)
    first = float(scheduler.sigmas[0])
    sample = first * noise / math.sqrt(1 + first**2)
    for index, timestep in enumerate(scheduler.timesteps):
        sigma = float(scheduler.sigmas[index])
        x = sample * math.sqrt(1 + sigma**2)
        eps = (x - at_level(denoise, x, sigma)) / sigma
        sample = scheduler.step(eps, timestep, sample, return_dict=False)[0]
    return sample, first


def flowing(scheduler: Any, denoise: Denoise, noise: Tensor, num: int) -> tuple[Tensor, float]:
    """A scheduler whose state is (1 - t) x0 + t noise, asked for velocity."""
    scheduler.set_timesteps(num)
    first = float(scheduler.sigmas[0])
    first = min(first, 1 - 1e-3)  # at t = 1 nothing of x0 is left, and sigma has no end
    sample = first * noise
    for index, timestep in enumerate(scheduler.timesteps):
        t = min(float(scheduler.sigmas[index]), 1 - 1e-3)
        x0 = at_level(denoise, sample / (1 - t), t / (1 - t))
        sample = scheduler.step((sample - x0) / t, timestep, sample, return_dict=False)[0]
    return sample, first / (1 - first)


def exploding(scheduler: Any, denoise: Denoise, noise: Tensor, num: int) -> tuple[Tensor, float]:
    """A scheduler whose state is x0 + sigma * noise, asked for noise; Heun's ask twice per step."""
    twice = "Heun" in type(scheduler).__name__
    scheduler.set_timesteps((num + 1) // 2 if twice else num)
    first = float(scheduler.sigmas[0])
    sample = first * noise
    for index, timestep in enumerate(scheduler.timesteps):
        scheduler.scale_model_input(sample, timestep)
        sigma = float(scheduler.sigmas[index])
        eps = (sample - at_level(denoise, sample, sigma)) / sigma
        sample = scheduler.step(eps, timestep, sample, return_dict=False)[0]
    return sample, first


def edm(scheduler: Any, denoise: Denoise, noise: Tensor, num: int) -> tuple[Tensor, float]:
    """A scheduler for EDM's networks: it applies their scalars itself, so they are undone first."""
    scheduler.set_timesteps(num)
    first, data = float(scheduler.sigmas[0]), scheduler.config.sigma_data
    sample = first * noise
    for index, timestep in enumerate(scheduler.timesteps):
        scheduler.scale_model_input(sample, timestep)
        sigma = sample.new_full((len(sample),), float(scheduler.sigmas[index]))
        output = network_target("edm", denoise(sample, sigma), sample, sigma, data)
        sample = scheduler.step(output, timestep, sample, return_dict=False)[0]
    return sample, first


def diffusers_peers() -> dict[str, Peer]:
    """Every deterministic sampler of diffusers with one noise level per evaluation, on each of its grids."""
    import diffusers

    diffusers.logging.set_verbosity_error()  # it tells of every setting that it changes
    betas = log_uniform_betas()
    schedules: dict[str, dict[str, Any]] = {
        "exponential": {"use_exponential_sigmas": True},
        "karras": {"use_karras_sigmas": True},
        "beta": {"use_beta_sigmas": True},
    }
    flow_schedules = {f"flow {shift:g}": {"use_flow_sigmas": True, "flow_shift": shift} for shift in (1.0, 3.0)}
    solvers: dict[str, tuple[str, dict[str, Any]]] = {}
    for order in (2, 3):
        solvers[f"DPMSolver++ {order}M"] = ("DPMSolverMultistepScheduler", {"solver_order": order})
        solvers[f"DPMSolver++ {order}S"] = ("DPMSolverSinglestepScheduler", {"solver_order": order})
        solvers[f"UniPC {order}"] = ("UniPCMultistepScheduler", {"solver_order": order})
        solvers[f"UniPC {order} bh1"] = ("UniPCMultistepScheduler", {"solver_order": order, "solver_type": "bh1"})
        solvers[f"DEIS {order}"] = ("DEISMultistepScheduler", {"solver_order": order})
    peers: dict[str, Peer] = {}
    for name, (cls, settings) in solvers.items():
        for schedule, extra in {**schedules, **flow_schedules}.items():
            merged = {**settings, **extra}
            if schedule in flow_schedules:
                make = partial(getattr(diffusers, cls), prediction_type="flow_prediction", **merged)
                peers[f"diffusers {name}, {schedule}"] = _fresh(flowing, make)
            else:
                peers[f"diffusers {name}, {schedule}"] = _fresh(
                    preserving, partial(getattr(diffusers, cls), trained_betas=betas, **merged)
                )
    for cls in ("EulerDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler"):
        for schedule, extra in schedules.items():
            make = partial(getattr(diffusers, cls), trained_betas=betas, **extra)
            peers[f"diffusers {cls[:-17]}, {schedule}"] = _fresh(exploding, make)
    for order in (2, 3):
        for schedule in ("karras", "exponential"):
            make = partial(
                diffusers.EDMDPMSolverMultistepScheduler,
                sigma_min=SIGMA_MIN,
                sigma_max=SIGMA_MAX,
                sigma_schedule=schedule,
                solver_order=order,
            )
            peers[f"diffusers EDM DPMSolver++ {order}M, {schedule}"] = _fresh(edm, make)
    return peers


def _fresh(run: Callable[..., tuple[Tensor, float]], make: Callable[[], Any]) -> Peer:
    """A peer with a new scheduler every time: they keep state."""

    def peer(denoise: Denoise, noise: Tensor, num: int) -> tuple[Tensor, float]:
        return run(make(), denoise, noise, num)

    return peer


def k_diffusion_sampling() -> Any:
    """The module k_diffusion.sampling. The package's own start imports what training needs; that is left out here."""
    for folder in map(Path, sys.path):
        if (folder / "k_diffusion" / "sampling.py").is_file() and "k_diffusion" not in sys.modules:
            package = types.ModuleType("k_diffusion")
            package.__path__ = [str(folder / "k_diffusion")]
            sys.modules["k_diffusion"] = package
    try:
        importlib.import_module("torchvision")
    except ImportError:  # k_diffusion.utils converts pictures with it, which sampling does not
        functional = types.ModuleType("torchvision.transforms.functional")
        transforms = types.ModuleType("torchvision.transforms")
        transforms.functional = functional  # type: ignore[attr-defined]
        names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
        sys.modules.update(zip(names, (types.ModuleType("torchvision"), transforms, functional), strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("k_diffusion.sampling")


def k_diffusion_peers() -> dict[str, Peer]:
    """Every deterministic sampler of k-diffusion with a fixed number of evaluations, on its two usual grids."""
    k = k_diffusion_sampling()
    quiet: dict[str, Any] = {"disable": True}
    deterministic = {**quiet, "eta": 0.0, "noise_sampler": lambda *_: 0.0}
    samplers: dict[str, tuple[Callable[..., Tensor], dict[str, Any], int]] = {
        "euler": (k.sample_euler, quiet, 1),
        "heun": (k.sample_heun, quiet, 2),
        "dpm_2": (k.sample_dpm_2, quiet, 2),
        "lms": (k.sample_lms, quiet, 1),
        "dpmpp_2s": (k.sample_dpmpp_2s_ancestral, deterministic, 2),
        "dpmpp_2m": (k.sample_dpmpp_2m, quiet, 1),
        "dpmpp_sde, eta 0": (k.sample_dpmpp_sde, deterministic, 2),
        "dpmpp_2m_sde, eta 0": (k.sample_dpmpp_2m_sde, deterministic, 1),
        "dpmpp_2m_sde heun, eta 0": (k.sample_dpmpp_2m_sde, {**deterministic, "solver_type": "heun"}, 1),
        "dpmpp_3m_sde, eta 0": (k.sample_dpmpp_3m_sde, deterministic, 1),
    }
    schedules = {"karras": k.get_sigmas_karras, "exponential": k.get_sigmas_exponential}

    def run(name: str, schedule: str, denoise: Denoise, noise: Tensor, num: int) -> tuple[Tensor, float]:
        sampler, settings, evaluations = samplers[name]
        sigmas = schedules[schedule]((num + evaluations - 1) // evaluations, SIGMA_MIN, SIGMA_MAX)
        return sampler(denoise, SIGMA_MAX * noise, sigmas, **settings), SIGMA_MAX

    def fast(denoise: Denoise, noise: Tensor, num: int) -> tuple[Tensor, float]:
        return k.sample_dpm_fast(denoise, SIGMA_MAX * noise, SIGMA_MIN, SIGMA_MAX, num, disable=True), SIGMA_MAX

    peers = {
        f"k-diffusion {name}, {schedule}": partial(run, name, schedule) for name in samplers for schedule in schedules
    }
    return {**peers, "k-diffusion dpm_fast": fast}
