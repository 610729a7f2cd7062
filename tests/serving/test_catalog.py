"""The catalog: the models of a server, and the newest checkpoints of runs."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tests.serving.conftest import save

from tintype.config import Config, DistillConfig
from tintype.errors import CheckpointError, ConfigError
from tintype.model import checkpoint, store
from tintype.pipeline.pipeline import Pipeline
from tintype.serving.catalog import Catalog
from tintype.serving.settings import checked_aliases


def test_the_newest_checkpoint_is_served_as_soon_as_it_is_there(run: Path, tiny_model: Path) -> None:
    catalog = Catalog([run], "cpu")
    assert catalog.pipelines == {}
    assert catalog.refresh() == []
    hashes = []
    for step in (1, 2):
        save(run, tiny_model, step)
        assert catalog.refresh() == ["my-run"]
        assert catalog.refresh() == []
        hashes.append(catalog.pipelines["my-run"].model_hash)
        assert catalog.examples("my-run") == ("a", "a red circle")
    assert len(set(hashes)) == 2
    shutil.rmtree(checkpoint.step_folder(run, 1))
    (checkpoint.step_folder(run, 2) / "model.safetensors").write_bytes(b"being written")
    assert catalog.refresh() == []
    assert catalog.pipelines["my-run"].model_hash == hashes[1]


def test_the_shipped_model_says_what_to_try_and_how_well_it_sees_noise() -> None:
    catalog = Catalog(["shapes"], "cpu")
    assert len(catalog.examples("shapes")) == 4
    assert catalog.examples("shapes")[0] == "a red circle left of a blue square"  # in the order they were chosen in
    errors = catalog.noise_error("shapes")
    assert errors == {"0.1": 0.0398, "0.3": 0.0062, "1": 0.0022, "3": 0.0011, "10": 0.0002}


def test_the_errors_of_a_finished_model_come_from_its_evaluation(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(tiny_model, folder)
    evaluation = folder / "evaluation.json"
    evaluation.write_text(json.dumps({"images_seen": 8, "noise_error": {"0.3": 0.25, "10": 0.0125}}))
    assert Catalog([folder], "cpu").noise_error("mine") == {"0.3": 0.25, "10": 0.0125}
    config = Config.from_json((folder / "config.json").read_text())
    student = replace(config, distill=DistillConfig(teacher="t", steps=2))
    (folder / "config.json").write_text(student.to_json())
    assert Catalog([folder], "cpu").noise_error("mine") == {}


@pytest.mark.parametrize("content", ["", "[", "[]", "{}", '{"noise_error": null}', '{"noise_error": {"1": "x"}}'])
def test_an_evaluation_that_cannot_be_read_is_no_error(content: str, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "mine")
    (tmp_path / "mine" / "evaluation.json").write_text(content)
    assert Catalog([tmp_path / "mine"], "cpu").noise_error("mine") == {}


def test_the_errors_of_a_run_come_from_its_log(run: Path, tiny_model: Path) -> None:
    save(run, tiny_model, 1)
    assert Catalog([run], "cpu").noise_error("my-run") == {"0.3": 0.5 / 900, "1": 0.2 / 900}


def test_loading_leaves_no_thread_of_openmp_behind(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads live as long as the one that loaded, and slow down the one that makes pictures."""
    loaded_by = list[threading.Thread]()

    def load(*args: Any) -> Pipeline:
        loaded_by.append(threading.current_thread())
        return original(*args)

    original = Pipeline.from_files
    monkeypatch.setattr(Pipeline, "from_files", load)
    assert Catalog([tiny_model], "cpu").pipelines
    assert [thread.is_alive() for thread in loaded_by] == [False]


def test_what_cannot_be_served_is_said_before_anything_listens(tiny_model: Path, tmp_path: Path, run: Path) -> None:
    with pytest.raises(CheckpointError, match="no model"):
        Catalog(["nothing-here"], "cpu")
    shutil.copytree(tiny_model, tmp_path / "twin" / "tiny")
    with pytest.raises(ConfigError, match="tiny"):
        Catalog([tiny_model, tmp_path / "twin" / "tiny"], "cpu")
    weights = load_file(tiny_model / "model.safetensors")
    save_file({"wrong": next(iter(weights.values()))}, tmp_path / "twin" / "tiny" / "model.safetensors")
    with pytest.raises(CheckpointError):
        Catalog([tmp_path / "twin" / "tiny"], "cpu")
    save(run, tiny_model, 1)
    (checkpoint.step_folder(run, 1) / "manifest.json").write_text("{")
    with pytest.raises(CheckpointError):
        Catalog([run], "cpu")


