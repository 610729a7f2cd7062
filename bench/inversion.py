"""Pictures led back to the noise that makes them, and developed again: how much the same they are.

python bench/inversion.py --model M [--num 8] [--guidance W]
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from PIL import Image

from tintype.diffusion.samplers import finish
from tintype.model.denoiser import Denoiser
from tintype.pipeline.pipeline import Pipeline
from tintype.shapes.captions import captioned_scenes


def psnr(a: Image.Image, b: Image.Image) -> float:
    first, second = (torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8).double() for p in (a, b))
    return 20 * math.log10(255) - 10 * math.log10(max(1e-4, (first - second).square().mean().item()))


def rounds(options: argparse.Namespace) -> None:
    """Lead 8-bit pictures back, develop them again, compare. The noise found should be like any static: rms 1."""
    pipeline = Pipeline.load(options.model, options.device)
    texts = [caption for caption, _ in captioned_scenes(options.num, 1_000_003)]
    pictures = pipeline.generate(texts)
    print(f"{'steps':>6}{'at least':>12}{'median':>12}{'noise rms':>12}{'evaluations back':>20}")
    for steps in (12, 16, 24, 40):
        psnrs, noise_rms, evaluations = [], [], []
        for seed, (text, picture) in enumerate(zip(texts, pictures, strict=True)):
            request = pipeline.request(
                text, seeds=seed, init_image=picture, source_caption=text, guidance=options.guidance, steps=steps
            )
            with counting(pipeline.denoiser) as num_calls:
                stream = pipeline.run(request)
                # The last of the way back, before the first of the way there.
                first = next(step for step in stream if math.isclose(step.sigma, pipeline.config.noise.sigma_max))
                evaluations.append(num_calls[0])
                (back,) = pipeline.pictures(finish(stream))
            noise_rms.append((first.x / first.sigma).square().mean().sqrt().item())
            psnrs.append(psnr(picture, back))
        print(
            f"{steps:>6}{min(psnrs):>9.1f} dB{statistics.median(psnrs):>9.1f} dB"
            f"{statistics.fmean(noise_rms):>12.3f}{statistics.fmean(evaluations):>20.1f}"
        )


@contextmanager
def counting(denoiser: Denoiser) -> Iterator[list[int]]:
    """Count the calls of a network."""
    num_calls = [0]

    def increment(*_: object) -> None:
        num_calls[0] += 1

    hook = denoiser.net.register_forward_hook(increment)
    try:
        yield num_calls
    finally:
        hook.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description="How exactly pictures are led back to noise.")
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--num", type=int, default=8, help="pictures")
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--device")
    rounds(parser.parse_args())


if __name__ == "__main__":
    main()
