"""Whether a model listens: what the right caption is worth against another one, none, and one with a word left out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from tintype.diffusion.noise import Purpose, permutation

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
MIN_PICTURES = 6  # that a word must be said of, before anything is said about it


def shuffle_captions(captions: Sequence[str], seed: int) -> list[str]:
    """For each caption that of another picture, drawn at random, and of other words wherever that is possible."""
    num = len(captions)
    places = permutation(seed, Purpose.SHUFFLE, 0, num).tolist()
    given = places[1:] + places[:1]
    for here in range(num):
        if captions[given[here]] != captions[places[here]]:
            continue
        for step in range(1, num):  # change with the next one that leaves both with other words
            there = (here + step) % num
            if captions[given[there]] != captions[places[here]] and captions[given[here]] != captions[places[there]]:
                given[here], given[there] = given[there], given[here]
                break
    found = [""] * num
    for place, other in zip(places, given, strict=True):
        found[place] = captions[other]
    return found


class WordProbe(NamedTuple):
    """A picture whose caption says a word, and the caption without it."""

    word: str
    picture: int
    without: str


def word_probes(captions: Sequence[str], max_words: int, max_pictures: int) -> list[WordProbe]:
    """Up to `max_pictures` probes for each of the `max_words` words that most captions say, but not nearly all.

    A word that nine of ten captions say, `a` perhaps, tells nothing apart; one that fewer than six say is not probed.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, caption in enumerate(captions):
        for word in dict.fromkeys(_WORD.findall(caption.lower())):
            places[word].append(place)
    usable = [word for word, said in places.items() if MIN_PICTURES <= len(said) <= 0.9 * len(captions)]
    usable.sort(key=lambda word: (-len(places[word]), word))
    return [
        WordProbe(word, place, remove_word(captions[place], word))
        for word in usable[:max_words]
        for place in places[word][:max_pictures]
    ]


def remove_word(caption: str, word: str) -> str:
    """The caption with every occurrence of a word (lower case) left out."""
    rest = _WORD.sub(lambda found: "" if found.group().lower() == word else found.group(), caption)
    return re.sub(r"\s+([,.;:!?])", r"\1", " ".join(rest.split())).strip(" ,;:")
