"""Legibility: signs that a text encoder cannot read, with known answers for several scripts."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tintype.config import TextConfig
from tintype.model.nets.legibility import FrozenReader, LearnedReader, _unknown_id, named
from tintype.model.nets.text import make_encoder
from tintype.model.nets.tokens import encoder_folder, learn_tokenizer


@pytest.fixture(scope="module")
def minilm() -> FrozenReader:
    return FrozenReader(encoder_folder("minilm"))


def learned(*captions: str) -> LearnedReader:
    return LearnedReader(Tokenizer.from_str(learn_tokenizer(captions)[0]))


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("a red apple, 3 of 4 — “good”", []),
        ("ein grüner Café-Stern", []),
        ("красный круг", []),
        ("دائرة حمراء", []),
        ("🍎", ["🍎"]),
        ("pizza🍕 and a 🐱 and a 🐱", ["pizza🍕", "🐱"]),
        ("彩虹 in the sky", ["彩", "虹"]),
        ("빨간 원", ["빨간"]),
        ("", []),
    ],
)
def test_minilm_does_not_know_these_signs(minilm: FrozenReader, caption: str, words: list[str]) -> None:
    assert minilm.illegible(["a cat", caption]) == [[], words]


def test_a_caption_as_it_is_read_is_cut_with_the_marks_of_the_encoder(minilm: FrozenReader) -> None:
    assert minilm.num_marks == 2
    assert minilm.as_read("A  Red Café", 8) == ("a red cafe", 0)
    assert minilm.as_read("one two three four", 5) == ("one two three", 1)
    assert minilm.as_read("a 🍎", 8) == ("a [UNK]", 0)
    assert minilm.as_read("many " * 200, 64)[1] == 138
    reader = learned("a red circle", "a blue star")
    assert reader.as_read("A Red star", 64) == ("a red star", 0)
    assert reader.as_read("a red circle", 2) == ("a red", 1)


def test_a_learned_vocabulary_knows_the_signs_of_its_captions_and_no_others() -> None:
    reader = learned("红色的圆", "蓝色的星", "a red circle", "Über 🍎")
    known = ["红色的星", "the blue “cat”?", "ü Ü", "🍎🍎"]
    assert reader.illegible(known) == [[]] * 4
    assert reader.illegible(["猫 and 🐱, ß"]) == [["猫", "🐱", "ß"]]


def test_a_full_vocabulary_knows_every_sign_of_bytes_that_it_has_seen() -> None:
    rare = [chr(number) for number in range(0x4E00, 0x4E00 + 1500)]  # too many for a token each
    reader = learned(*rare, "a red circle")
    assert reader.illegible(["".join(rare[:50])]) == [[]]
    assert reader.illegible(["🍎"]) == [["🍎"]]


def test_tokens_do_not_cross_signs_that_stand_without_spaces() -> None:
    captions = ["红色的圆", "蓝色的星", "🔴🔵", "すし", "👨‍👩‍👧", "🇩🇪🇫🇷", "a red circle"] * 3
    reader = learned(*captions)
    one, other = reader.token_ids(["红色的星", "蓝色的圆"])  # neither was learned from
    assert len(one) == len(other) == 5  # the space in front, and each sign
    assert one[2:4] == other[2:4]
    assert [len(ids) for ids in reader.token_ids(["🔵🔴", "しす", "👨‍👩‍👧", "🇫🇷🇩🇪", "a red circle"])] == [3, 3, 2, 3, 3]


def test_no_two_captions_are_equal_to_a_learned_vocabulary() -> None:
    captions = ["🍕", "🐱", "猫", "犬", "قطة", "كلب", "a cat 🐱", "a cat 🐶", "mixed 红 أحمر"]
    reader = learned("only English words", "of a red circle")
    assert len({tuple(ids) for ids in reader.token_ids(captions)}) == len(captions)


def test_the_unknown_token_of_every_kind_of_tokenizer() -> None:
    word = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    word.pre_tokenizer = pre_tokenizers.Whitespace()
    pieces = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0, False))
    bytewise = Tokenizer(models.BPE({"a": 0, "<unk>": 1}, [], unk_token="<unk>", byte_fallback=True))
    none = Tokenizer.from_str(learn_tokenizer(["a"])[0])
    assert [_unknown_id(tokenizer) for tokenizer in (word, pieces, bytewise, none)] == [1, 0, None, None]


def test_encoders_have_the_reader_of_their_tokens() -> None:
    tokenizer, num = learn_tokenizer(["红色的圆"])
    encoder = make_encoder(TextConfig(encoder="learned", vocabulary=num), tokenizer)
    assert encoder.reader.illegible(["红圆", "🍎"]) == [[], ["🍎"]]
    assert make_encoder(TextConfig()).reader.illegible(["cat", "🍎"]) == [[], ["🍎"]]


def test_a_message_names_few_and_short_words() -> None:
    assert named(["a", "b", "a"]) == "'a', 'b'"
    assert named("abcdefg") == "'a', 'b', 'c', 'd', 'e', ..."
    assert named(["x" * 99]) == f"'{'x' * 20}...'"
