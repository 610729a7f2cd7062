"""Look at a data folder before training: what can be used, what is left out, and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tintype.data.files import shown
from tintype.data.parallel import in_order
from tintype.data.pictures import examine
from tintype.data.sources import Pair, Problem, find_pairs

FEW_PICTURES = 100  # with fewer, a model mostly repeats them
MANY_LEFT_OUT = 0.05  # a share that deserves a word of its own
EXAMPLES = 3  # of files, per reason
RESOLUTION = 32  # pixels; the training size that the pictures are checked for


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found."""

    data: Path
    pairs: tuple[Pair, ...]  # that can be trained on
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]  # remarks about the whole, one line each
    duplicates: tuple[tuple[str, ...], ...]  # keys of files with the same content, two or more each

    @property
    def ok(self) -> bool:
        """Whether there is anything to train on."""
        return bool(self.pairs)

    @property
    def num_left_out(self) -> int:
        return sum(problem.left_out for problem in self.problems)

    def by_reason(self) -> list[tuple[str, list[str]]]:
        """Group the problems: reason and paths, what was left out first, then by number."""
        groups: dict[tuple[bool, str], list[str]] = defaultdict(list)
        for problem in self.problems:
            groups[problem.left_out, problem.reason].append(problem.path)
        ordered = sorted(groups.items(), key=lambda item: (not item[0][0], -len(item[1]), item[0][1]))
        return [(reason, paths) for (_, reason), paths in ordered]

    def lines(self) -> list[str]:
        """Say it for the terminal: a verdict, the problems by reason with first examples, the notes."""
        num_captions = sum(len(pair.captions) for pair in self.pairs)
        verdict = f"{counted(len(self.pairs), 'picture')} with {counted(num_captions, 'caption')} can be trained on"
        if not self.ok:
            verdict = "nothing can be trained on"
        left_out = f"; {self.num_left_out} left out" if self.num_left_out else ""
        lines = [f"{shown(str(self.data))}: {verdict}{left_out}"]
        for reason, paths in self.by_reason():
            examples = ", ".join(shown(path) for path in paths[:EXAMPLES]) + (", ..." if len(paths) > EXAMPLES else "")
            lines.append(f"  {len(paths)} x {reason} ({examples})")
        return lines + [f"  note: {note}" for note in self.notes]


def check(data: Path, resolution: int = RESOLUTION, num_cut: Callable[[Sequence[str]], int] | None = None) -> Report:
    """Run `checking` to its end."""
    progress = checking(data, resolution, num_cut)
    while True:
        try:
            next(progress)
        except StopIteration as end:
            report: Report = end.value
            return report


def checking(
    data: Path, resolution: int = RESOLUTION, num_cut: Callable[[Sequence[str]], int] | None = None
) -> Generator[tuple[int, int], None, Report]:
    """Read and decode every captioned picture once, for training at `resolution`; yield (done, total).

    `num_cut` counts how many captions a text encoder would cut. Raises DataError if there is not one pair.
    """
    pairs, problems = find_pairs(data)
    usable: list[Pair] = []
    same: dict[str, list[str]] = defaultdict(list)
    tally: Counter[str] = Counter()
    seen_all = in_order(lambda pair: examine(pair.path, resolution), pairs)
    for done, (pair, seen) in enumerate(zip(pairs, seen_all, strict=True), start=1):
        if seen.reason:
            problems.append(Problem(pair.key, seen.reason))
        else:
            usable.append(pair)
            same[seen.sha256].append(pair.key)
            tally.update(seen.notes)
        yield done, len(pairs)
    copies = tuple(tuple(keys) for keys in same.values() if len(keys) > 1)
    notes = summary(usable, problems, tally, copies)
    if num_cut is not None and (cut := num_cut([caption for pair in usable for caption in pair.captions])):
        notes.append(f"{counted(cut, 'caption')} longer than the text encoder reads: the end is not used")
    return Report(Path(data), tuple(usable), tuple(problems), tuple(notes), copies)


def summary(
    pairs: Sequence[Pair], problems: Sequence[Problem], tally: Counter[str], copies: Sequence[Sequence[str]]
) -> list[str]:
    """Put into words what is true of the whole: how few, how many left out, what was converted, exact copies."""
    notes: list[str] = []
    left_out = sum(problem.left_out for problem in problems)
    if len(pairs) == 1:
        notes.append("there is only one picture: the model will memorise it and draw nothing else")
    elif 0 < len(pairs) < FEW_PICTURES:
        notes.append(f"{len(pairs)} pictures are few: the model will memorise them; some hundreds are a start")
    if left_out > MANY_LEFT_OUT * (left_out + len(pairs)):
        notes.append(f"{100 * left_out / (left_out + len(pairs)):.0f}% are left out: see the reasons above")
    several = sum(len(pair.captions) > 1 for pair in pairs)
    if several:
        notes.append(f"{counted(several, 'picture')} with several captions (each line of a text file is one)")
    if copies:
        extra = sum(len(keys) - 1 for keys in copies)
        example = " = ".join(shown(key) for key in copies[0][:2])
        notes.append(f"{counted(extra, 'exact copy', 'exact copies')} of other pictures ({example})")
    return notes + [f"{counted(number, 'picture')}: {note}" for note, number in sorted(tally.items())]


def counted(number: int, one: str, many: str = "") -> str:
    """Say a number with its noun."""
    return f"{number} {one if number == 1 else many or one + 's'}"
