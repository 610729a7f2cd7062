"""Summaries: counts, sizes, copies, near-duplicates and captions of checked pictures, as a report."""

from __future__ import annotations

import heapq
import math
import re
import struct
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tintype.data.check.report import Histogram, ReadCaption, Report, counted
from tintype.data.images.facts import exact_duplicates, hex_digests
from tintype.data.images.perceptual_hash import near_duplicates
from tintype.data.sources.captions import NO_CAPTION
from tintype.data.sources.names import offers, says_nothing
from tintype.data.sources.pairs import Pair, Problem
from tintype.data.sources.row_file import RowFile, Rows, chunks, sorted_by_key
from tintype.data.split import is_held_out
from tintype.printable import printable

HELD_OUT = 0.03  # the default share of pictures that a run holds out
FEW_PICTURES = 100  # with fewer, a model mostly memorizes them
MANY_LEFT_OUT = 0.05  # share of pictures from which a note appears
MANY_SHARED = 0.5  # share of repeated captions from which a note appears
_EXTREMES = 12
_SIDES = (32, 64, 128, 256, 512, 1024, 2048)
_ASPECTS = ((0.5, "taller than 1:2"), (0.8, "tall"), (1.25, "about square"), (2.0, "wide"), (np.inf, "wider than 2:1"))
_DIRECTIONS = re.compile(r"\b(left|right|links|rechts|gauche|droite|izquierda|derecha)\b", re.IGNORECASE)


class Tokens(NamedTuple):
    """Captions in tokens of a text encoder."""

    encoder: str
    limit: int  # tokens; the encoder cuts longer captions
    lengths: Mapping[int, int]  # number of captions for each number of tokens
    note: str = ""  # about what the encoder cannot read, if anything
    read: tuple[ReadCaption, ...] = ()  # some captions as it reads them


def summarize(
    data: str,
    pairs: Sequence[Pair],
    facts: Rows,
    problems: Sequence[Problem],
    tally: Counter[str],
    tokens: Tokens | None = None,
    held_out: float = HELD_OUT,
) -> Report:
    """Summarize the usable `pairs`, with their `facts` [N] of dtype FACTS, and the `problems` of the others.

    tally: conversions, and the number of pictures of each. The work goes in batches, so that memory grows only with
    the number of problems, copies and near-duplicates.
    """
    duplicates = exact_duplicates(facts)
    groups = near_duplicates(facts, [other for group in duplicates for other in group[1:]])  # copies are counted once
    leaks = _leaks(groups, facts, held_out)
    notes = [
        *_on_number(pairs, problems),
        *_on_missing_captions(pairs, problems),
        *_on_captions(pairs, tokens),
        *_on_copies(pairs, duplicates, groups, leaks),
        *(f"{counted(number, 'picture')}: {note}" for note, number in sorted(tally.items())),
    ]
    return Report(
        data,
        pairs,
        tuple(problems),
        tuple(notes),
        tuple(tuple(pairs[i].key for i in group) for group in duplicates),
        tuple(tuple(pairs[i].key for i in group) for group in groups),
        tuple((pairs[trained].key, pairs[held].key) for trained, held in leaks),
        tuple(_histograms(facts, tokens)),
        tuple(_extremes(pairs, facts)),
        () if tokens is None else tokens.read,
        "" if tokens is None else tokens.encoder,
    )


def _leaks(groups: Sequence[Sequence[int]], facts: Rows, share: float) -> list[tuple[int, int]]:
    """Near-duplicates on both sides of the split: (trained on, held out) of each group."""
    leaks = []
    for group in groups:
        held = [i for i in group if is_held_out(hex_digests(facts[i : i + 1]["sha256"])[0], share)]
        trained = sorted(set(group) - set(held))
        if held and trained:
            leaks.append((trained[0], held[0]))
    return leaks


def _on_number(pairs: Sequence[Pair], problems: Sequence[Problem]) -> Iterable[str]:
    left_out = sum(problem.left_out for problem in problems)
    if len(pairs) == 1:
        yield "there is only one picture, so the model will memorize it: add more"
    elif 0 < len(pairs) < FEW_PICTURES:
        yield f"{len(pairs)} pictures are few, so the model will memorize them: add more, a few hundred are a start"
    if left_out > MANY_LEFT_OUT * (left_out + len(pairs)):
        yield f"{100 * left_out / (left_out + len(pairs)):.0f}% of the pictures are left out: see the reasons"


