"""The network: no token before its time; reading on is reading at once; bits are a likelihood."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from tintype.tokens.likelihood import bits_of
from tintype.tokens.model import TokenModel

CAPTIONS = ["a red circle", ""]


@pytest.mark.parametrize("place", [0, 1, 7, 15])
def test_a_token_changes_nothing_before_it(model: TokenModel, place: int) -> None:
    tokens = torch.randint(0, 24, (2, 16))
    changed = tokens.clone()
    changed[:, place] = (tokens[:, place] + 1) % 24
    cond = model.encode(CAPTIONS)
    before, after = model.net(tokens, cond), model.net(changed, cond)
    assert torch.equal(before[:, : place + 1], after[:, : place + 1])  # the logits of `place` itself do not know it
    if place < 15:
        assert not torch.allclose(before[:, place + 1], after[:, place + 1])


@pytest.mark.parametrize("chunks", [[1] * 15, [4, 4, 7], [15], [1, 14]])
def test_reading_on_with_cached_keys_is_reading_at_once(model: TokenModel, chunks: list[int]) -> None:
    tokens = torch.randint(0, 24, (2, 16))
    cond = model.encode(CAPTIONS)
    reading = model.net.start(cond)
    parts = [model.net.extend(reading, tokens[:, :0])]
    for start, num in zip(itertools.accumulate([0, *chunks[:-1]]), chunks, strict=True):
        parts.append(model.net.extend(reading, tokens[:, start : start + num]))
    assert torch.allclose(torch.cat(parts, dim=1), model.net(tokens, cond), atol=1e-4)


def test_pictures_and_captions_of_a_batch_do_not_touch_each_other(model: TokenModel) -> None:
    tokens = torch.randint(0, 24, (2, 16))
    captions = ["a red circle", "a blue square left of a green star"]
    together = model.net(tokens, model.encode(captions))
    for row in range(2):
        alone = model.net(tokens[row : row + 1], model.encode(captions[row : row + 1]))
        assert torch.allclose(together[row : row + 1], alone, atol=1e-4)


def test_the_caption_and_the_place_matter(model: TokenModel) -> None:
    tokens = torch.zeros(2, 16, dtype=torch.int64)
    logits = model.net(tokens, model.encode(CAPTIONS))
    assert not torch.allclose(logits[0], logits[1])
    assert not torch.allclose(logits[0, 3], logits[0, 4])


def test_bits_are_the_sum_of_log_probabilities(model: TokenModel) -> None:
    tokens, cond = torch.randint(0, 24, (2, 16)), model.encode(CAPTIONS)
    chosen = model.net(tokens, cond).log_softmax(-1).gather(2, tokens[..., None])[..., 0]
    assert torch.allclose(model(tokens, cond), -chosen / math.log(2), atol=1e-4)


def test_the_probabilities_of_all_tokens_of_a_place_sum_to_one(model: TokenModel) -> None:
    prefix = torch.randint(0, 24, (1, 16)).repeat(24, 1)
    prefix[:, 9] = torch.arange(24)
    bits = model(prefix, model.encode(["a red circle"] * 24))[:, 9]
    assert float((2.0**-bits).sum()) == pytest.approx(1, abs=1e-5)


def test_a_fresh_network_takes_all_tokens_for_equally_likely(model: TokenModel) -> None:
    fresh = TokenModel(model.config, model.codebook.codes, model.tokenizer)
    bits = fresh(torch.randint(0, 24, (2, 16)), fresh.encode(CAPTIONS))
    assert torch.allclose(bits, torch.full((2, 16), math.log2(24)))


def test_the_gradient_of_bits_is_that_of_cross_entropy() -> None:
    shapes = [(300, 8), (33, 8), (33,)]  # more rows than are computed at once
    ours, plain = ([torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_() for shape in shapes]
                   for _ in range(2))  # fmt: skip
    tokens, weights = torch.randint(0, 33, (300,)), torch.rand(300)
    bits = bits_of(ours[0], ours[1], ours[2], tokens)
    nats = F.cross_entropy(plain[0] @ plain[1].T + plain[2], tokens, reduction="none")
    assert torch.allclose(bits, nats / math.log(2), atol=1e-5)
    (bits * weights).sum().backward()
    (nats / math.log(2) * weights).sum().backward()
    for one, other in zip(ours, plain, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad, other.grad, atol=1e-4)
