"""Runs: stopped and resumed they end as if they had not been; what they leave is a model; wrong use is one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tintype.errors import CheckpointError
from tintype.shapes.write import example
from tintype.tokens import store
from tintype.tokens.prepare import TokenRequest
from tintype.tokens.run import train_tokens, training_steps
from tintype.training.core.trainer import StepReport
from tintype.training.signals import Interruption

SEED = 11
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data() -> list[tuple[object, str]]:
    drawings = [example(seed=SEED, index=index, size=16) for index in range(24)]
    return [(drawing.picture, drawing.caption) for drawing in drawings]


def request(data: object, out: Path, images: int = 24, **options: object) -> TokenRequest:
    return TokenRequest(
        data=data,
        out=out,
        images=images,
        resolution=16,
        codes=32,
        batch_size=4,
        text="learned",
        device="cpu",
        **options,
    )  # type: ignore[arg-type]


def steps(asked: TokenRequest) -> Iterator[StepReport]:
    return training_steps(asked, Console(quiet=True), Interruption())


@pytest.fixture(scope="module")
def finished(data: object, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, [report.loss for report in steps(request(data, out))]


def test_a_run_leaves_a_model_with_its_card(finished: tuple[Path, list[float]]) -> None:
    out, losses = finished
    assert losses[-1] < losses[0]
    assert store.find(out) == out
    model = store.load(out)
    assert model.config.net.codes == 32
    assert len(model.codebook.codes) == 32
    assert "writes pictures token by token" in (out / "README.md").read_text()
    assert (out / "samples" / "seen-000000024.png").is_file()


def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(
    data: object, finished: tuple[Path, list[float]], tmp_path: Path
) -> None:
    out, losses = tmp_path / "resumed", []
    for stop in (2, 1, None):
        running = steps(request(data, out))
        for report in running:
            losses.append(report.loss)
            if stop is not None and len(losses) % 3 == stop:
                break
        running.close()
    assert losses == finished[1]
    whole, resumed = store.read_weights(finished[0], store.read_config(finished[0])), store.read_weights(
        out, store.read_config(out)
    )  # fmt: skip
    assert all(torch.equal(weight, resumed[name]) for name, weight in whole.items())


def test_a_finished_run_is_left_as_it_is_and_can_be_made_longer(
    data: object, finished: tuple[Path, list[float]]
) -> None:
    out = finished[0]
    before = (out / "tokens.safetensors").read_bytes()
    assert list(steps(request(data, out))) == []
    assert (out / "tokens.safetensors").read_bytes() == before
    assert [report.images_seen for report in steps(request(data, out, images=32))] == [28, 32]


def test_other_settings_and_other_data_are_refused(data: list[object], finished: tuple[Path, list[float]]) -> None:
    out = finished[0]
    with pytest.raises(CheckpointError, match="started with other settings"):
        list(steps(request(data, out, lr=1e-5)))
    with pytest.raises(CheckpointError, match="changed since"):
        list(steps(request(data[1:], out, images=64)))


def test_a_folder_in_other_use_is_refused(data: object, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds a diffusion model; choose another --out"):
        train_tokens(request(data, tmp_path), Console(quiet=True))
    (tmp_path / "config.json").rename(tmp_path / "notes.txt")
    with pytest.raises(CheckpointError, match=r"is not a run but holds notes\.txt"):
        train_tokens(request(data, tmp_path), Console(quiet=True))
