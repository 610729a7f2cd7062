"""From what is known of every picture to a report: counts, sizes, copies, look-alikes, captions."""

from __future__ import annotations

import re
import struct
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tintype.data.files import shown
from tintype.data.held_out import is_held_out
from tintype.data.pairs import Pair, Problem
from tintype.data.pictures import Facts
from tintype.data.report import Histogram, Report, counted
from tintype.data.similar import alike

FACTS = np.dtype(
    [("sha256", "u1", (32,)), ("width", "<u4"), ("height", "<u4"), ("look", "<u8"), ("thumb", "u1", (48,))]
)
HELD_OUT = 0.03  # share that a run holds out unless its configuration says otherwise
FEW_PICTURES = 100  # with fewer, a model mostly repeats them
MANY_LEFT_OUT = 0.05  # a share that deserves a word of its own
MANY_SHARED = 0.5  # share of captions that stand at several pictures, from which it is said
_EXTREMES = 12
_SIDES = (32, 64, 128, 256, 512, 1024, 2048)
_ASPECTS = ((0.5, "taller than 1:2"), (0.8, "tall"), (1.25, "about square"), (2.0, "wide"), (np.inf, "wider than 2:1"))
_DIRECTIONS = re.compile(r"\b(left|right|links|rechts|gauche|droite|izquierda|derecha)\b", re.IGNORECASE)


class Tokens(NamedTuple):
    """How long captions are for a text encoder."""

    encoder: str
    limit: int  # tokens; what is longer is cut
    lengths: Sequence[int]  # tokens of every caption, of all pictures in order


def packed_facts(facts: Facts) -> bytes:
    """One row of dtype FACTS."""
    rest = struct.pack("<IIQ", facts.width, facts.height, facts.look)
    return bytes.fromhex(facts.sha256) + rest + facts.thumb


def unpacked(rows: bytes | bytearray) -> NDArray[Any]:
    """Rows of `packed_facts`, end to end, as an array of dtype FACTS."""
    return np.frombuffer(rows, dtype=FACTS)


def in_hex(sha256: NDArray[np.uint8]) -> list[str]:
    """Hashes [N, 32] as text."""
    text = sha256.tobytes().hex()
    return [text[start : start + 64] for start in range(0, len(text), 64)]


def survey(
    data: str,
    pairs: Sequence[Pair],
    facts: NDArray[Any],
    problems: Sequence[Problem],
    tally: Counter[str],
    tokens: Tokens | None = None,
    held_out: float = HELD_OUT,
) -> Report:
    """Put together what is known of the usable pairs, `facts` [N] of dtype FACTS, and of the rest.

    tally: what was done to how many pictures.
    """
    duplicates = _copies(facts["sha256"])
    looks = facts["look"].copy()
    looks[[other for group in duplicates for other in group[1:]]] = 0  # copies are counted once
    groups = alike(looks, facts["thumb"])
    leaks = _leaks(groups, facts["sha256"], held_out)
    notes = [
        *_on_number(pairs, problems),
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
        tuple((pairs[one].key, pairs[other].key) for one, other in leaks),
        tuple(_histograms(facts, tokens)),
        tuple(_extremes(pairs, facts)),
    )


def _copies(sha256: NDArray[np.uint8]) -> list[list[int]]:
    """Groups of equal files."""
    heads = np.ascontiguousarray(sha256[:, :8]).view("<u8").ravel()
    order = np.argsort(heads, kind="stable")
    same = np.flatnonzero(heads[order][1:] == heads[order][:-1])
    groups: dict[bytes, list[int]] = {}
    for place in sorted({int(order[i + step]) for i in same.tolist() for step in (0, 1)}):
        groups.setdefault(sha256[place].tobytes(), []).append(place)
    return sorted(group for group in groups.values() if len(group) > 1)


def _leaks(groups: Sequence[Sequence[int]], sha256: NDArray[np.uint8], share: float) -> list[tuple[int, int]]:
    """Look-alikes of which a run would train on one and hold out the other."""
    found = []
    for group in groups:
        held = [i for i in group if is_held_out(bytes(sha256[i]).hex(), share)]
        trained = sorted(set(group) - set(held))
        if held and trained:
            found.append((trained[0], held[0]))
    return found


def _on_number(pairs: Sequence[Pair], problems: Sequence[Problem]) -> Iterable[str]:
    left_out = sum(problem.left_out for problem in problems)
    if len(pairs) == 1:
        yield "there is only one picture: the model will memorize it and draw nothing else"
    elif 0 < len(pairs) < FEW_PICTURES:
        yield f"{len(pairs)} pictures are few: the model will memorize them; some hundreds are a start"
    if left_out > MANY_LEFT_OUT * (left_out + len(pairs)):
        yield f"{100 * left_out / (left_out + len(pairs)):.0f}% are left out: see the reasons"


