"""Graphs of the network, with a recorder that computes again into the same output, as a CUDA graph does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tintype.errors import TintypeWarning
from tintype.model.nets.conditioning import concat_padded
from tintype.pipeline.cuda_graphs import BATCHES, GraphedNetwork, Replay
from tintype.pipeline.pipeline import Pipeline
from tintype.serving.engine.network_batch import DenoiseCall, NetworkBatch

CAPTIONS = ["a red circle", "a blue square left of a green star", "", "ein Haus am See"]


class Recorder:
    """Counts what is recorded."""

    def __init__(self) -> None:
        self.num = 0

    def __call__(self, function: Callable[[], Tensor]) -> Replay:
        self.num += 1
        output = function()

        def replay() -> Tensor:
            return output.copy_(function())

        return replay


@pytest.fixture
def pipeline(tiny_model: Path) -> Pipeline:
    return Pipeline.load(tiny_model, "cpu")


def inputs(num: int, seed: int = 0, side: int = 16) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(num, 3, side, side, generator=draw), torch.rand(num, generator=draw) + 0.1


@torch.no_grad()
def test_answers_are_those_of_the_denoiser_for_any_number_of_pictures_and_captions(pipeline: Pipeline) -> None:
    recorder = Recorder()
    network = GraphedNetwork(pipeline.denoiser, recorder)
    texts = {caption: pipeline.denoiser.caption_kv(pipeline.encode([caption])) for caption in CAPTIONS}
    for num in (1, 5, 2, 1, 6):
        text = concat_padded([texts[CAPTIONS[index % 4]] for index in range(num)])
        for seed in range(2):  # the second step has the same captions
            x, sigma = inputs(num, seed)
            expected = pipeline.denoiser.denoise(x, sigma, text)
            torch.testing.assert_close(network.denoise(x, sigma, text), expected, atol=1e-5, rtol=1e-5)
    assert recorder.num == network.num_graphs == 3  # for 1, 2 and 6 pictures


@torch.no_grad()
def test_an_answer_stays_when_the_next_one_is_computed(pipeline: Pipeline) -> None:
    network = GraphedNetwork(pipeline.denoiser, Recorder())
    denoise = network.conditioned(pipeline.encode(["a red circle"]))
    first = denoise(*inputs(1))
    kept = first.clone()
    denoise(*inputs(1, seed=1))
    assert torch.equal(first, kept)


@torch.no_grad()
def test_graphs_are_few_and_the_oldest_goes(pipeline: Pipeline) -> None:
    recorder = Recorder()
    network = GraphedNetwork(pipeline.denoiser, recorder, max_graphs=2)
    denoise = network.conditioned(pipeline.encode(["a red circle"]))
    for side in (16, 24, 16, 32, 16):
        denoise(*inputs(1, side=side))
    assert (recorder.num, network.num_graphs) == (3, 2)
    denoise(*inputs(1, side=24))
    assert recorder.num == 4


@torch.no_grad()
def test_weights_that_changed_in_place_count_and_those_that_moved_are_recorded_again(pipeline: Pipeline) -> None:
    recorder = Recorder()
    network = GraphedNetwork(pipeline.denoiser, recorder)
    text = pipeline.denoiser.caption_kv(pipeline.encode(["a red circle"]))
    x, sigma = inputs(2)
    network.denoise(x, sigma, concat_padded([text, text]))
    weight = next(pipeline.denoiser.net.parameters())
    weight.add_(0.1)
    both = concat_padded([text, text])
    torch.testing.assert_close(network.denoise(x, sigma, both), pipeline.denoiser.denoise(x, sigma, both))
    assert recorder.num == 1
    weight.data = weight.data + 0.1
    torch.testing.assert_close(network.denoise(x, sigma, both), pipeline.denoiser.denoise(x, sigma, both))
    assert recorder.num == 2


@torch.no_grad()
def test_many_pictures_and_gradients_are_computed_without_graphs(pipeline: Pipeline) -> None:
    recorder = Recorder()
    network = GraphedNetwork(pipeline.denoiser, recorder)
    denoise = network.conditioned(pipeline.encode(["a red circle"]).expand(BATCHES[-1] + 1))
    assert denoise(*inputs(BATCHES[-1] + 1)).shape[0] == BATCHES[-1] + 1
    with torch.enable_grad():
        network.conditioned(pipeline.encode(["a red circle"]))(*inputs(1))
    assert recorder.num == 0


@torch.no_grad()
def test_a_network_that_cannot_be_recorded_answers_all_the_same(pipeline: Pipeline) -> None:
    def refuse(function: Callable[[], Tensor]) -> Replay:
        raise RuntimeError("operation not permitted when stream is capturing")

    network = GraphedNetwork(pipeline.denoiser, refuse)
    text = pipeline.denoiser.caption_kv(pipeline.encode(["a red circle"]))
    x, sigma = inputs(1)
    with pytest.warns(TintypeWarning, match="without CUDA graphs .operation not permitted"):
        answer = network.denoise(x, sigma, text)
    assert torch.equal(answer, pipeline.denoiser.denoise(x, sigma, text))
    network.denoise(x, sigma, text)  # says nothing more


@torch.no_grad()
def test_a_server_batches_its_calls_into_graphs(pipeline: Pipeline) -> None:
    recorder = Recorder()
    graphed = NetworkBatch(GraphedNetwork(pipeline.denoiser, recorder))
    plain = NetworkBatch(pipeline.denoiser)
    calls = [DenoiseCall(pipeline.encode([caption]), *inputs(1, seed)) for seed, caption in enumerate(CAPTIONS)]
    for some in (calls, calls[:3], calls[:1]):
        for answer, expected in zip(graphed.denoise(some, 4), plain.denoise(some, 4), strict=True):
            torch.testing.assert_close(answer, expected, atol=1e-5, rtol=1e-5)
    assert recorder.num == 3


def test_a_pipeline_on_a_cpu_calls_its_denoiser(pipeline: Pipeline) -> None:
    assert not pipeline.cuda_graphs
    assert pipeline.network is pipeline.denoiser


def test_a_pipeline_with_graphs_draws_the_same_picture(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    plain = pipeline.generate("a red circle", seeds=[3], guidance=2.0)[0]
    pipeline.cuda_graphs = True
    monkeypatch.setattr(pipeline, "_graphed", GraphedNetwork(pipeline.denoiser, recorder))
    drawn = pipeline.generate("a red circle", seeds=[3], guidance=2.0)[0]
    assert recorder.num >= 1
    assert max(abs(a - b) for a, b in zip(drawn.tobytes(), plain.tobytes(), strict=True)) <= 1
