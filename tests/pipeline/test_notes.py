"""Notations of other programs in captions are noticed, and ordinary captions are not."""

from __future__ import annotations

import pytest

from tintype.pipeline.notes import caption_notes


@pytest.mark.parametrize("text", ["a (red:1.3) cat", "(a cat : 0.5)", "a ((red)) cat", "(cat:-1)"])
def test_weights_are_noticed(text: str) -> None:
    assert len(caption_notes(["plain", text])) == 1


def test_each_notation_is_noted_once() -> None:
    notes = caption_notes(["(a:1.1) (b:1.2) <lora:style:0.8>", "(c:2)"])
    assert len(notes) == 2
    assert "(a:1.1)" in notes[0]
    assert "<lora:style:0.8>" in notes[1]


@pytest.mark.parametrize("text", ["a cat (red)", "at 10:30", "(see: below)", "((a)", "", "<3", "f((x)"])
def test_ordinary_text_is_not(text: str) -> None:
    assert caption_notes([text]) == []


def test_a_long_example_is_cut_and_a_hostile_caption_is_quick() -> None:
    assert len(caption_notes([f"({'a' * 150}:1.5)"])[0]) < 150
    assert caption_notes(["(" * 32_000, "(a" * 16_000, "(" + "a:" * 16_000]) == []
