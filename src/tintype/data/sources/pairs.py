"""A picture and its captions; what is wrong with the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tintype.data.sources.captions import EMPTY, NO_CAPTION, clean_caption
from tintype.data.sources.files import ImageSource


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture and its captions."""

    key: str  # path relative to the data, with forward slashes; unique
    source: ImageSource
    captions: tuple[str, ...]  # at least one
    weight: float = 1.0  # how often it is shown, relative to the others


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the data that is not as it should be."""

    path: str  # relative to the data; FILE:LINE for a line of a metadata file
    reason: str
    left_out: bool = True  # False: it is used, but the user should know
    source: ImageSource | None = field(default=None, compare=False, repr=False)  # of the picture, if it is one


@dataclass(frozen=True, slots=True)
class Listing:
    """What a source holds, before any picture is opened."""

    pairs: Sequence[Pair]
    problems: tuple[Problem, ...]
    num_pictures: int = 0  # with or without a caption


def substitute(policy: str, key: str, reason: str) -> tuple[str, ...]:
    """Captions for a picture that has none, by the policy "skip", "empty" or "name"; () leaves it out."""
    if reason not in (NO_CAPTION, EMPTY) or policy == "skip":
        return ()
    if policy == "empty":
        return ("",)
    return (clean_caption(PurePosixPath(key).name.split(".")[0].replace("_", " ").replace("-", " ")),)


def sorted_problems(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda problem: problem.path))
