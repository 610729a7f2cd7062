"""Models from strangers: odd configurations, weights, tokenizers and encoders end in one line, in little memory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tintype.config import Config, TextConfig
from tintype.errors import CheckpointError, ConfigError
from tintype.model import checkpoint, manifest, store
from tintype.model.denoiser import Denoiser
from tintype.model.nets.encoder_files import MINILM_SHA256, identity_of, require_harmless
from tintype.model.nets.text import LearnedVocabulary
from tintype.model.nets.tokens import encoder_folder, learn_tokenizer, panics_as_errors
from tintype.model.read_file import read_bytes

NET = {"resolution": 16, "patch": 8, "width": 16, "depth": 1, "heads": 1, "stem_width": 4, "stem_depth": 1}
NET |= {"stem_levels": 1, "text_depth": 0}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    config = Config.from_json(json.dumps({"format": 2, "net": NET}))
    save_file(dict(Denoiser(config).state_dict()), folder / "model.safetensors")
    (folder / "config.json").write_text(config.to_json())
    return folder


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("net", "heads", 0),
        ("net", "heads", -3),
        ("net", "channels", 0),
        ("net", "stem_width", -1),
        ("net", "stem_width", 44),
        ("net", "stem_depth", 10**6),
        ("net", "text_depth", 10**6),
        ("net", "width", 10**400),
        ("text", "vocabulary", -1),
        ("text", "vocabulary", 10**9),
        ("text", "embedding_dim", 10**9),
        ("text", "encoder", "hf:a\0b"),
        ("noise", "sigma_data", 0.0),
        ("noise", "sigma_data", 10**400),
        ("noise", "prediction", "guess"),
        ("noise", "sigma_max", 1.0),
        ("train", "beta1", 1.0),
        ("data", "caption_encoding", "a\0"),
    ],
)
def test_settings_that_cannot_work_are_named(section: str, name: str, value: object) -> None:
    values: dict[str, Any] = {"format": 2, section: {name: value}}
    if name == "sigma_max":
        values["noise"]["sigma_min"] = 1.0
    with pytest.raises(ConfigError, match=f"{name.split('_')[0]}|text") as caught:
        Config.from_json(json.dumps(values))
    assert len(str(caught.value)) < 300


def test_json_that_is_nested_deeply_is_no_configuration(model: Path) -> None:
    (model / "config.json").write_text('{"net":' * 100_000 + "1" + "}" * 100_000)
    with pytest.raises(CheckpointError):
        store.read_config(store.find(model))


def test_a_configuration_of_a_larger_network_is_refused_before_it_takes_memory(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config["net"].update(width=8192, depth=200, heads=64)  # 640 GB, so that making it would raise or be killed
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="do not fit"):
        store.load_denoiser(store.find(model))


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64])
def test_weights_that_are_not_floating_point_are_refused(model: Path, dtype: torch.dtype) -> None:
    weights = load_file(model / "model.safetensors")
    save_file({name: tensor.to(dtype) for name, tensor in weights.items()}, model / "model.safetensors")
    with pytest.raises(CheckpointError, match="not floating point"):
        store.load_denoiser(store.find(model))


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "padding": lambda values: values.update(padding={"strategy": {"Fixed": 2 * 10**9}}),
    "normalizers": lambda values: values.update(normalizer={"type": "Sequence", "normalizers": []}),
    "pattern": lambda values: values.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}}),
    "no splitting": lambda values: values.update(pre_tokenizer=None),
    "dropout": lambda values: values["model"].update(dropout=0.5),
    "numbers": lambda values: values["model"]["vocab"].update(a=10**9),
    "another entry": lambda values: values.update(more=1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_only_a_vocabulary_that_was_learned_here_is_read(change: Callable[[dict[str, Any]], object]) -> None:
    tokenizer, _ = learn_tokenizer(["a red circle", "a blue square"])
    values = json.loads(tokenizer)
    LearnedVocabulary(json.dumps(values), 8)
    change(values)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read"):
        LearnedVocabulary(json.dumps(values), 8)


def test_a_vocabulary_larger_than_the_embedding_table_is_refused() -> None:
    tokenizer, num = learn_tokenizer(["a red circle"])
    LearnedVocabulary(tokenizer, 8, num)
    with pytest.raises(CheckpointError, match="copy the model again"):
        LearnedVocabulary(tokenizer, 8, num - 1)


def test_a_panic_is_an_error_and_an_interrupt_stays_one() -> None:
    panic = type("PanicException", (BaseException,), {})
    with pytest.raises(CheckpointError), panics_as_errors():
        raise panic
    with pytest.raises(KeyboardInterrupt), panics_as_errors():
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("file", "entry", "reason"),
    [
        ("config.json", {"auto_map": {"AutoModel": "own.M"}}, "code of its own"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["own.T", None]}}, "code of its own"),
        ("config.json", {"text_config": [{"auto_map": {}}]}, "code of its own"),
        ("config.json", {"_attn_implementation": "someone/kernel"}, "nothing is fetched"),
        ("config.json", {"num_hidden_layers": 10**6}, "at most 1000"),
        ("adapter_config.json", {}, "adapter"),
        (
            "tokenizer.json",
            {"normalizer": {"normalizers": [{"pattern": {"String": "a"}, "content": "aa"}] * 40}},
            "longer",
        ),
    ],
)
def test_encoders_with_code_kernels_or_bombs_are_refused(
    tmp_path: Path, file: str, entry: dict[str, Any], reason: str
) -> None:
    (tmp_path / "config.json").write_text("{}")
    require_harmless(tmp_path)
    (tmp_path / file).write_text(json.dumps(entry))
    with pytest.raises(CheckpointError, match=reason):
        require_harmless(tmp_path)


def test_the_tokenizer_of_an_encoder_is_part_of_its_identity(tmp_path: Path) -> None:
    weights = MINILM_SHA256["model.safetensors"]
    assert identity_of(encoder_folder("minilm"), MINILM_SHA256) == weights  # training copies made before stay valid
    other = identity_of(tmp_path, {**MINILM_SHA256, "tokenizer.json": "0" * 64})
    assert other != weights
    (tmp_path / "vocab.txt").write_text("a")
    assert identity_of(tmp_path, {**MINILM_SHA256, "tokenizer.json": "0" * 64}) != other


def test_a_flipped_bit_of_a_finished_model_is_noticed(model: Path) -> None:
    manifest.write(model, 1000)
    stored = store.find(model)
    assert store.verify(stored) == ["config.json", "model.safetensors"]
    path = model / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for check in (store.verify, store.weights_hash):
        with pytest.raises(CheckpointError, match="damaged or was changed"):
            check(stored)
    (model / "model.manifest.json").unlink()
    with pytest.raises(CheckpointError, match="older Tintype"):
        store.verify(stored)
    assert store.weights_hash(stored)


def test_images_seen_decide_between_model_and_checkpoint_and_never_times(model: Path, tmp_path: Path) -> None:
    config, weights = (model / "config.json").read_text(), load_file(model / "model.safetensors")
    newest = checkpoint.step_folder(model, 1)
    for seen, is_final in ((999, True), (1000, True), (1001, False)):
        shutil.rmtree(newest, ignore_errors=True)
        checkpoint.save_parts(
            newest, {"model": weights}, {"config.json": config, "state.json": json.dumps({"images_seen": seen})}
        )
        manifest.write(model, 1000)
        for time in (1, 2**31):
            os.utime(model / "model.safetensors", (time, time))
            assert store.find(model).folder == (model if is_final else newest)


def test_links_out_pipes_and_large_files_are_not_read(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "secret").write_text("secret")
    (run / "link").symlink_to(tmp_path / "secret")
    (run / "own").write_text("12345")
    (run / "inner").symlink_to(run / "own")
    os.mkfifo(run / "pipe")
    assert read_bytes(run / "inner", 5, run) == b"12345"
    for name in ("link", "pipe", "missing"):
        with pytest.raises(OSError, match=r"out of its folder|regular|No such"):
            read_bytes(run / name, 100, run)
    with pytest.raises(OSError, match="larger"):
        read_bytes(run / "own", 4, run)


def test_a_shipped_model_is_what_its_manifest_says() -> None:
    for name in store.shipped():
        assert "model.safetensors" in store.verify(store.find(name))
    assert TextConfig().encoder == "minilm"