def _on_missing_captions(pairs: Sequence[Pair], problems: Sequence[Problem]) -> Iterable[str]:
    missing = [problem for problem in problems if problem.reason == NO_CAPTION]
    if len(missing) > MANY_LEFT_OUT * (len(missing) + len(pairs)):
        yield f"{counted(len(missing), 'picture')} without a caption: {offers(missing)}"


def _on_captions(pairs: Sequence[Pair], tokens: Tokens | None) -> Iterable[str]:
    several = empty = directions = nothing = 0
    example = ""  # of captions that say nothing
    hashes = RowFile("<i8")  # of all captions
    for pair in pairs:
        several += len(pair.captions) > 1
        empty += "" in pair.captions
        directions += sum(_DIRECTIONS.search(caption) is not None for caption in pair.captions)
        for caption in pair.captions:
            if caption and says_nothing(caption):
                nothing, example = nothing + 1, example or caption
        hashes.append(struct.pack(f"<{len(pair.captions)}q", *map(hash, pair.captions)))
    if several:
        yield f"{counted(several, 'picture')} with several captions: training picks one at random each time"
    if empty:
        yield f"{counted(empty, 'picture')} with an empty caption"
    distinct, repeated, times, first = _repeated(hashes)
    if repeated > MANY_SHARED * len(hashes):
        shared = next(islice((caption for pair in pairs for caption in pair.captions), first, None))
        yield _on_repeated(distinct, len(hashes), printable(shared), times)
    elif nothing > MANY_SHARED * len(hashes):
        yield (
            f"{counted(nothing, 'caption')} of {len(hashes)} are numbers, dates or names of files "
            f"({printable(example)!r}), from which nothing can be learned: write what the pictures show, or see "
            "--caption-from"
        )
    if directions:
        yield f"{counted(directions, 'caption')} with the word left or right: train with flip = false"
    if tokens is not None:
        if tokens.note:
            yield tokens.note
        cut = sum(number for length, number in tokens.lengths.items() if length > tokens.limit)
        if cut:
            longer = "longer than" if cut == 1 else "are longer than"
            yield (
                f"{counted(cut, 'caption')} {longer} the {tokens.limit} tokens that {tokens.encoder} reads: "
                "the end is not used"
            )


def _on_repeated(distinct: int, num: int, shared: str, times: int) -> str:
    """What it means that most captions stand at several pictures."""
    if distinct == 1:
        return f"all pictures have the caption {shared!r}: the model draws them whatever it is asked for"
    return (
        f"{distinct:,} different captions stand {num:,} times (most often {shared!r}, {times:,} times), as class names "
        "do: that is fine, and the model learns what the pictures of each have in common"
    )


def _repeated(hashes: RowFile) -> tuple[int, int, int, int]:
    """The numbers of different and of repeated captions; the count of the most frequent one; its first index."""

    def keyed(start: int, part: NDArray[Any]) -> NDArray[Any]:
        rows = np.empty(len(part), dtype=[("key", "<u8"), ("index", "<i8")])
        rows["key"], rows["index"] = part.view("<u8"), np.arange(start, start + len(part))
        return rows

    distinct = repeated = most = first = 0
    for rows in sorted_by_key(hashes, keyed):
        _, starts, times = np.unique(rows["key"], return_index=True, return_counts=True)
        distinct += len(times)
        repeated += int(times[times > 1].sum())
        if len(times) and times.max() > most:
            most, first = int(times.max()), int(rows["index"][starts[times.argmax()]])
    return distinct, repeated, most, first


