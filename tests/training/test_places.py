"""Odd paths, folders that cannot be written, and files that go bad while a run reads them."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console
from tests.training.conftest import after_step

from tintype.errors import DataError, TrainingError
from tintype.pipeline.pipeline import Pipeline
from tintype.printable import printable
from tintype.training.monitor.log_rows import read_log
from tintype.training.run import TrainRequest, train

pytestmark = pytest.mark.usefixtures("tiny_nano")


def run(request: TrainRequest) -> str:
    out = io.StringIO()
    train(request, Console(file=out, width=400))
    return out.getvalue()


def test_names_that_are_not_utf8_are_trained_on_and_recorded(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for index in range(6):
        name = os.fsencode(data) + f"/gem\xe4lde{index}".encode("cp1252")
        Image.new("RGB", (32, 32), (40 * index, 0, 0)).save(os.fsdecode(name + b".png"))
        Path(os.fsdecode(name + b".txt")).write_text(f"shade {index}")
    request = TrainRequest(data=data, out=tmp_path / "run", images=4, batch_size=2, device="cpu")
    assert "unexpected" not in run(request)
    assert "complete" in run(request)
    keys = [sample["key"] for sample in json.loads((request.out / "data.json").read_text())["samples"]]
    assert keys == [f"gem\udce4lde{index}.png" for index in range(6)]


@pytest.mark.parametrize(
    "name",
    ["two words, 'quotes\" & $HOME", "фото 写真 🎨", "a new\nline", "[bold]%s{0}", "l" * 240],
    ids=["spaces", "unicode", "newline", "markup", "long"],
)
@pytest.mark.slow
def test_data_and_runs_may_lie_anywhere(tmp_path: Path, name: str) -> None:
    data, out = tmp_path / name, tmp_path / "runs" / name
    data.mkdir()
    for index, stem in enumerate(("a", "b", "c", "d", name[:200])):
        Image.new("RGB", (12, 10), (40 * index, 90, 200)).save(data / f"{stem}.png")
        (data / f"{stem}.txt").write_text(f"shade number {index}", encoding="utf-8")
    request = TrainRequest(data=data, out=out, images=8, device="cpu")
    assert f"done: {printable(' '.join(str(out / 'model.safetensors').split()))}" in run(request)
    assert "complete" in run(request)
    assert Pipeline.load(out).generate("shade number 2", seeds=3)[0].size == (8, 8)
    assert (out / "latest").read_text() == "checkpoints/step-00000002\n"


@contextmanager
def without_rights() -> Iterator[None]:
    """Inside, this process may not write where others may not: the superuser could."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.name == "nt", reason="needs rights of Unix")
@pytest.mark.parametrize("has_run", [False, True])
def test_a_folder_that_cannot_be_written_is_said_before_any_work(pictures: Path, has_run: bool) -> None:
    folder = Path(tempfile.mkdtemp())  # pytest's own folders cannot be entered by others
    try:
        out = folder / "run"
        if has_run:
            out.mkdir()
            out.chmod(0o555)
        folder.chmod(0o555)
        with without_rights(), pytest.raises(TrainingError, match=r"cannot write in .*run: Permission denied; choose"):
            run(TrainRequest(data=pictures, out=out, images=8, device="cpu"))
        assert out.exists() == has_run
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def lose(monkeypatch: pytest.MonkeyPatch, images_seen: int, files: list[Path]) -> None:
    """Files vanish after the step that ends at `images_seen`."""
    after_step(monkeypatch, images_seen, lambda: [file.write_bytes(b"") for file in files])


def test_a_picture_that_goes_bad_while_it_is_needed_is_replaced_and_told(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(monkeypatch, 8, [pictures / "3.png"])
    request = TrainRequest(data=pictures, out=tmp_path / "run", images=80, device="cpu", stream=True)
    output = run(request)
    assert "3.png can no longer be read" in output
    assert output.count("can no longer be read") == 1  # not at every step
    rows = [row["unreadable"] for row in read_log(request.out / "log.jsonl") if "unreadable" in row]
    assert rows == [{"pictures": ["3.png"]}]
    assert (request.out / "model.safetensors").is_file()


def test_when_all_pictures_go_bad_the_run_fails_and_keeps_what_it_has(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(monkeypatch, 8, sorted(pictures.glob("*.png")))
    request = TrainRequest(data=pictures, out=tmp_path / "run", images=80, device="cpu", stream=True)
    with pytest.raises(DataError, match=r"\.png and the pictures after it can no longer be read"):
        run(replace(request, save_minutes=1e-9))
    assert list((request.out / "checkpoints").glob("step-*"))
    assert not (request.out / "model.safetensors").exists()
