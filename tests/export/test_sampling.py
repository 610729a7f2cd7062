"""The sampler as numbers: whoever follows them makes the picture of the pipeline."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tintype.diffusion.ode import PLANS
from tintype.errors import ConfigError
from tintype.export.sampling import sampling_plan
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.start import seed_noise


@pytest.fixture(scope="module")
def pipeline(tiny_model: Path) -> Pipeline:
    return Pipeline.load(tiny_model, "cpu")


@pytest.mark.parametrize("sampler", PLANS)
@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_a_program_that_follows_the_plan_makes_the_picture(sampler: str, guidance: float, pipeline: Pipeline) -> None:
    sample = replace(pipeline.config.sample, sampler=sampler, guidance=guidance, steps=6)
    described = json.loads(json.dumps(sampling_plan(replace(pipeline.config, sample=sample))))
    request = pipeline.request("a red circle", sampler=sampler, guidance=guidance, steps=6, seeds=[5])
    caption, empty = (pipeline.denoiser.conditioned(pipeline.encode([text])) for text in ("a red circle", ""))

    def guess(x: Tensor, step: dict[str, float]) -> Tensor:
        sigma = torch.tensor([step["sigma"]])
        with torch.no_grad():
            base = empty(x, sigma)
            return base + step["guidance"] * (caption(x, sigma) - base)

    plan = described["plan"]
    before = x = plan[0]["sigma"] * seed_noise(request, (3, request.height, request.width))
    guesses: list[Tensor] = []
    for step in plan:
        guesses.insert(0, guess(x, step))
        if step["correct"]:
            x = step["corrector_keep"] * before + sum(w * g for w, g in zip(step["correct"], guesses, strict=False))
        before, x = x, step["keep"] * x + sum(w * g for w, g in zip(step["predict"], guesses, strict=False))
    stream = pipeline.run(request)
    *_, last = stream
    torch.testing.assert_close(x, last.denoised, rtol=0, atol=2e-4)  # a level is 0.008
    assert (described["sampler"], described["steps"], len(plan)) == (sampler, 6, 6)


def test_a_sampler_that_is_no_weighted_sum_is_refused(pipeline: Pipeline) -> None:
    sample = replace(pipeline.config.sample, sampler="heun")
    with pytest.raises(ConfigError, match="the sampler heun of this model cannot be exported; make one of unipc,"):
        sampling_plan(replace(pipeline.config, sample=sample))
