"""A tiny model, drawn samples, and a small folder of captioned pictures."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from tintype.config import PRESETS, Config, NetConfig, SampleConfig, TextConfig, TrainConfig
from tintype.data.order import Order
from tintype.diffusion.loss import LossWeight
from tintype.model.denoiser import Denoiser
from tintype.training.core.components import Components
from tintype.training.core.target import Target
from tintype.training.core.trainer import StepReport, Trainer
from tintype.training.parallel.world import World
from tintype.training.setup import prepare


class DrawnSamples:
    """Ten pictures with two captions each; nine are trained on."""

    num = 10

    def order(self, seed: int, indices: Tensor) -> Order:
        return Order(seed, len(indices))

    def by_shape(self, indices: Tensor) -> list[Tensor]:
        return [torch.arange(len(indices))]

    def pictures(self, indices: Tensor) -> Tensor:
        rows = torch.arange(3 * 8 * 8).reshape(1, 3, 8, 8)
        return ((rows * (indices[:, None, None, None] + 3)) % 256).to(torch.uint8)

    def text_embeddings(self, indices: Tensor, choice: Tensor) -> list[Tensor]:
        pairs = zip(indices.tolist(), (choice % 2).tolist(), strict=True)
        return [torch.full((1 + index % 3, 4), 0.1 * index - second).half() for index, second in pairs]

    def mirrorable(self, indices: Tensor) -> Tensor:
        return indices % 2 == 0

    def split(self, share: float) -> tuple[Tensor, Tensor]:
        return torch.arange(self.num - 1), torch.tensor([self.num - 1] if share else [], dtype=torch.int64)


CPU = torch.device("cpu")
TINY = Config(
    net=NetConfig(resolution=8, patch=4, width=32, depth=1, heads=2, stem_width=16, text_depth=1),
    text=TextConfig(embedding_dim=4, max_tokens=8),
    train=TrainConfig(images=64, batch_size=4, warmup_images=8, flip=True, caption_dropout=0.3),
    sample=SampleConfig(steps=2),
)


def after_step(monkeypatch: pytest.MonkeyPatch, images_seen: int, action: Callable[[], object]) -> None:
    """Call `action` after the training step that ends at `images_seen`, but not while speed is measured."""
    original = Trainer.steps

    def steps(self: Trainer, until: int) -> Iterator[StepReport]:
        for report in original(self, until):
            if report.images_seen == images_seen and until < 2**62:
                action()
            yield report

    monkeypatch.setattr(Trainer, "steps", steps)


def tiny_preset(resolution: int = 8) -> Config:
    """What takes the place of the preset nano in tests of whole runs."""
    return replace(
        TINY,
        net=replace(TINY.net, resolution=resolution),
        text=TextConfig(encoder="learned", max_tokens=8),
        train=replace(TINY.train, flip=False),
    )


@pytest.fixture(autouse=True)
def heard_signals() -> Iterator[None]:
    """Signals as a shell leaves them: `nohup` has SIGHUP ignored, which training respects."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def tiny() -> Config:
    return TINY


@pytest.fixture
def make_trainer() -> Callable[..., Trainer]:
    """A trainer of the tiny model; equal arguments give equal trainers."""

    def make(
        config: Config = TINY,
        *,
        seed: int = 0,
        bf16: bool = False,
        ahead: int = 0,
        world: World | None = None,
        target: Target | None = None,
        loss_weight: LossWeight | None = None,
        device: torch.device = CPU,
    ) -> Trainer:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            denoiser = Denoiser(config)
        return Trainer(
            denoiser,
            DrawnSamples(),
            config,
            device,
            bf16=bf16,
            ahead=ahead,
            world=world,
            target=target,
            components=Components(loss_weight=loss_weight),
        )

    return make


@pytest.fixture
def tiny_nano(monkeypatch: pytest.MonkeyPatch) -> None:
    """The preset nano is tiny, and bfloat16 is not measured: every run takes its time."""
    monkeypatch.setitem(PRESETS, "nano", tiny_preset)
    monkeypatch.setattr(prepare, "bf16_is_faster", lambda device: False)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six pictures with captions."""
    folder = tmp_path / "pictures"
    write_pictures(folder)
    return folder


def write_pictures(folder: Path, num: int = 6) -> None:
    folder.mkdir()
    for index in range(num):
        Image.new("RGB", (12, 10), (40 * index, 90, 255 - 40 * index)).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"shade number {index}", encoding="utf-8")
