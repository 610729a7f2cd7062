"""How near the pictures of an exported folder in diffusers are to Tintype's, scheduler by scheduler.

    pip install -c constraints.txt -e ".[bench]"
    python bench/diffusers_folder.py shapes --num 12

Both start from the noise of the same seeds. `own` is Tintype's sampler of the same kind at the noise levels that the
scheduler used; a dash stands where Tintype has none. `reference` is Tintype's most exact sampler in 50 steps, from the
same noise: how near a scheduler comes to it in the model's own number of steps.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
from diffusers import DiffusionPipeline
from numpy.typing import NDArray

import tintype
from tintype.model import store
from tintype.model.sample_captions import sample_captions
from tintype.shapes.write import example

FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
ROWS: list[tuple[str, dict[str, Any], str]] = [  # scheduler, settings beside those of the export, sampler
    ("EulerDiscreteScheduler", {}, "euler"),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True}, "euler"),
    ("FlowMatchEulerDiscreteScheduler", {}, "euler"),
    ("DDIMScheduler", {}, "euler"),
    ("HeunDiscreteScheduler", {}, "heun"),
    ("DPMSolverMultistepScheduler", {}, "dpmpp_2m"),
    ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, "dpmpp_2m"),
    ("DPMSolverMultistepScheduler", {"use_exponential_sigmas": True}, "dpmpp_2m"),
    ("DPMSolverMultistepScheduler", {"solver_order": 3}, ""),
    ("DPMSolverSinglestepScheduler", {}, ""),
    ("UniPCMultistepScheduler", {}, ""),
    ("UniPCMultistepScheduler", {"solver_order": 3}, ""),
    ("UniPCMultistepScheduler", FLOW, ""),
    ("DEISMultistepScheduler", {}, ""),
    ("LMSDiscreteScheduler", {}, ""),
]


def captions_of(model: str, num: int) -> list[str]:
    """Captions to draw: of drawn shapes for the model of them, else the sample captions of the model."""
    if model == "shapes":
        return [example(seed=1, index=index, size=32).caption for index in range(num)]
    found = store.find(model)
    return sample_captions(found.run or found.folder, chosen=True)[:num]


def stacked(pictures: list[Any]) -> NDArray[np.float64]:
    return np.stack([np.asarray(picture, np.float64) for picture in pictures])


def psnr(one: NDArray[np.float64], other: NDArray[np.float64]) -> str:
    """Median over pictures, in dB."""
    errors = np.square(one - other).mean(axis=(1, 2, 3))
    return f"{np.median(10 * np.log10(255**2 / np.maximum(errors, 1e-9))):.1f}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model")
    options.add_argument("--num", type=int, default=12, help="captions")
    args = options.parse_args()
    captions = captions_of(args.model, args.num)
    seeds = list(range(len(captions)))
    own = tintype.Pipeline.load(args.model, "cpu")
    reference = stacked(own.generate(captions, seeds=seeds, sampler="reference", steps=50))
    usual = stacked(own.generate(captions, seeds=seeds))
    print(f"{args.model}, {len(captions)} captions, {own.config.sample.steps} steps")
    print("| scheduler | differs from | most, of 255 | pixels that differ | PSNR to `generate` | to `reference` |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    print(f"| Tintype, {own.config.sample.sampler} | | | | | {psnr(usual, reference)} |")
    with tempfile.TemporaryDirectory() as folder:
        exported = str(tintype.export_model(args.model, Path(folder) / "model", to="diffusers"))
        pipe = DiffusionPipeline.from_pretrained(exported, custom_pipeline=exported, trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    settings = pipe.scheduler.config
    for name, changes, sampler in ROWS:
        cls = getattr(diffusers, name)
        pipe.scheduler = cls() if name.startswith("Flow") else cls.from_config(settings, **changes)
        pictures = stacked(pipe(captions, seeds=seeds).images)
        most, share = "-", "-"
        if sampler:
            same = own.generate(captions, seeds=seeds, sampler=sampler, schedule=pipe.noise_levels)
            differences = np.abs(pictures - stacked(same)).max(axis=-1)
            most, share = f"{differences.max():.0f}", f"{(differences > 0).mean():.2%}"
        title = ", ".join([name.removesuffix("Scheduler"), *(f"{key}={value}" for key, value in changes.items())])
        near = [psnr(pictures, other) for other in (usual, reference)]
        print(f"| {title} | {sampler or '-'} | {most} | {share} | {near[0]} | {near[1]} |", flush=True)


if __name__ == "__main__":
    main()
