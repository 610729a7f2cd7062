"""The text encoder "auto": new runs choose by their captions, and every later run of a model keeps the choice."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tests.training.conftest import tiny_preset

from tintype.config import PRESETS, Config, TextConfig
from tintype.errors import CheckpointError, ConfigError
from tintype.model.nets.text import make_encoder
from tintype.training.run import TrainRequest, train
from tintype.training.setup.prepare import _with_request_config
from tintype.training.setup.resolve_config import resolve_config
from tintype.training.setup.text_encoder import with_encoder

CPU = torch.device("cpu")


def run(request: TrainRequest) -> str:
    out = io.StringIO()
    train(request, Console(file=out, width=400))
    return out.getvalue()


@pytest.fixture
def signs(pictures: Path, tiny_nano: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TrainRequest:
    """A run on captions that minilm cannot tell apart, of a preset that has the encoder of every preset."""
    for path, caption in zip(sorted(pictures.glob("*.txt")), ["🍎", "🐱", "汽车", "彩虹", "a dog", "قطة"], strict=True):
        path.write_text(caption, encoding="utf-8")
    text = TextConfig(encoder="auto", max_tokens=8)
    monkeypatch.setitem(PRESETS, "nano", lambda resolution=8: replace(tiny_preset(resolution), text=text))
    return TrainRequest(data=pictures, out=tmp_path / "run", images=8, device="cpu")


def encoder_of(run: Path) -> object:
    return json.loads((run / "config.json").read_text())["text"]["encoder"]


@pytest.mark.slow
def test_a_new_run_chooses_and_says_why_and_later_runs_keep_the_choice(signs: TrainRequest, tmp_path: Path) -> None:
    printed = run(signs)
    assert "note: of 6 different captions, the text encoder minilm does not know signs or words in 4 ('🍎'" in printed
    assert "text learned reads them instead" in printed
    assert encoder_of(signs.out) == "learned"
    for again in (signs, replace(signs, text="auto"), replace(signs, text="learned")):
        assert "complete" in run(again)
    with pytest.raises(CheckpointError, match=r"text\.encoder was 'learned' and is 'minilm' now"):
        run(replace(signs, text="minilm"))
    child = replace(signs, out=tmp_path / "child", from_model=str(signs.out), preset="nano")
    (Path(str(signs.data)) / "0.txt").write_text("🍕", encoding="utf-8")
    assert "learned does not know signs or words in 1 ('🍕')" in run(child)
    assert (child.out / "tokenizer.json").read_bytes() == (signs.out / "tokenizer.json").read_bytes()


def test_a_package_that_cannot_be_imported_is_no_end_of_auto(
    signs: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in Path(str(signs.data)).glob("*.txt"):
        path.write_text(f"a dog of {path.stem}", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "transformers", None)
    printed = run(signs)
    assert "note: the text encoder minilm cannot be used (this needs the package transformers" in printed
    assert encoder_of(signs.out) == "learned"


def test_all_presets_choose_and_english_captions_get_what_they_had_before() -> None:
    for preset in PRESETS:
        config = Config.from_preset(preset)
        assert config.text == TextConfig(encoder="auto")
        assert with_encoder(config, ["a cat", "a red dog, 3 of them"])[0].text == TextConfig()
    assert with_encoder(Config(text=TextConfig(encoder="hf:x")), ["🍎"]) == (
        Config(text=TextConfig(encoder="hf:x")),
        None,
    )


def test_auto_never_replaces_the_encoder_of_a_model() -> None:
    stored = replace(Config.from_preset("nano"), text=TextConfig(encoder="learned", vocabulary=300))
    request = TrainRequest(data="x", out=Path("x"))
    for given in (request, replace(request, text="auto"), replace(request, preset="nano")):
        assert resolve_config(given, CPU, stored).text == stored.text
    given = replace(request, config=Config.from_preset("nano"))
    assert resolve_config(given, CPU, _with_request_config(given, stored, None)).text == stored.text
    assert resolve_config(given, CPU, given.config).text.encoder == "auto"
    assert resolve_config(replace(request, text="auto"), CPU, None).text.encoder == "auto"


def test_a_model_without_a_chosen_encoder_says_so() -> None:
    with pytest.raises(ConfigError, match="chosen when training starts"):
        make_encoder(TextConfig(encoder="auto"))
