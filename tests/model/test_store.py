"""Models on disk: which checkpoint of a run is the model, and what is said about damaged ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tintype.errors import CheckpointError, TintypeWarning
from tintype.model import checkpoint, manifest, store
from tintype.pipeline.pipeline import Pipeline


def save(run: Path, model: Path, step: int) -> Path:
    """Save the weights of a model as a checkpoint of 10 images a step."""
    texts = {name: (model / name).read_text() for name in ("config.json", "tokenizer.json")}
    texts["state.json"] = json.dumps({"images_seen": 10 * step})
    weights = {name: tensor.float() for name, tensor in load_file(model / "model.safetensors").items()}
    folder = checkpoint.step_folder(run, step)
    checkpoint.save_parts(folder, {"model": weights}, texts)
    return folder


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path) -> Path:
    """A run with checkpoints after steps 1 and 2."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(tiny_model / "config.json", folder)
    for step in (1, 2):
        save(folder, tiny_model, step)
    return folder


def damage(folder: Path, name: str = "model.safetensors") -> None:
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)


def test_a_damaged_newer_checkpoint_is_named_with_what_is_used_instead(run: Path) -> None:
    assert store.find(run).warning == ""
    damage(checkpoint.step_folder(run, 2))
    model = store.find(run)
    assert model.folder == checkpoint.step_folder(run, 1)
    path = checkpoint.step_folder(run, 2) / "model.safetensors"
    assert model.warning == (
        f"{path} is damaged: it does not match the manifest; the older step-00000001 of {run} is used instead"
    )
    with pytest.warns(TintypeWarning, match="step-00000002/model.safetensors is damaged") as warned:
        Pipeline.load(run, "cpu")
    assert len(warned) == 1
    assert warned[0].filename == __file__


def test_where_all_are_damaged_nobody_is_told_to_wait(run: Path) -> None:
    damage(checkpoint.step_folder(run, 1))
    (checkpoint.step_folder(run, 2) / "manifest.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"every checkpoint in .*run is damaged \(.*step-00000002 is not a"
    ) as error:
        store.find(run)
    assert "wait" not in str(error.value)
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint yet: wait"):
        store.find(run)


@pytest.mark.parametrize(("seen", "warns"), [(20, False), (15, True)])
def test_a_finished_model_that_is_as_new_as_the_damaged_checkpoint_needs_no_warning(
    run: Path, tiny_model: Path, seen: int, warns: bool
) -> None:
    damage(checkpoint.step_folder(run, 2))
    weights = {name: tensor.float() for name, tensor in load_file(tiny_model / "model.safetensors").items()}
    save_file({name: torch.clone(tensor) for name, tensor in weights.items()}, run / "model.safetensors")
    manifest.write(run, seen)
    model = store.find(run)
    assert model.folder == run
    assert ("the finished model of" in model.warning) == warns
    assert bool(model.warning) == warns


def test_a_checkpoint_that_a_run_deletes_meanwhile_is_not_damaged(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newest, verify = checkpoint.step_folder(run, 2), checkpoint.verify

    def deleted(folder: Path) -> list[str]:
        if folder == newest:
            shutil.rmtree(folder)
        return verify(folder)

    monkeypatch.setattr(checkpoint, "verify", deleted)
    assert store.find(run).warning == ""