def test_a_model_is_called_as_the_user_wrote_it(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stars").symlink_to(tiny_model)
    monkeypatch.chdir(tiny_model)
    for source, name in ((tmp_path / "stars", "stars"), (f"{tmp_path}/stars/", "stars"), (".", tiny_model.name)):
        catalog = Catalog([source], "cpu")
        assert list(catalog.pipelines) == [name]
        assert catalog.pipelines[name].name == name


def test_a_model_whose_files_change_is_loaded_again(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, link = tmp_path / "v1", tmp_path / "v2", tmp_path / "stars"
    for version, folder in enumerate((first, second)):
        shutil.copytree(tiny_model, folder)
        weights = {name: tensor + version for name, tensor in load_file(tiny_model / "model.safetensors").items()}
        save_file(weights, folder / "model.safetensors")
    link.symlink_to(first)
    catalog = Catalog([link, "shapes"], "cpu")
    before = catalog.pipelines["stars"].model_hash
    assert catalog.refresh() == []
    (first / "README.md").write_text("a note")  # no part of the model
    assert catalog.refresh() == []
    link.unlink()
    link.symlink_to(second)
    assert catalog.refresh() == ["stars"]
    after = catalog.pipelines["stars"].model_hash
    assert after != before
    content = (second / "model.safetensors").read_bytes()
    (second / "model.safetensors").write_bytes(content[: len(content) // 2])  # being copied
    assert catalog.refresh() == catalog.refresh() == []
    assert catalog.pipelines["stars"].model_hash == after
    assert [line.message for line in caplog.records] == ["cannot load a changed model"]
    shutil.copy(first / "model.safetensors", second)
    assert catalog.refresh() == ["stars"]
    assert catalog.pipelines["stars"].model_hash == before
    shutil.rmtree(second)
    assert catalog.refresh() == []
    assert "stars" in catalog.pipelines


class Panic(BaseException):
    """As libraries in Rust raise it."""


@pytest.mark.parametrize("error", [ZeroDivisionError("of heads"), Panic("in a tokenizer")])
def test_one_unexpected_error_ends_nothing(
    error: BaseException,
    run: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    catalog = Catalog([run, other], "cpu")
    for folder in (run, other):
        save(folder, tiny_model, 1)
    load = Pipeline.from_files

    def fail(files: store.Model, device: str | None) -> Pipeline:
        if files.run == run:
            raise error
        return load(files, device)

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "from_files", fail)
        assert catalog.refresh() == ["other"]
        assert catalog.refresh() == []
    lines = [line for line in caplog.records if line.message == "cannot load a newer checkpoint"]
    assert len(lines) == 1  # not every ten seconds
    assert catalog.refresh() == ["my-run"]


def test_damaged_checkpoints_are_logged_once_with_what_is_served_instead(
    run: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2):
        save(run, tiny_model, step)
    (checkpoint.step_folder(run, 2) / "model.safetensors").write_bytes(b"damaged")
    catalog = Catalog([run], "cpu")
    assert catalog.refresh() == []
    lines = [
        record.__dict__["fields"]["warning"] for record in caplog.records if record.message == "checkpoint damaged"
    ]
    assert len(lines) == 1
    assert "step-00000002/model.safetensors is damaged" in lines[0]
    assert "the older step-00000001" in lines[0]
    (checkpoint.step_folder(run, 1) / "model.safetensors").write_bytes(b"damaged too")
    for _ in range(2):
        assert catalog.refresh() == []
    (failed,) = [record for record in caplog.records if record.message == "cannot load a checkpoint"]
    assert "every checkpoint in" in failed.__dict__["fields"]["error"]
    assert "my-run" in catalog.pipelines  # what was loaded is still served
    with pytest.raises(CheckpointError, match="every checkpoint in"):
        Catalog([run], "cpu")
    save(run, tiny_model, 3)
    assert catalog.refresh() == ["my-run"]


@pytest.mark.parametrize(
    ("alias", "model", "reason"),
    [("tiny", "tiny", "hides the model tiny"), ("dall-e-3", "emoji", "emoji is not served; the models are tiny")],
)
def test_an_alias_hides_no_model_and_stands_for_one(alias: str, model: str, reason: str, tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match=reason):
        Catalog([tiny_model], "cpu", {alias: model})


def test_an_alias_of_a_run_without_a_checkpoint_waits_for_one(run: Path, tiny_model: Path) -> None:
    catalog = Catalog([run], "cpu", {"dall-e-3": "my-run"})
    assert (catalog.aliases, catalog.get("dall-e-3")) == ({}, None)
    save(run, tiny_model, 1)
    assert catalog.refresh() == ["my-run"]
    assert catalog.aliases == {"dall-e-3": "my-run"}
    assert catalog.get("dall-e-3") is catalog.get("my-run")


@pytest.mark.parametrize("text", ["dall-e-3", "=emoji", "a=", "a b=emoji", "\n=emoji", "é=emoji", "-a=emoji"])
def test_an_alias_is_a_name_and_a_model(text: str) -> None:
    with pytest.raises(ConfigError, match="--alias must be NAME=MODEL"):
        checked_aliases([text])


def test_aliases_are_given_once_each() -> None:
    assert checked_aliases(["a=x", "b=x=y", "a=x"]) == (("a", "x"), ("b", "x=y"))
    with pytest.raises(ConfigError, match="a is given for x and for y"):
        checked_aliases(["a=x", "a=y"])


def test_models_come_and_go_while_the_server_runs(tiny_model: Path, tmp_path: Path) -> None:
    catalog = Catalog(["shapes"], "cpu")
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    assert catalog.add(other) == "other"
    assert catalog.add(other) == "other"  # again is no error
    assert list(catalog.pipelines) == ["shapes", "other"]
    twin = tmp_path / "twin" / "other"
    shutil.copytree(tiny_model, twin)
    with pytest.raises(ConfigError, match="called other"):
        catalog.add(twin)
    catalog.remove("other")
    catalog.remove("other")
    assert list(catalog.pipelines) == ["shapes"]
