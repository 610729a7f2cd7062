"""A sampler and a schedule of one's own, measured against the built-in ones.

python examples/own_sampler.py [CAPTIONS]          default: 8, half a minute on two cores; 1 for a first look

A sampler is a generator: it yields a question, is sent the answer, and returns the finished pictures. Nothing else in
it knows of models, captions or guidance, so any solver of dx / d sigma = (x - denoised) / sigma is ten lines.
"""

import math
import sys
from itertools import pairwise

import numpy as np
import torch

import tintype
from tintype.shapes.write import example

CAPTIONS = int(sys.argv[1]) if len(sys.argv) > 1 else 8


def adams_bashforth(x, sigmas, randn=None):
    """Two-step Adams-Bashforth for steps of any size: the slope is extrapolated through the step before."""
    before = None
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        denoised = yield tintype.Query(x, x.new_full((len(x),), sigma))
        slope, step = (x - denoised) / sigma, sigma_next - sigma
        ratio = 0.0 if before is None else step / (2 * before[1])
        last = slope if before is None else before[0]
        x = x + step * ((1 + ratio) * slope - ratio * last)
        before = slope, step
    return x


def cosine(steps, sigma_min, sigma_max, center, spread):
    """sigma = tan(pi t / 2), t evenly spaced (Nichol and Dhariwal 2021, arXiv 2102.09672, eq. 17)."""
    first, last = (2 / math.pi * math.atan(sigma) for sigma in (sigma_max, sigma_min))
    t = torch.linspace(first, last, steps, dtype=torch.float64)
    return torch.cat([torch.tan(math.pi / 2 * t), torch.zeros(1)])


pipeline = tintype.Pipeline.load("shapes")
captions = [example(seed=1, index=index).caption for index in range(CAPTIONS)]


def draw(**options):
    return np.stack(pipeline.generate(captions, guidance=1.0, **options)).astype(float)


exact = draw(sampler="reference", steps=48, schedule="log_snr")
print(f"root mean square distance to the exact solution, in levels of 255, {CAPTIONS} captions, 12 evaluations each")
for name, options in {
    "euler": {"sampler": "euler"},
    "adams_bashforth": {"sampler": adams_bashforth},
    "adams_bashforth, cosine": {"sampler": adams_bashforth, "schedule": cosine},
    "unipc": {"sampler": "unipc"},
}.items():
    print(f"{name:>24}  {np.sqrt(np.square(draw(steps=12, **options) - exact).mean()):.2f}")