def _on_copies(
    pairs: Sequence[Pair],
    duplicates: Sequence[Sequence[int]],
    groups: Sequence[Sequence[int]],
    leaks: Sequence[tuple[int, int]],
) -> Iterable[str]:
    def example(group: Sequence[int]) -> str:
        return " = ".join(printable(pairs[i].key) for i in group[:2])

    if duplicates:
        extra = sum(len(group) - 1 for group in duplicates)
        copies = counted(extra, "exact copy", "exact copies")
        yield f"{copies} of other pictures ({example(duplicates[0])}): train --dedupe keeps one of each"
    if groups:
        number = sum(map(len, groups))
        yield f"{number} pictures look nearly the same, in {counted(len(groups), 'group')} ({example(groups[0])})"
    if leaks:
        yield (
            f"{counted(len(leaks), 'group')} of near-duplicates with pictures both trained on and held out, so the "
            f"error on held-out pictures looks too low ({example(leaks[0])})"
        )


def _histograms(facts: Rows, tokens: Tokens | None) -> Iterable[Histogram]:
    if not len(facts):
        return
    sides = np.zeros(len(_SIDES) + 1, dtype=np.int64)
    shapes = np.zeros(len(_ASPECTS), dtype=np.int64)
    bounds = [bound for bound, _ in _ASPECTS[:-1]]
    least, most = 2**32, 0
    for _, part in chunks(facts):
        short = np.minimum(part["width"], part["height"])
        least, most = min(least, int(short.min())), max(most, int(short.max()))
        sides += np.bincount(np.digitize(short, _SIDES), minlength=len(sides))
        shapes += np.bincount(np.digitize(part["width"] / part["height"], bounds), minlength=len(shapes))
    if least == most:
        yield Histogram("shorter side, pixels", ((f"{least}", len(facts)),))
    else:
        labels = [f"below {_SIDES[0]}", *(f"{a} to {b - 1}" for a, b in pairwise(_SIDES))]
        yield _counted_rows("shorter side, pixels", [*labels, f"from {_SIDES[-1]}"], sides.tolist())
    yield _counted_rows("shape", [label for _, label in _ASPECTS], shapes.tolist())
    if tokens is not None and tokens.lengths:
        yield _lengths(tokens)


def _lengths(tokens: Tokens) -> Histogram:
    limit = tokens.limit
    bounds = sorted({1, *(max(1, limit * part // 8) for part in range(1, 9))})
    labels = [f"{low + 1} to {high}" for low, high in zip([0, *bounds], bounds, strict=False)]
    numbers = [0] * (len(labels) + 1)
    for length, number in tokens.lengths.items():
        numbers[bisect_left(bounds, length)] += number
    title = f"caption length, tokens of {tokens.encoder} (limit {limit})"
    return _counted_rows(title, [*labels, f"over {limit}: cut"], numbers)


def _counted_rows(title: str, labels: Sequence[str], numbers: Sequence[int]) -> Histogram:
    rows = list(zip(labels, numbers, strict=True))
    while len(rows) > 1 and not rows[-1][1]:
        rows.pop()
    while len(rows) > 1 and not rows[0][1]:
        rows.pop(0)
    return Histogram(title, tuple(rows))


def _extremes(pairs: Sequence[Pair], facts: Rows) -> Iterable[tuple[str, tuple[int, ...]]]:
    if not len(facts):
        return
    smallest, longest = _Least(), _Least()
    for start, part in chunks(facts):
        short = np.minimum(part["width"], part["height"]).astype(np.float64)
        smallest.add(start, short)
        longest.add(start, -np.maximum(part["width"], part["height"]) / short)
    if smallest.least[0][0] < smallest.largest:
        yield "smallest", smallest.indices
    if longest.least[0][0] < -1.5:
        yield "most elongated", longest.indices
    lengths = ((-max(map(len, pair.captions)), number) for number, pair in enumerate(pairs))
    yield "longest captions", tuple(number for _, number in heapq.nsmallest(_EXTREMES, lengths))


class _Least:
    """The smallest of very many values, ties in order of their indices."""

    def __init__(self) -> None:
        self.least: list[tuple[float, int]] = []  # value and index
        self.largest = -math.inf  # of all values

    def add(self, start: int, values: NDArray[np.float64]) -> None:
        """Add values, the first of which has the index `start`."""
        order = np.argsort(values, kind="stable")[:_EXTREMES].tolist()
        self.least = sorted([*self.least, *((float(values[i]), start + i) for i in order)])[:_EXTREMES]
        self.largest = max(self.largest, float(values.max()))

    @property
    def indices(self) -> tuple[int, ...]:
        return tuple(index for _, index in self.least)
