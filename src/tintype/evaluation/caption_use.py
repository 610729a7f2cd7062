"""Caption use: how much the noise error depends on the caption, and on single words of it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tintype.diffusion.noise import Purpose, permutation
from tintype.evaluation.results import CaptionUse, WordEffect
from tintype.metrics.intervals import column_means, mean, relative_reduction

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
MIN_OCCURRENCES = 6  # captions that must contain a word for it to be probed
MAX_FREQUENCY = 0.9  # of captions; a more frequent word, such as "a", distinguishes nothing


def shuffle_captions(captions: Sequence[str], seed: int) -> list[str]:
    """A random permutation of the captions in which each differs from the one it replaces, as far as possible."""
    num = len(captions)
    receivers = permutation(seed, Purpose.SHUFFLE, 0, num).tolist()
    donors = receivers[1:] + receivers[:1]
    for here in range(num):
        if captions[donors[here]] != captions[receivers[here]]:
            continue
        for step in range(1, num):  # swap with the next one where both captions then differ
            there = (here + step) % num
            swapped = captions[donors[there]], captions[donors[here]]
            if swapped[0] != captions[receivers[here]] and swapped[1] != captions[receivers[there]]:
                donors[here], donors[there] = donors[there], donors[here]
                break
    shuffled = [""] * num
    for receiver, donor in zip(receivers, donors, strict=True):
        shuffled[receiver] = captions[donor]
    return shuffled


class WordProbe(NamedTuple):
    """A picture whose caption contains a word, and the caption without it."""

    word: str
    row: int  # of the picture
    without: str


def word_probes(captions: Sequence[str], max_words: int, max_pictures: int) -> list[WordProbe]:
    """Up to `max_pictures` probes for each of the `max_words` most frequent words.

    Words in more than `MAX_FREQUENCY` of the captions or in fewer than `MIN_OCCURRENCES` are left out.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for row, caption in enumerate(captions):
        for word in dict.fromkeys(_WORD.findall(caption.lower())):
            rows[word].append(row)
    words = [word for word in rows if MIN_OCCURRENCES <= len(rows[word]) <= MAX_FREQUENCY * len(captions)]
    words.sort(key=lambda word: (-len(rows[word]), word))
    return [
        WordProbe(word, row, remove_word(captions[row], word))
        for word in words[:max_words]
        for row in rows[word][:max_pictures]
    ]


def remove_word(caption: str, word: str) -> str:
    """The caption without any occurrence of a word (lower case)."""
    rest = _WORD.sub(lambda match: "" if match.group().lower() == word else match.group(), caption)
    return re.sub(r"\s+([,.;:!?])", r"\1", " ".join(rest.split())).strip(" ,;:")


def summarize_caption_use(
    right: Tensor, other: Tensor, empty: Tensor, words: list[WordEffect], word_sigmas: list[float], on_unseen: bool
) -> CaptionUse:
    """Summarize noise errors [N, K] under the right caption, another picture's caption and no caption."""
    return CaptionUse(
        on_unseen=on_unseen,
        right=column_means(right),
        other=column_means(other),
        empty=column_means(empty),
        gain_over_other=[relative_reduction(a, b) for a, b in zip(right.unbind(1), other.unbind(1), strict=True)],
        gain_over_empty=[relative_reduction(a, b) for a, b in zip(right.unbind(1), empty.unbind(1), strict=True)],
        words=words,
        word_sigmas=word_sigmas,
    )


def word_effects(probes: Sequence[WordProbe], with_word: Tensor, without: Tensor) -> list[WordEffect]:
    """The relative rise of the noise error when a word is removed, the largest first.

    with_word [N, K]: errors of all pictures; without [P, K]: errors of the probes. All levels weigh the same.
    """
    probes_of_word: dict[str, list[int]] = defaultdict(list)
    for index, probe in enumerate(probes):
        probes_of_word[probe.word].append(index)
    base = with_word.mean(0)
    effects = []
    for word, indices in probes_of_word.items():
        rows = torch.tensor([probes[index].row for index in indices])
        rise = ((without[indices] - with_word[rows]) / base).mean(1)
        effects.append(WordEffect(word=word, effect=mean(rise), num=len(indices)))
    return sorted(effects, key=lambda effect: -effect.effect.value)
