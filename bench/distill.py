"""How near a distilled model comes to the pictures of its teacher, and how near the teacher comes in as few steps.

    python bench/distill.py STUDENT [--teacher shapes] [--num 48] [--captions FILE] [--json]

All start from the same static, so pictures are compared one by one: root mean square of the difference, black to white
being 2, its median over pictures and its mean over those (one in another color counts in the mean only). The reference
is the teacher with its own settings. Rows: the student as it is; the teacher with as many steps, without guidance, by
the student's sampler and by its own; the teacher with its own settings and other static (how far apart pictures of one
caption are). Without --captions, new ones of the drawn world.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from tintype.diffusion.samplers import finish
from tintype.evaluation.shapes_accuracy import SPLITS, caption_tasks
from tintype.pipeline.pipeline import Pipeline


def made(pipeline: Pipeline, captions: list[str], seed: int, **options: object) -> tuple[Tensor, float]:
    """Pictures [B, 3, H, W] of seeds from `seed` on, and evaluations of the network a picture."""
    asked = list[int]()
    hook = pipeline.denoiser.net.register_forward_pre_hook(lambda net, inputs: asked.append(len(inputs[0])))
    request = pipeline.request(captions, seeds=list(range(seed, seed + len(captions))), **options)  # type: ignore[arg-type]
    pictures = torch.cat([finish(pipeline.run(part)) for part in request.parts(16)])
    hook.remove()
    return pictures, sum(asked) / len(captions)


def main() -> None:
    parser = argparse.ArgumentParser(description="Distance of a distilled model to the pictures of its teacher.")
    parser.add_argument("student")
    parser.add_argument("--teacher", default="shapes")
    parser.add_argument("--num", type=int, default=48, help="captions")
    parser.add_argument("--captions", type=Path, help="a text file, one a line")
    parser.add_argument("--device")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    student, teacher = (Pipeline.load(name, options.device) for name in (options.student, options.teacher))
    if options.captions is None:
        captions = [ask.caption for ask in caption_tasks(SPLITS["new"], options.num, ())]
    else:
        captions = options.captions.read_text(encoding="utf-8").splitlines()[: options.num]
    own, few = teacher.config.sample, student.config.sample
    reference, evaluations = made(teacher, captions, 0)
    print(f"{len(captions)} captions; reference: {options.teacher}, {own.steps} steps, {evaluations:.1f} evaluations")
    rows = {
        f"{options.student}, as it is": made(student, captions, 0),
        f"{options.teacher}, {few.steps} steps, {few.sampler}": made(
            teacher, captions, 0, steps=few.steps, guidance=1.0, sampler=few.sampler
        ),
        f"{options.teacher}, {few.steps} steps, {own.sampler}": made(
            teacher, captions, 0, steps=few.steps, guidance=1.0
        ),
        f"{options.teacher}, own settings, other static": made(teacher, captions, 10**6),
    }
    found = {}
    for name, (pictures, num) in rows.items():
        apart = (pictures - reference).square().flatten(1).mean(1).sqrt()
        found[name] = {"evaluations": num, "median": float(apart.median()), "mean": float(apart.mean())}
    if options.json:
        print(json.dumps(found))
        return
    print(f"{'':44}{'evaluations':>12}{'median':>10}{'mean':>10}")
    for name, row in found.items():
        print(f"{name:44}{row['evaluations']:12.1f}{row['median']:10.4f}{row['mean']:10.4f}")


if __name__ == "__main__":
    main()
