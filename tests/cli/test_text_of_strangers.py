"""Text that strangers wrote (data, models, receipts, runs) reaches a terminal as text, and chooses no model to load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.numpy import load_file, save_file

from tintype.cli.main import main

HOSTILE = "h\x1b]0;title\x07\x1b[31m\x9b2J\u202e"
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in an empty folder: exit code and everything printed, in which every line must be printable."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        text = captured.out + captured.err
        assert all(line.isprintable() for line in text.split("\n")), [
            line for line in text.split("\n") if not line.isprintable()
        ]
        return code, text

    return call


def write_data(folder: Path, columns: str) -> Path:
    folder.mkdir()
    for index in range(3):
        Image.new("RGB", (16, 16), (80 * index, 0, 0)).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"shade {index}")
    (folder / "metadata.csv").write_text(columns, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "columns",
    [
        f"file{HOSTILE},b\nx,y\n",
        f"file_name,text\n{HOSTILE}.png,{HOSTILE}\n",
        f"file_name,text,{HOSTILE}\n0.png,{HOSTILE},x\n",
    ],
)
def test_data(columns: str, run: Run, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", columns)
    _, text = run("check", data, "--report", "report.txt")
    assert "report" in text
    assert all(line.isprintable() for line in Path("report.txt").read_text(encoding="utf-8").split("\n"))
    run("check", data, "--json", "--report", "report.html")
    assert all(line.isprintable() for line in Path("report.html").read_text(encoding="utf-8").split("\n"))
    code, text = run("train", data, "--out", "run", "--images", "1", "--text", HOSTILE)
    assert code == 2


def test_reasons_in_the_plain_lines_of_a_check(run: Run, tmp_path: Path) -> None:
    from tintype.data.check.report import Report, to_text
    from tintype.data.sources.pairs import Problem

    report = Report("d", (), (Problem("a.png", HOSTILE + "\nforged"),), (HOSTILE,), ())
    for line in [*report.lines(), *to_text(report).removesuffix("\n").split("\n")]:
        assert line.isprintable()
    assert len(report.lines()) == 3


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    change(config)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def rename_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights[HOSTILE] = np.full((1,), np.inf, np.float32)
    save_file(weights, folder / "model.safetensors")


def write_manifest(folder: Path) -> None:
    content = {"format": 1, "files": {HOSTILE: {"size": 1, "sha256": HOSTILE}}}
    (folder / "manifest.json").write_text(json.dumps(content))


def hostile_name(folder: Path) -> None:
    shutil.move(folder, folder.with_name(HOSTILE))


MODELS: dict[str, Callable[[Path], object]] = {
    "the name of a setting": lambda folder: change_config(folder, lambda c: c["net"].update({HOSTILE: 1})),
    "a preset": lambda folder: change_config(folder, lambda c: c.update(preset=HOSTILE)),
    "a text encoder": lambda folder: change_config(folder, lambda c: c["text"].update(encoder="hf:" + HOSTILE)),
    "a sampler": lambda folder: change_config(folder, lambda c: c["sample"].update(sampler=HOSTILE)),
    "a teacher": lambda folder: change_config(
        folder, lambda c: c.setdefault("distill", {}).update(steps=2, teacher=HOSTILE, teacher_hash=HOSTILE)
    ),
    "a weight": rename_weight,
    "a manifest": write_manifest,
    "components": lambda folder: (folder / "components.json").write_text(json.dumps({"net": HOSTILE, HOSTILE: "x"})),
    "a folder": hostile_name,
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.slow
def test_models(kind: str, run: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tintype.training.setup.plan.MEASURE_SECONDS", 0.0)
    monkeypatch.setattr("tintype.training.setup.prepare.bf16_is_faster", lambda _: False)  # unmeasured
    folder = shutil.copytree(tiny_model, tmp_path / "tiny")
    MODELS[kind](folder)
    model = folder if folder.exists() else folder.with_name(HOSTILE)
    data = write_data(tmp_path / "data", "a,b\nx,y\n")
    run("info", model)
    run("generate", "a star", "--model", model, "--steps", "1", "--output", "x.png")
    run("train", data, "--out", tmp_path / "run", "--from", model, "--images", "1", "--dry-run")
    run("average", model, "--width", "0.1", "--out", tmp_path / "average")


def test_the_log_of_a_run(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "tiny")
    (folder / "checkpoints").mkdir()
    rows = [
        {"images_seen": 1, "unreadable": {"pictures": [HOSTILE]}, HOSTILE: 1, "time": HOSTILE},
        {"images_seen": 2, "skipped": {"loss": HOSTILE, "pictures": [HOSTILE]}, "loss": 1.0, "time": HOSTILE},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "state.json").write_text(json.dumps({"images_seen": 1, HOSTILE: HOSTILE}))
    run("info", folder)


def write_picture(path: Path, **changes: object) -> Path:
    receipt = {
        "format": 1, "caption": "a star", "seed": 1, "steps": 1, "guidance": 1.0, "sampler": "euler", "width": 16,
        "height": 16, "model": "tiny", "model_hash": "x", "version": "0",
    }  # fmt: skip
    chunks = PngInfo()
    chunks.add_text("tintype", json.dumps({**receipt, **changes}))
    buffer = BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "PNG", pnginfo=chunks)
    path.write_bytes(buffer.getvalue())
    return path


FIELDS = ("caption", "negative", "sampler", "model", "model_hash", "version", "grid", "outpaint", "invert", "guide")


@pytest.mark.parametrize("field", [*FIELDS, "guide_hash", "caption_to", "init_image", HOSTILE])
def test_receipts(field: str, run: Run, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "tiny")
    picture = write_picture(tmp_path / "x.png", **{field: HOSTILE, "share": 0.5 if field == "caption_to" else 0.0})
    run("info", picture)
    run("redo", picture)


@pytest.mark.parametrize("role", ["model", "guide"])
@pytest.mark.parametrize("form", ["{}", "../{}", "./tiny", "tiny/../tiny", "..", ".", "C:tiny", "a\\b"])
def test_a_picture_names_no_path_of_a_model(
    role: str, form: str, run: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = shutil.copytree(tiny_model, tmp_path / "elsewhere")
    (tmp_path / "here").mkdir()
    shutil.copytree(tiny_model, tmp_path / "here" / "tiny")
    monkeypatch.chdir(tmp_path / "here")
    name = form.format(elsewhere if form == "{}" else elsewhere.name)
    picture = write_picture(tmp_path / "x.png", guidance=2.0, **{role: name})
    code, text = run("redo", picture)
    assert code == 1
    assert f"give --{role} FOLDER if you trust that folder" in text
    assert run("redo", picture, f"--{role}", elsewhere)[0] == 0  # the user may name it


def test_a_picture_may_name_a_model_beside_it(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "tiny")
    assert run("redo", write_picture(tmp_path / "x.png"))[0] == 0
