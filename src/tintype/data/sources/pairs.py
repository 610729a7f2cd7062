"""Pairs of a picture and its captions, and problems with the files that give none."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tintype.data.sources.files import ImageSource

NEITHER = "neither a picture nor a caption"
EXAMPLES = 3  # of the paths with one reason
# FILE:LINE, perhaps with the file name that the line has. A longer number is part of a name.
_LINE = re.compile(r"(.+?):([0-9]{1,18})(?:: .*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture and its captions."""

    key: str  # path relative to the data, with forward slashes; unique
    source: ImageSource
    captions: tuple[str, ...]  # at least one
    weight: float = 1.0  # how often it is shown, relative to the others


@dataclass(frozen=True, slots=True)
class Problem:
    """A file or row that is left out, or that the user should know of."""

    path: str  # relative to the data; FILE:LINE for a line of a metadata file
    reason: str
    left_out: bool = True  # whether it was meant to be trained on; False: a remark
    source: ImageSource | None = field(default=None, compare=False, repr=False)  # of the picture, if it is one
    number: int = 1  # of files that this stands for, of which `path` is one


class Remarks:
    """Remarks on any number of files, of which only the first few paths for each reason are kept."""

    def __init__(self) -> None:
        self._paths: dict[str, list[str]] = {}
        self._numbers: Counter[str] = Counter()

    def add(self, reason: str, path: str) -> None:
        self._numbers[reason] += 1
        paths = self._paths.setdefault(reason, [])
        if len(paths) < EXAMPLES:
            paths.append(path)

    def update(self, other: Remarks) -> None:
        """Add all remarks of another."""
        for reason, paths in other._paths.items():
            self._numbers[reason] += other._numbers[reason]
            self._paths[reason] = [*self._paths.get(reason, []), *paths][:EXAMPLES]

    def problems(self) -> Iterator[Problem]:
        """A problem for each path that was kept; the last of a reason stands for all further ones."""
        for reason, paths in self._paths.items():
            rest = self._numbers[reason] - len(paths) + 1
            for path in paths:
                yield Problem(path, reason, False, number=rest if path is paths[-1] else 1)


@dataclass(frozen=True, slots=True)
class Listing:
    """The content of a data source, before any picture is opened."""

    pairs: Sequence[Pair]
    problems: tuple[Problem, ...]
    num_pictures: int = 0  # with or without a caption
    repeating: frozenset[str] = frozenset()  # folders of pictures whose names have the form `10_name`


def sorted_problems(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Problems by path; lines of one file in their order in it, so that line 9 comes before line 10."""
    return tuple(sorted(problems, key=_file_and_line))


def _file_and_line(problem: Problem) -> tuple[str, int]:
    line = _LINE.fullmatch(problem.path)
    return (line[1], int(line[2])) if line is not None else (problem.path, 0)
