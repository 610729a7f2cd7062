"""Which rule of guidance brings an imperfect denoiser closest to what is true of a caption, on exact mixtures.

    python bench/guidance.py [--num 256]

The "network" is the exact denoiser of a mixture whose blobs are three times too wide and, the second time, out of place
too. Printed is the energy distance between its pictures of one caption and true ones, at the best guidance scale and at
3 (lower is better; without bias, so that it may fall below 0 by chance). "weaker model" is autoguidance with a denoiser
whose blobs are three times wider again.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tintype.diffusion.exact import mixture_denoiser
from tintype.diffusion.noise import Purpose, normal
from tintype.diffusion.parameterization import Denoise
from tintype.diffusion.samplers import sample
from tintype.diffusion.sigmas import logistic_sigmas, per_sample

SCALES = (1.25, 1.5, 2.0, 3.0)
BLUR = 3.0
Rule = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]  # (x, sigma, with caption, without, scale) -> denoised


class World(NamedTuple):
    name: str
    means: Tensor  # [K, C, 1, 1]
    variance: float
    captions: Tensor  # [K], of each blob


def worlds() -> tuple[World, World]:
    turn = torch.arange(24) * math.pi / 12
    ring = torch.stack([turn.cos(), turn.sin()], dim=1) * (1 + 0.3 * (torch.arange(24) % 2))[:, None]
    plane = normal(12, Purpose.EVALUATE, torch.arange(3), (48,)) * 0.6
    flat = (normal(13, Purpose.EVALUATE, torch.arange(40), (3,)) @ plane).clamp(-1, 1)
    return (
        World("24 blobs, 4 captions, 2-d", ring[:, :, None, None], 0.004, torch.arange(24) // 6),
        World("40 blobs, 5 captions, 48-d", flat[:, :, None, None], 0.02, torch.arange(40) % 5),
    )


def spread(x: Tensor) -> Tensor:
    return per_sample(x.flatten(1).std(1), x)


def product(a: Tensor, b: Tensor) -> Tensor:
    return per_sample((a * b).flatten(1).sum(1), a)


def cfg(x: Tensor, sigma: Tensor, cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (2207.12598)."""
    return uncond + scale * (cond - uncond)


def rescaled(x: Tensor, sigma: Tensor, cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """Seven tenths of the way back to the contrast without guidance (2305.08891)."""
    guided = cfg(x, sigma, cond, uncond, scale)
    return 0.7 * guided * spread(cond) / spread(guided) + 0.3 * guided


def cfg_zero(x: Tensor, sigma: Tensor, cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """The reference's noise at the length that fits best (CFG-Zero*, 2503.18886)."""
    cond_noise, uncond_noise = x - cond, x - uncond
    fit = product(cond_noise, uncond_noise) / product(uncond_noise, uncond_noise).clamp_min(1e-12) * uncond_noise
    return x - (fit + scale * (cond_noise - fit))


def projected(x: Tensor, sigma: Tensor, cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """Without the part of the change that lies along the picture (APG, 2410.02416, without momentum)."""
    change = cond - uncond
    along = product(change, cond) / product(cond, cond).clamp_min(1e-12) * cond
    return cond + (scale - 1) * (change - along)


def energy(a: Tensor, b: Tensor) -> float:
    """Energy distance between two sets of pictures, without bias."""
    a, b = a.flatten(1).double(), b.flatten(1).double()
    within = sum(torch.cdist(s, s).sum() / (len(s) * (len(s) - 1)) for s in (a, b))
    return float(2 * torch.cdist(a, b).mean() - within)


def compare(world: World, out_of_place: float, num: int) -> None:
    shape = tuple(world.means.shape[1:])
    means = world.means + out_of_place * normal(3, Purpose.EVALUATE, torch.arange(len(world.means)), shape)
    has_caption = world.captions == 1

    def network(blobs: Tensor, blur: float) -> Denoise:
        count = int(blobs.sum())
        variances = torch.full((count,), world.variance * blur)
        return mixture_denoiser(torch.full((count,), 1 / count), means[blobs], variances)

    pick = torch.where(has_caption)[0][torch.arange(4 * num) % int(has_caption.sum())]
    true = world.means[pick] + math.sqrt(world.variance) * normal(9, Purpose.EVALUATE, torch.arange(4 * num), shape)
    start = 80 * normal(0, Purpose.START, torch.arange(num), shape)
    conditional, unconditional, weaker = (
        network(has_caption, BLUR),
        network(has_caption | True, BLUR),
        network(has_caption, BLUR**2),
    )

    def distance(rule: Rule, reference: Denoise, scale: float, interval: tuple[float, float]) -> float:
        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            if scale == 1 or not interval[0] <= float(sigma[0]) <= interval[1]:
                return conditional(x, sigma)
            return rule(x, sigma, conditional(x, sigma), reference(x, sigma), scale)

        return energy(sample(denoise, start, logistic_sigmas(16, 0.02, 80.0), "unipc"), true)

    unguided = distance(cfg, unconditional, 1, (0, 0))
    print(f"\n{world.name}, blobs {out_of_place:g} out of place; no guidance {unguided:.4f}")
    rows: list[tuple[str, Rule, Denoise]] = [
        ("no caption", cfg, unconditional),
        ("no caption, rescaled", rescaled, unconditional),
        ("no caption, CFG-Zero*", cfg_zero, unconditional),
        ("no caption, APG", projected, unconditional),
        ("weaker model", cfg, weaker),
    ]
    for name, rule, reference in rows:
        for interval in ((0.0, math.inf), (0.4, 10.0)):
            distances = [(distance(rule, reference, scale, interval), scale) for scale in SCALES]
            best, scale = min(distances)
            label = f"{name}, sigma {interval[0]:g} to {interval[1]:g}"
            print(f"{label:44} best {best:8.4f} at {scale:g}, at 3 {distances[-1][0]:8.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Rules of guidance on exact mixtures.")
    parser.add_argument("--num", type=int, default=256)
    num = parser.parse_args().num
    for world in worlds():
        for out_of_place in (0.0, 0.15):
            compare(world, out_of_place, num)


if __name__ == "__main__":
    main()
