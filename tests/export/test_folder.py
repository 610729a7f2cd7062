"""`tintype export --to folder`: an ordinary model that gives nothing away, whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tintype.cli.main import main
from tintype.errors import CheckpointError, ConfigError
from tintype.export.forms import WRITERS, export_model
from tintype.export.options import FORMS
from tintype.export.record import read_record
from tintype.model import checkpoint, store
from tintype.pipeline.pipeline import Pipeline

SECRET = "aunt Philippa on the pier"
FILES = {"README.md", "config.json", "model.manifest.json", "model.safetensors", "tintype.json", "tokenizer.json"}


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path) -> Path:
    """A finished run: float32 weights, two checkpoints, and everywhere a caption that is nobody's business."""
    folder = tmp_path / "private" / "run"
    folder.mkdir(parents=True)
    weights = {name: tensor.float() * 1.0007 for name, tensor in load_file(tiny_model / "model.safetensors").items()}
    texts = {name: (tiny_model / name).read_text() for name in ("config.json", "tokenizer.json")}
    for step in (1, 2):
        state = json.dumps({"images_seen": 10 * step})
        parts = {"model": weights, "optimizer": {"moment": torch.ones(3)}}
        checkpoint.save_parts(checkpoint.step_folder(folder, step), parts, {**texts, "state.json": state})
    save_file(weights, folder / "model.safetensors")
    for name, text in texts.items():
        (folder / name).write_text(text)
    errors = {"images_seen": 20, "noise_error": {"0.1": 0.25, "1": 0.125}, "noise_error_training": {"0.1": 0.2}}
    (folder / "evaluation.json").write_text(json.dumps({**errors, "note": SECRET}))
    for name in ("README.md", "data.json", "log.jsonl"):
        (folder / name).write_text(f"{SECRET} {tmp_path}")
    (folder / "samples").mkdir()
    (folder / "samples" / "captions.txt").write_text(f"{SECRET}\na red circle\n")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_every_form_has_a_function_and_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(WRITERS) == list(FORMS)
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    assert main(["export", "--help"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    for name, form in FORMS.items():
        assert f"`--to {name}`" in page
        assert f'"{name}"' in str(export_model.__doc__)
        assert f"{name}: {form.help}" in output


def test_weights_are_rounded_to_the_nearest_half_and_pictures_stay(run: Path, tmp_path: Path) -> None:
    out = export_model(run, tmp_path / "out")
    exact, stored = load_file(run / "model.safetensors"), load_file(out / "model.safetensors")
    assert stored.keys() == exact.keys()
    for name, tensor in exact.items():
        assert np.array_equal(stored[name].numpy(), tensor.numpy().astype(np.float16))
    captions = ["a red circle", "東京"]
    for one, other in zip(*(Pipeline.load(folder, "cpu").generate(captions) for folder in (run, out)), strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1


def test_a_number_too_large_for_a_half_stays(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "large")
    weights = {name: tensor.float() for name, tensor in load_file(tiny_model / "model.safetensors").items()}
    name = next(iter(weights))
    weights[name].view(-1)[0] = 70000.0
    save_file(weights, folder / "model.safetensors")
    stored = load_file(export_model(folder, tmp_path / "out") / "model.safetensors")
    assert stored.pop(name).dtype == torch.float32
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}


def test_nothing_private_goes_along(run: Path, tmp_path: Path) -> None:
    files = contents(export_model(run, tmp_path / "out", license="CC-BY-4.0"))
    assert set(files) == FILES | {"evaluation.json"}
    for name, content in files.items():
        for secret in (SECRET, str(tmp_path), "private"):
            assert secret.encode() not in content, name
    assert b"images_seen" in files["evaluation.json"]
    assert "| 0.1 | 0.2500 | 0.2000 | unknown |" in files["README.md"].decode()


def test_examples_are_published_only_when_asked(run: Path, tmp_path: Path) -> None:
    out = export_model(run, tmp_path / "out", examples=['a "red" circle: #1', "東京"])
    card = (out / "README.md").read_text(encoding="utf-8")
    yaml = pytest.importorskip("yaml")
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert [entry["text"] for entry in metadata["widget"]] == ['a "red" circle: #1', "東京"]
    assert all((out / entry["output"]["url"]).is_file() for entry in metadata["widget"])
    assert (out / "samples" / "captions.txt").read_text(encoding="utf-8") == 'a "red" circle: #1\n東京\n'
    assert SECRET not in card
    assert SECRET in (export_model(run, tmp_path / "own", examples=True) / "README.md").read_text(encoding="utf-8")


def test_pictures_of_examples_have_receipts_with_the_name_of_the_model(run: Path, tmp_path: Path) -> None:
    from tintype.pipeline.image_file import read_receipt

    out = export_model(run, tmp_path / "cats", examples=["a red circle"])
    receipt = read_receipt(out / "samples" / "example-0.png")
    assert (receipt.model, receipt.caption) == ("cats", "a red circle")
    assert receipt.model_hash == store.weights_hash(store.find(out))


@pytest.mark.parametrize(
    ("license", "lines"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("GPL-3.0-or-later", {"license": "gpl-3.0"}),
        ("LicenseRef-mine", {"license": "other", "license_name": "LicenseRef-mine"}),
        ("", {}),
    ],
)
def test_the_metadata_are_those_of_the_hub(
    license: str, lines: dict[str, str], tiny_model: Path, tmp_path: Path
) -> None:
    yaml = pytest.importorskip("yaml")
    card = (export_model(tiny_model, tmp_path / "out", license=license) / "README.md").read_text(encoding="utf-8")
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert {name: metadata[name] for name in metadata if name.startswith("license")} == lines
    assert (metadata["library_name"], metadata["pipeline_tag"]) == ("tintype", "text-to-image")
    assert "text-to-image" in metadata["tags"]


def test_a_run_that_trains_gives_its_newest_checkpoint(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "model.safetensors").unlink()
    out = export_model(run, tmp_path / "out")
    assert set(contents(out)) == FILES
    assert json.loads((out / "model.manifest.json").read_text())["images_seen"] == 20
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "20 of 500,000 planned images were shown." in card
    assert "The errors of this model were not measured." in card
    assert main(["info", str(out)]) == 0
    assert "not finished: 20 of 500,000 images seen" in capsys.readouterr().out


def test_info_tells_version_and_license(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["export", str(tiny_model), "--out", str(out), "--license", "MIT"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert main(["info", str(out)]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "license MIT exported by Tintype 0" in output
    assert main(["info", str(out), "--verify"]) == 0


def test_without_a_license_a_note_says_what_that_means(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(tiny_model), "--out", str(tmp_path / "out")]) == 0
    assert "no license" in capsys.readouterr().err


def test_an_export_of_an_export_keeps_its_card_and_license(tiny_model: Path, tmp_path: Path) -> None:
    first = export_model(tiny_model, tmp_path / "first", license="MIT", card="# Mine\n\nMy words.\n")
    second = export_model(first, tmp_path / "second")
    assert contents(second)["README.md"] == contents(first)["README.md"]
    record = read_record(second)
    assert record is not None
    assert (record.license, record.name) == ("MIT", "second")


def test_only_an_earlier_export_is_replaced(tiny_model: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export_model(tiny_model, out)  # an empty folder
    before = contents(out)
    with pytest.raises(CheckpointError, match="is an earlier export; add --overwrite"):
        export_model(run, out)
    assert contents(out) == before
    export_model(run, out, overwrite=True)
    assert contents(out)["model.safetensors"] != before["model.safetensors"]
    (out / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"a file that no export wrote \(notes.txt\)"):
        export_model(run, out, overwrite=True)
    for other in (run, run / "config.json", tiny_model):
        with pytest.raises(CheckpointError, match="is no earlier export"):
            export_model(tiny_model, other, overwrite=True)
    assert (run / "data.json").is_file()


@pytest.mark.parametrize("out", [".", "..", "../here/"])
def test_the_current_folder_is_never_replaced(
    out: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(CheckpointError, match="is the current folder, or one that it lies in"):
        export_model(tiny_model, out)
    assert Path.cwd().is_dir()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device"), SystemExit(143)])
def test_a_failed_export_leaves_nothing(
    error: BaseException, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = export_model(tiny_model, tmp_path / "old")
    before = contents(tmp_path)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("tintype.export.folder.write_record", fail)
    with pytest.raises(CheckpointError if isinstance(error, OSError) else type(error)):
        export_model(tiny_model, tmp_path / "new")
    with pytest.raises(CheckpointError if isinstance(error, OSError) else type(error)):
        export_model(tiny_model, old, overwrite=True)
    assert contents(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]


def test_an_encoder_in_a_folder_of_this_machine_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["text"].update(encoder=f"hf:{tmp_path}", vocabulary=0)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="folder of this machine") as raised:
        export_model(folder, tmp_path / "out")
    assert str(tmp_path) not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--license", "free for all"], "license must be an SPDX identifier"),
        (["--precision", "int8"], "a model folder has precision fp16 or fp32"),
        (["--name", "a\nb"], "name must be"),
        (["--examples", "a\nb"], "every example must be a caption"),
        (["--card", "no/such.md"], "cannot read"),
        (["--examples"], "has no sample captions"),
    ],
)
def test_a_wrong_option_is_named(
    options: list[str], message: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(tiny_model), "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_card_of_an_own_file_is_used(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text("---\nlicense: mit\n---\n\n# A title\n", encoding="utf-8")
    arguments = ["export", str(tiny_model), "--out", str(tmp_path / "out"), "--card", str(tmp_path / "card.md")]
    assert main(arguments) == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert card.endswith("---\n\n# A title\n")
    assert "license" not in card
