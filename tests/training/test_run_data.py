"""What a run does with its data: exclusions, shapes, shared copies, streams, lists with weights."""

from __future__ import annotations

import io
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from tests.training.conftest import after_step

from tintype.config import Config, DataOptions
from tintype.data.cache import builder
from tintype.errors import CheckpointError, ConfigError, DataError
from tintype.model import checkpoint
from tintype.training.run import Terminated, TrainRequest, train

pytestmark = pytest.mark.usefixtures("tiny_nano")


@pytest.fixture
def request_(pictures: Path, tmp_path: Path) -> TrainRequest:
    return TrainRequest(data=pictures, out=tmp_path / "run", images=24, device="cpu")


def run(request: TrainRequest) -> str:
    """Train and return what was printed."""
    out = io.StringIO()
    train(request, Console(file=out, width=200))
    return out.getvalue()


def weights(folder: Path) -> list[torch.Tensor]:
    newest = checkpoint.latest(folder)
    assert newest is not None
    parts = checkpoint.load_parts(newest, ["model", "weights", "optimizer"])
    return [tensor for part in sorted(parts) for _, tensor in sorted(parts[part].items())]


def same_end(one: Path, other: Path) -> bool:
    pairs = zip(weights(one), weights(other), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


def stop_once(monkeypatch: pytest.MonkeyPatch, request: TrainRequest, images_seen: int) -> None:
    """Train as asked, but be stopped by SIGTERM after `images_seen`."""
    with monkeypatch.context() as patched:
        after_step(patched, images_seen, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Terminated):
            run(request)


def test_what_is_excluded_is_not_trained_on_and_stands_in_data_json(request_: TrainRequest, tmp_path: Path) -> None:
    unwanted = tmp_path / "unwanted.txt"
    unwanted.write_text("3.png\n")
    output = run(replace(request_, exclude=unwanted))
    assert "1 x excluded on request (3.png)" in output
    data = json.loads((request_.out / "data.json").read_text())
    assert [row["key"] for row in data["samples"]] == ["0.png", "1.png", "2.png", "4.png", "5.png"]
    assert {"path": "3.png", "reason": "excluded on request"} in data["left_out"]
    card = (request_.out / "README.md").read_text()
    assert "[data.json](data.json)" in card
    assert data["fingerprint"] in card
    with pytest.raises(CheckpointError, match="changed since the run was started"):
        run(request_)


def test_a_new_run_refuses_a_list_with_a_name_that_no_picture_has(request_: TrainRequest, tmp_path: Path) -> None:
    unwanted = tmp_path / "unwanted.txt"
    unwanted.write_text("3.png\n33.png\n")
    with pytest.raises(DataError, match=r"names 33.png, but there is no such picture; did you mean 3.png\?"):
        run(replace(request_, exclude=unwanted))
    assert not (request_.out / "checkpoints").exists()


@pytest.mark.slow
def test_a_stream_ends_as_a_pack_does_and_may_take_over_from_it(
    request_: TrainRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(request_)
    streamed = replace(request_, out=tmp_path / "streamed", stream=True)
    run(streamed)
    assert same_end(request_.out, streamed.out)
    assert not list((streamed.out / "pack").glob("*/pictures*"))
    mixed = replace(request_, out=tmp_path / "mixed")
    stop_once(monkeypatch, mixed, 12)
    run(replace(mixed, stream=True))
    assert same_end(request_.out, mixed.out)


@pytest.mark.slow
def test_pictures_of_several_shapes_train_and_go_on_exactly(
    request_: TrainRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        Image.new("RGB", (40, 10), (9 * number, 0, 0)).save(tmp_path / "pictures" / f"wide{number}.png")
        (tmp_path / "pictures" / f"wide{number}.txt").write_text(f"wide number {number}")
    free = replace(request_, data_options=DataOptions(crop="none"))
    run(free)
    assert {path.name for path in (free.out / "pack").glob("pack-*/pictures*")} == {
        "pictures-8x8.npy",
        "pictures-4x16.npy",
    }
    assert all(bool(tensor.isfinite().all()) for tensor in weights(free.out))
    stopped = replace(free, out=tmp_path / "stopped")
    stop_once(monkeypatch, stopped, 12)
    run(replace(stopped, data_options=DataOptions()))  # what is not asked for stays as it was
    assert same_end(free.out, stopped.out)
    assert Config.from_json((stopped.out / "config.json").read_text()).data.crop == "none"
    with pytest.raises(CheckpointError, match=r"data\.crop"):
        run(replace(stopped, data_options=DataOptions(crop="square")))


def test_folders_with_repeats_are_weights_of_the_run(request_: TrainRequest, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    (pictures / "10_name").mkdir()
    for suffix in ("png", "txt"):
        (pictures / f"0.{suffix}").rename(pictures / "10_name" / f"0.{suffix}")
    said = run(replace(request_, data_options=DataOptions(repeats="folder")))
    assert "1 x a folder whose leading number is how often an epoch shows each of its pictures (--repeats" in said
    assert "times each on average, by their weights" in said
    data = json.loads((request_.out / "data.json").read_text())
    assert {row["key"]: row["weight"] for row in data["samples"]}["10_name/0.png"] == 10
    assert {row["weight"] for row in data["samples"]} == {1, 10}


@pytest.mark.slow
def test_runs_share_a_copy_in_a_cache(request_: TrainRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = replace(request_, cache=tmp_path / "cache")
    run(cached)

    def decoded(*args: object) -> None:
        raise AssertionError("a picture was decoded again")

    monkeypatch.setattr(builder, "examine_block", decoded)
    run(replace(cached, out=tmp_path / "second", seed=5))
    assert len(list((tmp_path / "cache").glob("pack-*"))) == 1
    assert not (request_.out / "pack").exists()


@pytest.mark.slow
def test_a_run_from_before_there_were_such_settings_goes_on(
    request_: TrainRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(replace(request_, out=tmp_path / "straight"))
    stop_once(monkeypatch, request_, 12)
    config = json.loads((request_.out / "config.json").read_text())
    del config["data"]
    (request_.out / "config.json").write_text(json.dumps(config))
    run(request_)
    assert same_end(request_.out, tmp_path / "straight")


def test_a_list_with_weights_is_shown_accordingly(request_: TrainRequest, tmp_path: Path) -> None:
    (tmp_path / "mixed.txt").write_text("pictures weight=2\npictures weight=0.5\n")
    run(replace(request_, data=tmp_path / "mixed.txt"))
    rows = json.loads((request_.out / "data.json").read_text())["samples"]
    assert [(row["key"], row["weight"]) for row in rows[5:7]] == [("pictures/5.png", 2.0), ("pictures#2/0.png", 0.5)]


@pytest.mark.parametrize(
    ("data_options", "error"),
    [
        (DataOptions(crop="round"), ConfigError),
        (DataOptions(alpha_color="sky"), ConfigError),
        (DataOptions(no_caption="invent"), ConfigError),
        (DataOptions(animations="all"), ConfigError),
        (DataOptions(caption_encoding="morse"), ConfigError),
        (DataOptions(max_aspect=0.5), ConfigError),
        (DataOptions(min_size=500), DataError),
    ],
)
def test_data_that_cannot_be_taken_in_so_leave_nothing_to_go_on_with(
    request_: TrainRequest, data_options: DataOptions, error: type[Exception]
) -> None:
    with pytest.raises(error):
        run(replace(request_, data_options=data_options))
    assert not (request_.out / "config.json").exists()
