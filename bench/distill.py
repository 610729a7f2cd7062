"""Distance of a distilled model to its teacher, compared with the teacher at as few steps.

    python bench/distill.py STUDENT [--teacher shapes] [--num 48] [--captions FILE] [--json]

All rows start from the same noise, so pictures are compared one by one: the RMS difference, where black to white is 2,
as median and mean over pictures (a few pictures in another color move only the mean). The reference is the teacher with
its own settings. Rows: the student with its own settings; the teacher with as many steps and without guidance, with the
student's sampler and with its own; the teacher with its own settings and other noise, which shows how far apart two
pictures of one caption are. Without --captions, the captions are new ones of the drawn world.
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


def generate(pipeline: Pipeline, captions: list[str], seed: int, **options: object) -> tuple[Tensor, float]:
    """Pictures [B, 3, H, W] of the seeds from `seed` on, and network evaluations per picture."""
    batches = list[int]()
    hook = pipeline.denoiser.net.register_forward_pre_hook(lambda net, inputs: batches.append(len(inputs[0])))
    request = pipeline.request(captions, seeds=list(range(seed, seed + len(captions))), **options)  # type: ignore[arg-type]
    pictures = torch.cat([finish(pipeline.run(part)) for part in request.parts(16)])
    hook.remove()
    return pictures, sum(batches) / len(captions)


def main() -> None:
    parser = argparse.ArgumentParser(description="Distance of a distilled model to its teacher.")
    parser.add_argument("student")
    parser.add_argument("--teacher", default="shapes")
    parser.add_argument("--num", type=int, default=48, help="captions")
    parser.add_argument("--captions", type=Path, help="a text file, one a line")
    parser.add_argument("--device")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    student, teacher = (Pipeline.load(name, options.device) for name in (options.student, options.teacher))
    if options.captions is None:
        captions = [task.caption for task in caption_tasks(SPLITS["new"], options.num, ())]
    else:
        captions = options.captions.read_text(encoding="utf-8").splitlines()[: options.num]
    full, few = teacher.config.sample, student.config.sample
    reference, evaluations = generate(teacher, captions, 0)
    print(f"{len(captions)} captions; reference: {options.teacher}, {full.steps} steps, {evaluations:.1f} evaluations")
    rows = {
        f"{options.student}, own settings": generate(student, captions, 0),
        f"{options.teacher}, {few.steps} steps, {few.sampler}": generate(
            teacher, captions, 0, steps=few.steps, guidance=1.0, sampler=few.sampler
        ),
        f"{options.teacher}, {few.steps} steps, {full.sampler}": generate(
            teacher, captions, 0, steps=few.steps, guidance=1.0
        ),
        f"{options.teacher}, own settings, other noise": generate(teacher, captions, 10**6),
    }
    table = {}
    for name, (pictures, num) in rows.items():
        distances = (pictures - reference).square().flatten(1).mean(1).sqrt()
        table[name] = {"evaluations": num, "median": float(distances.median()), "mean": float(distances.mean())}
    if options.json:
        print(json.dumps(table))
        return
    print(f"{'':44}{'evaluations':>12}{'median':>10}{'mean':>10}")
    for name, row in table.items():
        print(f"{name:44}{row['evaluations']:12.1f}{row['median']:10.4f}{row['mean']:10.4f}")


if __name__ == "__main__":
    main()
