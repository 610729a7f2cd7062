"""What must hold on a GPU: pictures and losses near those of a CPU, memory as planned, runs that go on, and more.

`python dev/gpu_tests.py` runs these, and what other files mark gpu.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from tintype.config import PRESETS, Config, NetConfig, TextConfig
from tintype.model.denoiser import Denoiser
from tintype.pipeline.cuda_graphs import GraphedNetwork
from tintype.pipeline.pipeline import Pipeline
from tintype.training.core.compiled import COMPILER
from tintype.training.core.objective import Objective, ShapeBatch
from tintype.training.core.trainer import Trainer
from tintype.training.run import TrainRequest, train
from tintype.training.setup import plan
from tintype.training.setup.auto_preset import SyntheticData

pytestmark = pytest.mark.gpu
CAPTIONS = {"shapes": "a red circle left of a blue square", "emoji": "red apple"}


@pytest.mark.parametrize("name", CAPTIONS)
def test_pictures_are_close_to_those_of_a_cpu(gpu: torch.device, name: str) -> None:
    seeds = [0, 1, 2, 3]
    here, there = (
        np.stack([np.asarray(p) for p in Pipeline.load(name, d).generate([CAPTIONS[name]] * 4, seeds=seeds, steps=12)])
        for d in ("cpu", gpu)
    )
    levels = np.abs(here.astype(np.float64) - there)
    assert np.sqrt(np.square(levels).mean()) <= 2.0  # of 255
    assert np.quantile(levels, 0.99) <= 8.0


def test_a_picture_of_a_batch_is_close_to_the_one_alone(gpu: torch.device) -> None:
    pipeline = Pipeline.load("emoji", gpu)
    batch = pipeline.generate(["red apple"] * 8, seeds=list(range(8)), steps=8)
    alone = pipeline.generate(["red apple"], seeds=[5], steps=8)[0]
    levels = np.abs(np.asarray(batch[5]).astype(np.float64) - np.asarray(alone))
    assert np.sqrt(np.square(levels).mean()) <= 2.0


def test_cuda_graphs_draw_the_pictures_that_the_network_draws(gpu: torch.device) -> None:
    if gpu.type != "cuda":
        pytest.skip("CUDA graphs need CUDA")
    graphed, plain = Pipeline.load("emoji", gpu), Pipeline.load("emoji", gpu)
    plain.cuda_graphs = False
    for captions in (["red apple"], ["red apple", "a cat", "a slice of pizza"], ["red apple"]):
        seeds = list(range(len(captions)))
        here, there = (
            np.stack([np.asarray(p) for p in pipeline.generate(captions, seeds=seeds, steps=8)])
            for pipeline in (graphed, plain)
        )
        assert np.sqrt(np.square(here.astype(np.float64) - there).mean()) <= 2.0
    network = graphed.network
    assert isinstance(network, GraphedNetwork)
    assert network.num_graphs >= 2


def trainer_of(config: Config, device: torch.device, *, bf16: bool = False, compiler: str | None = None) -> Trainer:
    """Equal arguments give equal trainers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser, data = Denoiser(config), SyntheticData(config)
    return Trainer(denoiser, data, config, device, bf16=bf16, compiler=compiler)


def with_batch(config: Config, batch_size: int, micro_batch: int = 0) -> Config:
    train = replace(config.train, batch_size=batch_size, micro_batch=micro_batch)
    return replace(config, text=TextConfig(), train=train)


def test_losses_are_close_to_those_of_a_cpu(gpu: torch.device) -> None:
    config = with_batch(PRESETS["nano"](32), 8)
    expected, bf16, losses = (
        [report.loss for report in trainer_of(config, device, bf16=bf16).steps(3 * 8)]
        for device, bf16 in ((torch.device("cpu"), False), (gpu, True), (gpu, False))
    )
    assert losses == pytest.approx(expected, rel=1e-2)
    assert bf16 == pytest.approx(expected, rel=5e-2)


