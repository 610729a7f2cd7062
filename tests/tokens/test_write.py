"""Writing: draws depend on seed, index and place alone; given tokens stay; temperature, top_k and guidance act."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from tintype.errors import ConfigError
from tintype.tokens.write import Switch
from tintype.tokens.writer import TokenWriter

CAPTION = "a red circle"
STAR = "a blue square left of a green star"


def test_the_same_seed_writes_the_same_picture_alone_and_in_a_batch(writer: TokenWriter) -> None:
    batch = writer.tokens(writer.request([CAPTION, STAR, CAPTION], seeds=[1, 2, 3]))
    for row, (caption, seed) in enumerate([(CAPTION, 1), (STAR, 2), (CAPTION, 3)]):
        assert torch.equal(writer.tokens(writer.request(caption, seeds=seed))[0], batch[row])
    assert len({tuple(row.tolist()) for row in batch}) == 3


def test_pictures_of_one_seed_differ_by_their_index(writer: TokenWriter) -> None:
    pictures = writer.tokens(writer.request([CAPTION] * 2, seeds=5))
    assert not torch.equal(pictures[0], pictures[1])
    assert torch.equal(writer.tokens(writer.request(CAPTION, seeds=5, indices=[1]))[0], pictures[1])


def test_going_on_after_a_prefix_is_the_same_picture(writer: TokenWriter) -> None:
    whole = writer.tokens(writer.request(CAPTION, seeds=7))[0].tolist()
    for length in (1, 9, 15, 16):
        again = writer.tokens(writer.request(CAPTION, seeds=7, given=[whole[:length]]))
        assert again[0].tolist() == whole


def test_a_changed_token_stays_and_all_before_it_too(writer: TokenWriter) -> None:
    whole = writer.tokens(writer.request(CAPTION, seeds=7))[0].tolist()
    changed = [*whole[:6], (whole[6] + 1) % 24]
    steps = list(writer.write(writer.request(CAPTION, seeds=7, given=[changed])))
    assert [int(step.tokens[0]) for step in steps][:7] == changed
    assert [bool(step.given[0]) for step in steps] == [True] * 7 + [False] * 9


def test_what_comes_later_is_not_seen_before_its_place(writer: TokenWriter) -> None:
    free = writer.tokens(writer.request(CAPTION, seeds=2))[0].tolist()
    end = [3] * 8
    kept = writer.tokens(writer.request(CAPTION, seeds=2, given=[[*[None] * 8, *end]]))[0].tolist()
    assert kept == [*free[:8], *end]


def test_probabilities_and_bits_are_those_of_the_model(writer: TokenWriter) -> None:
    steps = list(writer.write(writer.request(CAPTION, temperature=1.0, guidance=1.0, alternatives=24)))
    tokens = torch.stack([step.tokens for step in steps], dim=1)
    bits = torch.stack([step.bits for step in steps], dim=1)
    assert torch.allclose(bits, writer.bits(tokens, [CAPTION]), atol=1e-4)
    for step in steps:
        assert float(step.probability[0]) == pytest.approx(2.0 ** -float(step.bits[0]), rel=1e-4)
        assert float(step.probabilities.sum()) == pytest.approx(1, abs=1e-5)
        assert all(one >= other for one, other in pairwise(step.probabilities[0].tolist()))


def test_draws_are_as_frequent_as_probable(writer: TokenWriter) -> None:
    num = 2000
    step = next(iter(writer.write(writer.request([CAPTION] * num, temperature=1.0, guidance=1.0, alternatives=24))))
    frequencies = torch.bincount(step.tokens, minlength=24)[step.alternatives[0]] / num
    assert (frequencies - step.probabilities[0]).abs().max() < 0.04


def test_temperature_zero_and_top_one_take_the_likeliest(writer: TokenWriter) -> None:
    cold = list(writer.write(writer.request(CAPTION, temperature=0.0, alternatives=1)))
    first = writer.tokens(writer.request(CAPTION, seeds=9, top_k=1))
    assert [int(step.tokens[0]) for step in cold] == first[0].tolist()
    assert all(int(step.tokens[0]) == int(step.alternatives[0, 0]) for step in cold)
    few = list(writer.write(writer.request(CAPTION, top_k=3, alternatives=24)))
    assert all(int((step.probabilities[0] > 0).sum()) == 3 for step in few)


def test_guidance_acts_and_does_nothing_at_one(writer: TokenWriter) -> None:
    def shares(guidance: float) -> torch.Tensor:
        request = writer.request(CAPTION, guidance=guidance, temperature=1.0, alternatives=24)
        step = next(iter(writer.write(request)))
        return torch.zeros(24).scatter_(0, step.alternatives[0], step.probabilities[0])

    with_caption, without, guided = shares(1.0), shares(0.0), shares(3.0)
    expected = (3 * with_caption.log() - 2 * without.log()).softmax(0)
    assert torch.allclose(guided, expected, atol=1e-4)
    assert not torch.allclose(guided, with_caption, atol=1e-3)


def test_another_caption_from_a_place_on(writer: TokenWriter) -> None:
    switched = writer.request(CAPTION, seeds=4, switch=Switch(place=8, captions=(STAR,)))
    tokens = writer.tokens(switched)[0].tolist()
    assert tokens[:8] == writer.tokens(writer.request(CAPTION, seeds=4))[0].tolist()[:8]
    assert tokens == writer.tokens(writer.request(STAR, seeds=4, given=[tokens[:8]]))[0].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature must be between 0 and 4, not -1"),
        ({"temperature": float("nan")}, "temperature must be between"),
        ({"top_k": 25}, "top_k must be between 0 and 24, not 25"),
        ({"given": [[24]]}, "tokens must be codes from 0 to 23"),
        ({"given": [[0] * 17]}, "tokens must be at most 16"),
        ({"given": [[0], [1]]}, "given must have the tokens of 1 pictures, not 2"),
        ({"switch": Switch(place=16, captions=("a",))}, "switch_at must be a place from 1 to 15, not 16"),
        ({"seeds": -1}, "seeds must be from 0"),
    ],
)
def test_bad_requests_are_refused_by_name(writer: TokenWriter, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        writer.request([CAPTION], **options)  # type: ignore[arg-type]
