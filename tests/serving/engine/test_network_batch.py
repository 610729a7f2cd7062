"""Network calls of many requests in one batch: the prediction of a picture does not depend on the others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tintype.diffusion.samplers import Query
from tintype.model.nets.conditioning import Conditioning
from tintype.pipeline.pipeline import Pipeline
from tintype.serving.engine.network_batch import CallRecorder, DenoiseCall, NetworkBatch, _split, concat_padded


@pytest.fixture(scope="module")
def pipeline(tiny_model: Path) -> Pipeline:
    return Pipeline.load(tiny_model, "cpu")


def call_of(pipeline: Pipeline, captions: list[str], seed: int) -> DenoiseCall:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(len(captions), 3, 16, 16, generator=random)
    return DenoiseCall(pipeline.encode(captions), x, torch.rand(len(captions), generator=random) * 10 + 0.1)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_answers_do_not_depend_on_company(limit: int, pipeline: Pipeline) -> None:
    captions = (["a red circle"], ["a blue square left of a green star", ""], ["東京", "a", "b"], ["ein Haus am See"])
    calls = [call_of(pipeline, list(each), seed) for seed, each in enumerate(captions)]
    batch = NetworkBatch(pipeline.denoiser)
    with torch.no_grad():
        together = batch.denoise(calls, limit)
        for call, answer in zip(calls, together, strict=True):
            alone = pipeline.denoiser(call.x, call.sigma, call.cond)
            torch.testing.assert_close(answer, alone, atol=1e-5, rtol=1e-5)


def test_what_captions_are_is_computed_once_while_the_same_ones_stay(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes_of_calls: list[int] = []
    conditioned = pipeline.denoiser.conditioned
    monkeypatch.setattr(
        pipeline.denoiser, "conditioned", lambda cond: (sizes_of_calls.append(len(cond)), conditioned(cond))[1]
    )
    first, second = call_of(pipeline, ["a"], 0), call_of(pipeline, ["b", "c"], 1)
    batch = NetworkBatch(pipeline.denoiser)
    with torch.no_grad():
        for _ in range(3):
            batch.denoise([first, second], 100)
        batch.denoise([second], 100)
        batch.denoise([first, second], 100)
    assert sizes_of_calls == [3, 2, 3]


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8), limit=st.integers(1, 12))
def test_every_row_is_asked_once_in_calls_of_at_most_the_limit(sizes: list[int], limit: int) -> None:
    cond = Conditioning(torch.zeros(9, 1, 1), torch.ones(9, 1, dtype=torch.bool))
    calls = [DenoiseCall(cond, torch.zeros(size, 1, 1, 1), torch.zeros(size)) for size in sizes]
    groups = list(_split(calls, limit))
    rows = [(index, row) for group in groups for index, part in group for row in range(part.start, part.stop)]
    assert rows == [(index, row) for index, size in enumerate(sizes) for row in range(size)]
    counts = [sum(part.stop - part.start for _, part in group) for group in groups]
    assert max(counts) <= limit
    assert all(count == limit for count in counts[:-1])


def test_joined_captions_are_padded_and_masked() -> None:
    short = Conditioning(torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))
    long = Conditioning(torch.ones(1, 5, 4), torch.ones(1, 5, dtype=torch.bool))
    both = concat_padded([short, long])
    assert both.tokens.shape == (3, 5, 4)
    assert both.mask.sum(1).tolist() == [3, 3, 5]
    assert both.tokens[:2, 3:].abs().sum() == 0


def test_a_denoiser_asks_first_and_is_told_afterwards() -> None:
    cond = Conditioning(torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool))
    recorder = CallRecorder()
    one, two = recorder.conditioned(cond), recorder.conditioned(cond)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return one(x, sigma) + 10 * two(2 * x, sigma)

    query = Query(torch.ones(1, 1, 1, 1), torch.ones(1))
    for _ in range(2):
        calls = recorder.record(denoise, query)
        assert [float(call.x) for call in calls] == [1.0, 2.0]
        assert float(recorder.replay(denoise, query, [torch.tensor(3.0), torch.tensor(4.0)])) == 43.0