@pytest.mark.filterwarnings("ignore")  # the compiler imports what PyTorch itself calls deprecated
@pytest.mark.parametrize(
    ("preset", "side"), [("nano", 32), ("small", 64), ("nano", 128), ("base", 64), ("base", 128), ("large", 256)]
)
def test_compiled_training_has_the_losses_of_training_without_the_compiler(
    gpu: torch.device, preset: str, side: int
) -> None:
    if gpu.type != "cuda" and preset in ("base", "large"):
        pytest.skip("too much work for a CPU; tests/training/test_compiled.py has every preset")
    config = with_batch(PRESETS[preset](side), 8)
    config = replace(config, net=replace(config.net, depth=1, text_depth=1))
    for bf16, tolerance in ((False, 1e-3), (True, 5e-2)) if gpu.type == "cuda" else ((False, 1e-3),):
        plain, compiled = (
            [report.loss for report in trainer_of(config, gpu, bf16=bf16, compiler=compiler).steps(3 * 8)]
            for compiler in (None, COMPILER)
        )
        assert compiled == pytest.approx(plain, rel=tolerance)


@pytest.mark.parametrize(("preset", "side"), [("nano", 32), ("small", 32), ("small", 64), ("nano", 128)])
def test_the_plan_counts_the_memory_of_a_run(gpu: torch.device, preset: str, side: int) -> None:
    config = with_batch(PRESETS[preset](side), 64 if gpu.type == "cuda" else 2)
    bf16 = gpu.type == "cuda"
    speed = plan.measure(trainer_of(config, gpu, bf16=bf16), 1e-9, lambda: 0.0)
    plan.reset_peak_memory()
    trainer = trainer_of(config, gpu, bf16=bf16)
    list(trainer.steps(6 * config.train.batch_size))
    assert speed.memory_bytes == pytest.approx(plan.peak_memory(), rel=0.15)


@contextmanager
def scarce_memory(
    device: torch.device, monkeypatch: pytest.MonkeyPatch, pictures: int, num_bytes: int
) -> Iterator[None]:
    """Memory for `num_bytes` on a GPU; on a CPU an objective that refuses more than so many pictures, as CUDA would."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(min(1.0, num_bytes / total), device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
        return
    forward = Objective.forward

    def refusing(self: Objective, parts: list[ShapeBatch]) -> Tensor:
        if sum(len(part.positions) for part in parts) > pictures:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, parts)

    with monkeypatch.context() as patch:
        patch.setattr(Objective, "forward", refusing)
        yield


def test_a_first_step_that_does_not_fit_is_split(gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    num = 256 if gpu.type == "cuda" else 8
    config = with_batch(PRESETS["nano"](64), num)
    whole = next(trainer_of(with_batch(config, num, num // 8), gpu).steps(num))
    with scarce_memory(gpu, monkeypatch, num // 4, 2 * 2**30):
        trainer = trainer_of(config, gpu)
        split = next(trainer.steps(num))
    assert 0 < trainer.micro_batch < num
    assert split.loss == pytest.approx(whole.loss, rel=1e-3)
    assert split.grad_norm == pytest.approx(whole.grad_norm, rel=1e-2)
    assert not split.skipped


def tiny_nano(resolution: int = 16) -> Config:
    net = NetConfig(resolution=16, patch=4, width=32, depth=1, heads=2, stem_width=16, text_depth=1)
    nano = NANO(16)
    train = replace(nano.train, batch_size=4, images=16)
    return replace(nano, net=net, text=TextConfig(encoder="learned", max_tokens=8), train=train)


NANO = PRESETS["nano"]


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_whole_run_ends_goes_on_and_draws(
    gpu: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deterministic: bool
) -> None:
    monkeypatch.setitem(PRESETS, "nano", tiny_nano)
    (tmp_path / "data").mkdir()
    for index in range(6):
        Image.new("RGB", (20, 18), (40 * index, 90, 200)).save(tmp_path / "data" / f"shade {index}.png")
        (tmp_path / "data" / f"shade {index}.txt").write_text(f"shade {index}", encoding="utf-8")
    request = TrainRequest(
        data=tmp_path / "data", out=tmp_path / "run", preset="nano", device=str(gpu), deterministic=deterministic
    )
    out = io.StringIO()
    for images in (16, 32):
        train(replace(request, images=images), Console(file=out, width=300))
    assert "resuming at 16 of 32 images" in out.getvalue()
    assert f"on {gpu}" in out.getvalue()
    assert Pipeline.load(tmp_path / "run", gpu).generate("shade 2", seeds=1, steps=2)[0].size == (16, 16)
