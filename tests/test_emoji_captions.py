"""bench/emoji_captions.py: what a name and its keywords become."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"
KNOWN = {
    "🍕": {"default": ["cheese", "pizza", "slice", "food", "1"], "tts": ["pizza"]},
    "👩‍🚒": {"default": ["fire", "firetruck", "woman"], "tts": ["woman: firefighter"]},
}


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("emoji_captions")


def test_a_name_becomes_sentences_and_stays_the_first(bench, tmp_path):
    for name in ("pizza", "woman firefighter dark skin tone"):
        (tmp_path / f"{name}.png").write_bytes(b"")
        (tmp_path / f"{name}.txt").write_text(name)
    keywords = bench.keywords_of(KNOWN)
    assert keywords == {"pizza": ["cheese", "slice", "food", "1"], "woman firefighter": ["fire", "firetruck"]}
    uses = {"cheese": 3, "slice": 1, "food": 50, "fire": 4, "firetruck": 1}
    everything = bench.collection(tmp_path)
    pizza, woman = (bench.captions(emoji, keywords[emoji.subject], uses) for emoji in everything)
    assert pizza[0] == "pizza"
    assert {"a pizza", "a picture of a pizza", "a pizza emoji", "a slice of pizza", "slice", "cheese"} < set(pizza)
    assert not {"food", "1"} & set(pizza)  # said of too many, no word
    assert pizza[-1] == "pizza, slice, cheese, food"
    assert woman[0] == "woman firefighter dark skin tone"
    assert {"a woman firefighter with dark skin tone", "firetruck with dark skin tone"} < set(woman)
    assert "fire with dark skin tone" not in woman
    assert len(set(pizza)) == len(pizza)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pizza", "a pizza"),
        ("elephant", "an elephant"),
        ("french fries", "french fries"),
        ("glass", "a glass"),
        ("ATM sign", "ATM sign"),
        ("octopus", "an octopus"),
    ],
)
def test_articles(bench, name, said):
    assert bench.with_article(name) == said
