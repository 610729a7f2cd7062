"""Token models on disk: what was written is what is read; neither kind of model is taken for the other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tintype.errors import CheckpointError, ConfigError
from tintype.model import checkpoint
from tintype.model import store as diffusion_store
from tintype.pipeline.pipeline import Pipeline
from tintype.tokens import store
from tintype.tokens.config import TokenConfig
from tintype.tokens.model import TokenModel
from tintype.tokens.writer import TokenWriter


def test_a_model_comes_back_as_float16_keeps_it(tiny_token_folder: Path, model: TokenModel) -> None:
    loaded = store.load(store.find(tiny_token_folder))
    assert torch.equal(loaded.codebook.codes, model.codebook.codes)
    assert loaded.config == model.config
    assert loaded.tokenizer == model.tokenizer
    own = model.state_dict()
    assert all(torch.equal(value, own[name].half().float()) for name, value in loaded.state_dict().items())


def test_settings_come_back_and_unknown_ones_are_refused(model: TokenModel) -> None:
    text = model.config.to_json()
    assert TokenConfig.from_json(text) == model.config
    for damaged in ("no", "[]", json.dumps({**json.loads(text), "format": 9}), json.dumps({"format": 1, "noise": {}})):
        with pytest.raises(ConfigError, match=r"tokens\.json"):
            TokenConfig.from_json(damaged)


def test_a_token_model_is_refused_where_a_diffusion_model_is_asked_for(tiny_token_folder: Path) -> None:
    message = "tiny-tokens writes pictures token by token and has no noise levels: a diffusion model is needed here"
    with pytest.raises(CheckpointError, match=message):
        diffusion_store.find(tiny_token_folder)
    with pytest.raises(CheckpointError, match=message):
        Pipeline.load(tiny_token_folder)


@pytest.mark.parametrize("name", ["shapes", "no-such-folder"])
def test_a_diffusion_model_is_refused_where_a_token_model_is_asked_for(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"{name} is no token model"):
        TokenWriter.load(name)


def test_weights_that_do_not_fit_are_refused(tiny_token_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_token_folder, folder)
    settings = json.loads((folder / "tokens.json").read_text())
    settings["net"]["depth"] = 150
    (folder / "tokens.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=r"the weights do not fit tokens\.json"):
        store.load(folder)
    shutil.copy(tiny_token_folder / "tokens.json", folder)
    tensors = checkpoint.read_tensors(folder / "tokens.safetensors")
    tensors["net.bias"][0] = torch.inf
    (folder / "tokens.safetensors").write_bytes(checkpoint._pack(tensors))
    with pytest.raises(CheckpointError, match=r"net\.bias is not finite"):
        store.load(folder)