def _on_captions(pairs: Sequence[Pair], tokens: Tokens | None) -> Iterable[str]:
    several = empty = directions = 0
    hashes = array("q")  # of all captions, since themselves they would be the largest thing in memory
    for pair in pairs:
        several += len(pair.captions) > 1
        empty += "" in pair.captions
        directions += sum(_DIRECTIONS.search(caption) is not None for caption in pair.captions)
        hashes.extend(map(hash, pair.captions))
    if several:
        yield f"{counted(several, 'picture')} with several captions, of which each visit draws one"
    if empty:
        yield f"{counted(empty, 'picture')} with the empty caption"
    _, places, times = np.unique(np.asarray(hashes), return_index=True, return_counts=True)
    repeated = int(times[times > 1].sum())
    if repeated > MANY_SHARED * len(hashes):
        most = int(places[times.argmax()])
        shared = next(islice((caption for pair in pairs for caption in pair.captions), most, None))
        example = f"{shown(shared)!r}: {times.max()}"
        yield f"{counted(repeated, 'caption')} of {len(hashes)} stand at several pictures ({example})"
    if directions:
        yield f"{counted(directions, 'caption')} with left or right: such pictures must not be mirrored in training"
    if tokens is not None:
        cut = int((np.asarray(tokens.lengths) > tokens.limit).sum())
        if cut:
            longer = "longer than" if cut == 1 else "are longer than"
            yield (
                f"{counted(cut, 'caption')} {longer} the {tokens.limit} tokens that {tokens.encoder} reads: "
                "the end is not used"
            )


def _on_copies(
    pairs: Sequence[Pair],
    duplicates: Sequence[Sequence[int]],
    groups: Sequence[Sequence[int]],
    leaks: Sequence[tuple[int, int]],
) -> Iterable[str]:
    def example(group: Sequence[int]) -> str:
        return " = ".join(shown(pairs[i].key) for i in group[:2])

    if duplicates:
        extra = sum(len(group) - 1 for group in duplicates)
        yield f"{counted(extra, 'exact copy', 'exact copies')} of other pictures ({example(duplicates[0])})"
    if groups:
        number = sum(map(len, groups))
        yield f"{number} pictures look like others, in {counted(len(groups), 'group')} ({example(groups[0])})"
    if leaks:
        yield (
            f"{counted(len(leaks), 'group')} of look-alikes on both sides of what is held out, so that the error "
            f"measured there is a little too good ({example(leaks[0])})"
        )


def _histograms(facts: NDArray[Any], tokens: Tokens | None) -> Iterable[Histogram]:
    if not len(facts):
        return
    width, height = facts["width"].astype(np.float64), facts["height"].astype(np.float64)
    short = np.minimum(width, height)
    if short.min() == short.max():
        yield Histogram("shorter side, pixels", ((f"{int(short[0])}", len(short)),))
    else:
        labels = [f"below {_SIDES[0]}", *(f"{a} to {b - 1}" for a, b in pairwise(_SIDES))]
        places = np.digitize(short, _SIDES)
        yield _counted_rows("shorter side, pixels", [*labels, f"from {_SIDES[-1]}"], places)
    bounds = [bound for bound, _ in _ASPECTS[:-1]]
    yield _counted_rows("shape", [label for _, label in _ASPECTS], np.digitize(width / height, bounds))
    if tokens is not None and len(tokens.lengths):
        yield _lengths(tokens)


def _lengths(tokens: Tokens) -> Histogram:
    limit = tokens.limit
    bounds = sorted({1, *(max(1, limit * part // 8) for part in range(1, 9))})
    labels = [f"{low + 1} to {high}" for low, high in zip([0, *bounds], bounds, strict=False)]
    places = np.digitize(np.asarray(tokens.lengths), np.asarray(bounds) + 1)
    title = f"caption length, tokens of {tokens.encoder} (limit {limit})"
    return _counted_rows(title, [*labels, f"over {limit}: cut"], places)


def _counted_rows(title: str, labels: Sequence[str], places: NDArray[np.intp]) -> Histogram:
    numbers = np.bincount(places, minlength=len(labels))
    rows = [(label, int(number)) for label, number in zip(labels, numbers, strict=True)]
    while len(rows) > 1 and not rows[-1][1]:
        rows.pop()
    while len(rows) > 1 and not rows[0][1]:
        rows.pop(0)
    return Histogram(title, tuple(rows))


def _extremes(pairs: Sequence[Pair], facts: NDArray[Any]) -> Iterable[tuple[str, tuple[int, ...]]]:
    if not len(facts):
        return
    width, height = facts["width"].astype(np.float64), facts["height"].astype(np.float64)
    short, long = np.minimum(width, height), np.maximum(width, height)
    if short.min() < short.max():
        yield "smallest", tuple(np.argsort(short, kind="stable")[:_EXTREMES].tolist())
    stretched = np.argsort(-long / short, kind="stable")[:_EXTREMES]
    if long[stretched[0]] > 1.5 * short[stretched[0]]:
        yield "longest shapes", tuple(stretched.tolist())
    lengths = np.fromiter((max(map(len, pair.captions)) for pair in pairs), dtype=np.int32)
    yield "longest captions", tuple(np.argsort(-lengths, kind="stable")[:_EXTREMES].tolist())
