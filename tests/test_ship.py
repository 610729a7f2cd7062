"""dev/ship.py: the card of a run becomes that of a model that comes with the package."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import pytest

from tintype.config import Config
from tintype.training.core.validation_error import ValidationMetrics
from tintype.training.model_card import model_card

DEV = Path(__file__).parent.parent / "dev"


@pytest.fixture
def ship(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DEV))
    return importlib.import_module("ship")


def test_a_shipped_card_has_its_own_name_and_nothing_of_the_run(ship: Any, tmp_path: Path) -> None:
    card = model_card(
        "my-run",
        Config(),
        data="pictures",
        num_training=1,
        num_held_out=0,
        num_left_out=0,
        fingerprint="f",
        num_weights=1,
        images_seen=1,
        seconds=1,
        ema_width=0.1,
        metrics=ValidationMetrics(),
        caption="a red circle",
    )
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    options = argparse.Namespace(run=tmp_path, name="shapes", data="Drawn shapes.", steps=9, guidance=1.5)
    shipped = ship.card_of(options, "## Caption accuracy")
    assert shipped.startswith("# shapes\n")
    assert "my-run" not in shipped
    assert "tintype generate 'a red circle' --model shapes" in shipped
    assert "Pipeline.load('shapes').generate(['a red circle'], steps=9, guidance=1.5)" in shipped
    assert "## Share" not in shipped  # there is no folder of a run
    assert shipped.index("Drawn shapes.") < shipped.index("## Training") < shipped.index("## Caption accuracy")
    assert shipped.endswith("```\n")


def test_pictures_are_shipped_with_what_judges_saw_beside_real_ones(ship: Any) -> None:
    ends = [0.5, 0.4, 0.6]
    scores = {"num": 96, "spectrum": 0.18, "kind": [0.66, 0.59, 0.73], "kind_real": [0.93, 0.88, 0.96]}
    scores |= dict.fromkeys(("kind_network", "kind_network_real", "frechet", "frechet_real"), ends)
    scores |= dict.fromkeys(("precision", "recall", "copies"), ends)
    section = ship.section_of(scores, 16, 3.0)
    assert "96 samples" in section
    assert "16 steps and guidance 3," in section
    assert "| kind | 0.66 [0.59, 0.73] | 0.93 [0.88, 0.96] |" in section
    assert "| 18 % | 0 % |" in section
    assert "color" not in section  # these captions name none
