"""Repeats: folders named `10_name`, as kohya's trainers use them, whose pictures are shown so many times as often."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from tintype.data.sources.pair_list import PairList
from tintype.data.sources.pairs import Listing, Problem, sorted_problems

APPLIED = "a folder whose leading number is how often an epoch shows each of its pictures (--repeats ignore: once)"
IGNORED = "a folder whose leading number is not taken as repeats (--repeats folder, or weight=N in a list of folders)"
COUNTED = "a folder whose leading number counts up from 1 with others: no repeats (weight=N in a list of folders)"
FEW = 3  # folders that count up from 1, from which on their numbers are those of classes
# Years and numbers with zeros before them mean other things; so do the folders of cameras, such as 101_PANA.
_REPEATS = re.compile(r"([1-9][0-9]{0,2})_(?=.*[^\W\d_])(.+)", re.DOTALL)
_CAMERA = re.compile(r"[1-9][0-9]{2}_[A-Z0-9]{4,5}")
ARCHIVES = (".tar", ".zip", ".parquet")  # stand in keys like folders


def repeats_and_words(folder: str) -> tuple[int, str]:
    """The number and the rest of a folder name such as `10_name`; 0 and the name itself for all others."""
    match = _REPEATS.fullmatch(folder)
    if match is None or _CAMERA.fullmatch(folder) or folder.lower().endswith(ARCHIVES):
        return 0, folder
    return int(match[1]), match[2]


def repeating_folders(key: str) -> list[str]:
    """The folders above a file whose names have the form `10_name`, the innermost first, as paths without a slash."""
    found = []
    while (key := posixpath.dirname(key)).strip("/"):  # the folder of "/" is "/" again
        if repeats_and_words(posixpath.basename(key))[0]:
            found.append(key)
    return found


def with_repeats(listing: Listing, policy: str) -> Listing:
    """The listing with the weights that its `repeating` folders mean, and a remark on each of these.

    policy: "folder" applies them; "ignore" does not.
    """
    if not listing.repeating:
        return listing
    counted = _counted(listing.repeating)
    repeats = {
        folder: 1 if folder in counted else repeats_and_words(posixpath.basename(folder))[0]
        for folder in listing.repeating
    }
    pairs = listing.pairs
    if policy == "folder":
        pairs = PairList(replace(pair, weight=pair.weight * _repeats(pair.key, repeats)) for pair in pairs)
    remarks = (
        Problem(folder, COUNTED if folder in counted else APPLIED if policy == "folder" else IGNORED, False)
        for folder in listing.repeating
    )
    return replace(listing, pairs=pairs, problems=sorted_problems([*listing.problems, *remarks]))


def _repeats(key: str, repeats: Mapping[str, int]) -> int:
    return next((repeats[folder] for folder in repeating_folders(key) if folder in repeats), 1)


def _counted(folders: Iterable[str]) -> Collection[str]:
    """The folders whose numbers count up from 1 beside each other: 1_cat, 2_dog, 3_bird."""
    numbers: dict[str, dict[str, int]] = defaultdict(dict)
    for folder in folders:
        parent, name = posixpath.split(folder)
        numbers[parent][folder] = repeats_and_words(name)[0]
    return {
        folder
        for siblings in numbers.values()
        if len(siblings) >= FEW and sorted(siblings.values()) == list(range(1, len(siblings) + 1))
        for folder in siblings
    }
