"""What captions are worth, on models that are known to listen, and known not to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tintype.data.thread_pool import finished
from tintype.diffusion.exact import gaussian_denoiser
from tintype.diffusion.noise import normal
from tintype.diffusion.parameterization import Denoise
from tintype.evaluation.caption_use import WordProbe, remove_word, shuffle_captions, word_effects, word_probes
from tintype.metrics.intervals import relative_reduction
from tintype.metrics.noise_error import evaluation_noise, noise_errors

SHAPE, SIGMAS = (3, 4, 4), torch.tensor([0.3, 3.0])
SIDES = {"left": -0.8, "right": 0.8}
CAPTIONS = ["a thing left", "a thing right"] * 200


def listening(captions: Sequence[str]) -> Denoise:
    """Pictures are N(-0.8 or 0.8, 0.04) as the caption says; without a word of it, the mean of both is all it knows."""
    means = torch.tensor([next((SIDES[w] for w in c.split() if w in SIDES), 0.0) for c in captions])
    return gaussian_denoiser(means[:, None, None, None], 0.04)


def deaf(captions: Sequence[str]) -> Denoise:
    return gaussian_denoiser(0.0, 0.68)


def measured(model, captions: Sequence[str]):  # type: ignore[no-untyped-def]
    x0 = torch.tensor([SIDES[c.split()[-1]] for c in CAPTIONS])[:, None, None, None]
    x0 = x0 + 0.2 * normal(5, 0, torch.arange(len(CAPTIONS)), SHAPE)
    noise = evaluation_noise(0, torch.arange(len(CAPTIONS)), SHAPE)
    return finished(noise_errors(model, x0, captions, noise, SIGMAS, batch=50))


def test_a_model_that_ignores_captions_gains_exactly_nothing() -> None:
    right, other, empty = (measured(deaf, c) for c in (CAPTIONS, shuffle_captions(CAPTIONS, 0), [""] * 400))
    for worse in (other, empty):
        for level in range(2):
            reduction = relative_reduction(right[:, level], worse[:, level])
            assert reduction.value == reduction.low == reduction.high == 0.0


def test_a_model_that_listens_gains_what_the_closed_form_says() -> None:
    """At sigma 3: error 0.04 / 9.04 with the caption, and with the other one the square of 1.6 * 9 / 9.04 on top."""
    other_captions = shuffle_captions(CAPTIONS, 0)
    assert all(a != b for a, b in zip(CAPTIONS, other_captions, strict=True))
    right, other = measured(listening, CAPTIONS), measured(listening, other_captions)
    for level, sigma in enumerate(SIGMAS.tolist()):
        variance = sigma**2
        with_it = 0.04 / (0.04 + variance)
        on_top = (1.6 * variance / (0.04 + variance)) ** 2 / variance
        reduction = relative_reduction(right[:, level], other[:, level])
        assert reduction.value == pytest.approx(1 - with_it / (with_it + on_top), abs=0.02)
        assert reduction.low <= reduction.value <= reduction.high


def test_the_word_that_matters_is_found() -> None:
    probes = word_probes(CAPTIONS, max_words=10, max_pictures=20)
    assert {probe.word for probe in probes} == {"left", "right"}  # every caption says the others
    picked = [CAPTIONS[probe.row] for probe in probes]
    assert all(probe.word in caption.split() for probe, caption in zip(probes, picked, strict=True))
    right = measured(listening, CAPTIONS)
    cut = list(CAPTIONS)
    for probe in probes:
        cut[probe.row] = probe.without
    rows = measured(listening, cut)[[probe.row for probe in probes]]
    effects = word_effects(probes, right, rows)
    assert all(use.effect.low > 1 and use.num == 20 for use in effects)
    unheard = word_effects(probes, right, right[[probe.row for probe in probes]])
    assert all(use.effect.value == 0 for use in unheard)


@given(st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=2, max_size=40), st.integers(0, 5))
def test_shuffled_captions_are_the_same_ones_at_other_pictures(captions: list[str], seed: int) -> None:
    shuffled = shuffle_captions(captions, seed)
    assert sorted(shuffled) == sorted(captions)
    most = max(captions.count(caption) for caption in captions)
    if 2 * most <= len(captions):
        assert all(a != b for a, b in zip(captions, shuffled, strict=True))


@pytest.mark.parametrize(
    ("caption", "word", "rest"),
    [
        ("a red circle left of a red square", "red", "a circle left of a square"),
        ("Red circle, on white", "red", "circle, on white"),
        ("a circle, white background", "circle", "a, white background"),
        ("star", "star", ""),
        ("ein Haus am See", "haus", "ein am See"),
    ],
)
def test_a_word_is_left_out_and_nothing_else(caption: str, word: str, rest: str) -> None:
    assert remove_word(caption, word) == rest


def test_rare_words_are_not_probed() -> None:
    assert word_probes(["a cat"] * 5 + ["a dog"] * 5, 10, 10) == []
    assert word_probes(["a cat"] * 6 + ["a dog"] * 4, 10, 2) == [WordProbe("cat", 0, "a"), WordProbe("cat", 1, "a")]
