"""docs/extending.md: every snippet is short and runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tintype.config import PRESETS, Config, NetConfig, SampleConfig, TextConfig, TrainConfig
from tintype.model import codec
from tintype.training.setup import prepare

PAGE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text(encoding="utf-8")
SRC = Path(__file__).parent.parent / "src" / "tintype"
MAX_LINES = 20


def sections() -> dict[str, list[str]]:
    """The snippets under each heading."""
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    blocks = [re.findall(r"^```python\n(.*?)^```", part, re.DOTALL | re.MULTILINE) for part in parts[0::2]]
    return dict(zip(["", *parts[1::2]], blocks, strict=True))


SNIPPETS = [(heading, snippet) for heading, snippets in sections().items() for snippet in snippets if heading]


def tiny_preset(resolution: int = 32) -> Config:
    """What takes the place of the preset nano."""
    return Config(
        net=NetConfig(resolution=resolution, patch=8, width=32, depth=1, heads=2, stem_width=16, text_depth=1),
        text=TextConfig(encoder="learned", max_tokens=16),
        train=TrainConfig(batch_size=32, warmup_images=8),
        sample=SampleConfig(steps=2),
    )


def test_every_seam_has_a_section_with_a_snippet() -> None:
    assert len(SNIPPETS) >= 11
    assert len(sections()[""]) == 1
    for name, snippet in SNIPPETS:
        assert len(snippet.strip().splitlines()) <= MAX_LINES, name


@pytest.mark.slow
@pytest.mark.parametrize(("heading", "snippet"), SNIPPETS, ids=[heading for heading, _ in SNIPPETS])
def test_a_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heading: str, snippet: str) -> None:
    if heading == "Text encoder":
        pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(codec, "CODECS", dict(codec.CODECS))
    monkeypatch.setitem(PRESETS, "nano", tiny_preset)
    monkeypatch.setattr(prepare, "bf16_is_faster", lambda device: False)
    namespace: dict[str, Any] = {"__name__": "extending"}
    for code in (sections()[""][0], snippet):
        exec(compile(code, heading, "exec"), namespace)


def test_the_table_names_files_that_are_there() -> None:
    table = PAGE.partition("## Files per change")[2]
    paths = [path for path in re.findall(r"`([\w/]+\.py)`", table) if "/" in path]
    assert len(paths) >= 10
    assert [path for path in paths if not (SRC / path).is_file()] == []
