"""The ideal denoiser of the bench knows captions and weights."""

from __future__ import annotations

from pathlib import Path

import torch
from tests.evaluation.conftest import opened

from tintype.data.thread_pool import finished


def test_the_ideal_takes_captions_and_weights_into_account(cautious: Path, drawings: Path, cache: Path) -> None:
    from tintype.evaluation.noise_error_bench import NoiseErrorBench, captioned_denoiser

    pipeline, data = opened(cautious, drawings, cache)
    sigmas = torch.tensor([1.0, 5.0])
    bench = NoiseErrorBench(captioned_denoiser(pipeline), pipeline.codec, data, sigmas, 0, pipeline.device)
    chosen = data.seen[:5]
    known, blind = finished(bench.ideal(chosen))
    assert bool((known <= blind + 1e-12).all())
    data.dataset.choices[:] = [[0]] * 240
    same, blind_again = finished(bench.ideal(chosen))
    torch.testing.assert_close(same, blind)
    torch.testing.assert_close(blind_again, blind)
    data.dataset.weights = torch.ones(240, dtype=torch.float64)
    data.dataset.weights[data.seen[5:]] = 1e-12  # next to never shown: five pictures are left
    few, _ = finished(bench.ideal(chosen))
    assert float(few.mean()) < 0.5 * float(same.mean())
