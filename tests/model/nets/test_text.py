"""Text: learned vocabularies of any language, the frozen encoder, and the empty caption."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tintype.config import NetConfig, TextConfig
from tintype.errors import CheckpointError, ConfigError
from tintype.model.nets import text as text_module
from tintype.model.nets.conditioning import pad_embeddings
from tintype.model.nets.text import FrozenEncoder, LearnedVocabulary, TextRefiner, make_encoder
from tintype.model.nets.tokens import learn_tokenizer

CAPTIONS = ["a red circle", "a blue square", "three green stars", "ein grüner Stern", "赤い丸", "красный круг"] * 3
NET = NetConfig(width=32, heads=2, text_depth=1)


@pytest.fixture(scope="module")
def tokenizer() -> str:
    return learn_tokenizer(CAPTIONS, 400)[0]


def test_known_words_become_few_tokens(tokenizer: str) -> None:
    encoder = LearnedVocabulary(tokenizer, 16)
    red, square = encoder.text_embeddings(["a red circle", "a blue square"])
    assert red.dtype == torch.int64
    assert len(red) == len(square) == 3
    assert red[0] == square[0]
    assert red[1] != square[1]


def test_learning_a_vocabulary_twice_gives_the_same_one(tokenizer: str) -> None:
    assert learn_tokenizer(CAPTIONS, 400)[0] == tokenizer


@given(st.text(max_size=40))
def test_any_text_has_tokens(text: str) -> None:
    tokenizer, size = learn_tokenizer(CAPTIONS, 400)
    (ids,) = LearnedVocabulary(tokenizer, 8).text_embeddings([text])
    assert len(ids) <= 8
    assert (ids >= 0).all()
    assert (ids < size).all()
    assert len(ids) > 0 or not text


def test_long_captions_are_cut_and_counted(tokenizer: str) -> None:
    encoder = LearnedVocabulary(tokenizer, 4)
    long = "a red circle a blue square"
    assert len(encoder.text_embeddings([long])[0]) == 4
    assert encoder.num_cut([long, "a red circle"]) == 1


def test_a_damaged_tokenizer_is_an_error_in_words() -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read"):
        LearnedVocabulary("{", 4)


def test_states_are_padded_and_masked() -> None:
    padded, mask = pad_embeddings([torch.tensor([5, 6]), torch.tensor([], dtype=torch.int64)], torch.device("cpu"))
    assert padded.tolist() == [[5, 6], [0, 0]]
    assert mask.tolist() == [[True, True], [False, False]]


def test_the_empty_caption_is_one_learned_token_whatever_its_neighbors() -> None:
    torch.manual_seed(0)
    refiner = TextRefiner(NET, TextConfig(encoder="learned", vocabulary=50, max_tokens=8))
    empty = torch.tensor([], dtype=torch.int64)
    alone = refiner([empty])
    beside = refiner([torch.tensor([1, 2, 3]), empty])
    assert alone.mask[0].sum() == beside.mask[1].sum() == 1
    torch.testing.assert_close(beside.tokens[1, 0], alone.tokens[0, 0])


def test_word_order_matters() -> None:
    torch.manual_seed(0)
    refiner = TextRefiner(NET, TextConfig(encoder="learned", vocabulary=50, max_tokens=8))
    one, other = refiner([torch.tensor([1, 2, 3])]), refiner([torch.tensor([3, 2, 1])])
    assert not torch.allclose(one.tokens.mean(1), other.tokens.mean(1), atol=1e-4)


@pytest.mark.slow
def test_minilm_states_know_that_words_are_alike() -> None:
    encoder = make_encoder(TextConfig(encoder="minilm", max_tokens=16))
    embeddings = encoder.text_embeddings(["a small dog", "a little puppy", "the stock market", ""])
    assert [state.shape[1] for state in embeddings] == [384] * 4
    assert len(embeddings[3]) == 0
    dog, puppy, market = (torch.nn.functional.normalize(state.float().mean(0), dim=0) for state in embeddings[:3])
    assert dog @ puppy > 0.6 > 0.4 > dog @ market


@pytest.mark.slow
def test_minilm_states_do_not_depend_on_the_batch() -> None:
    encoder = make_encoder(TextConfig(encoder="minilm", max_tokens=16))
    alone = encoder.text_embeddings(["a dog"])[0]
    beside = encoder.text_embeddings(["a dog", "a much longer caption about something else"])[0]
    torch.testing.assert_close(alone, beside, atol=2e-3, rtol=2e-3)
    assert encoder.num_cut(["word " * 40, "short"]) == 1


def test_a_folder_without_weights_and_a_changed_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no model\.safetensors"):
        FrozenEncoder(tmp_path, "hf:x", 8)
    (tmp_path / "model.safetensors").write_bytes(b"other")
    with pytest.raises(CheckpointError, match="not the expected file"):
        FrozenEncoder(tmp_path, "minilm", 8, sha256={"model.safetensors": "0" * 64})


def test_a_learned_vocabulary_needs_its_file() -> None:
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        make_encoder(TextConfig(encoder="learned"))


def test_a_name_that_is_not_on_this_machine_says_what_to_do() -> None:
    with pytest.raises(CheckpointError, match="downloads nothing"):
        make_encoder(TextConfig(encoder="hf:nobody/no-such-encoder"))


@pytest.mark.slow
def test_many_captions_at_once_have_the_embeddings_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "MANY_CAPTIONS", 3)
    monkeypatch.setattr(text_module, "_SORTED_BATCH", 2)
    captions = ["a dog", "", "a much longer caption about something else", "a cat on a mat", "a red circle", "a dog"]
    encoder = make_encoder(TextConfig(encoder="minilm", max_tokens=8))
    alone = [encoder.text_embeddings([caption])[0] for caption in captions]
    for is_faster, tolerance in ((False, 2e-3), (True, 0.1)):  # float32, then bfloat16
        encoder.__dict__["_bf16_is_faster"] = is_faster
        for one, other in zip(encoder.text_embeddings(captions), alone, strict=True):
            assert one.dtype == torch.float16
            torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)
