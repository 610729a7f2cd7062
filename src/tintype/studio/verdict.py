"""The verdict on a data set: what `tintype check` finds in the version that training would read, as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tintype.config import DataConfig, TextConfig
from tintype.data.check.report import Report, num_files, pictures_to_review
from tintype.data.check.run import check_data_steps
from tintype.data.sources.pairs import Problem
from tintype.errors import DataError
from tintype.model.atomic_write import write_text
from tintype.studio import legibility
from tintype.studio.dataset import DataSet, write_version
from tintype.studio.places import Places
from tintype.studio.scan import Progress
from tintype.studio.table import set_fact

SHOWN = 12  # pictures of each kind
_NAMED = re.compile(r"(?<=[(= ])pictures/")  # before the path of a picture in a note
PICTURES = "pictures/"  # where they are in a version
# Remarks of the data sources that say nothing here: a version is links, and those that lead out are left out.
LINKS = ("links to files outside the data folder", "a link to a folder outside the data folder")


def check(dataset: DataSet, places: Places, resolution: int) -> Progress:
    """Check the present captions and pictures, and store the verdict; yield (stage, done, total). Raises DataError."""
    yield "checking", 0, 0
    encoder = legibility.choose(dataset)
    legibility.look(dataset)
    revision = dataset.table.revision
    version = write_version(dataset, places)
    # Pictures without a caption are looked at as well: an untouched folder has none yet.
    options = replace(DataConfig.of_new_runs(), no_caption="empty")
    steps = check_data_steps(version, resolution, options, TextConfig(encoder=encoder))
    report = None
    try:
        while True:
            try:
                done, total = next(steps)
            except StopIteration as end:
                report = end.value
                break
            if done % 20 == 0 or done == total:
                yield "checking", done, total
    except DataError as error:
        message = str(error).replace(str(version), dataset.name)
        report = Report(dataset.name, (), (Problem(".", message),), (), ())
    listed = [
        Problem(p["path"], p["reason"], p["left_out"], number=p["files"])
        for p in map(json.loads, dataset.problems.read_text(encoding="utf-8").splitlines())
    ]
    content = {"revision": revision, **_json(dataset, report, listed)}
    write_text(dataset.verdict, json.dumps(content, indent=1) + "\n")
    with dataset.table.writing() as connection:
        set_fact(connection, "checked", str(revision))
        groups = (*report.duplicates, *report.near_duplicates)
        set_fact(connection, "copies", str(sum(len(group) - 1 for group in groups)))


def read_verdict(dataset: DataSet) -> dict[str, Any] | None:
    """The verdict as it was stored; None before the first check."""
    try:
        content: dict[str, Any] = json.loads(dataset.verdict.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content


def _json(dataset: DataSet, report: Report, listed: list[Problem]) -> dict[str, Any]:
    """The verdict. Paths are those of the pictures in the data, and their rows where they are in the table."""
    problems = [problem for problem in (*listed, *map(_renamed, report.problems)) if not is_of_links(problem.reason)]
    worst = [(title, pictures) for title, pictures in pictures_to_review(report, SHOWN) if "left out" not in title]
    paths = {_own(key) for _, pictures in worst for key, _ in pictures}
    paths |= {problem.path for problem in problems} | {_own(read.key) for read in report.read}
    rows = _rows(dataset, paths)

    def picture(path: str) -> dict[str, Any]:
        row, caption = rows.get(path, (None, ""))
        return {"row": row, "path": path, "caption": caption}

    left_out = sum(problem.number for problem in problems if problem.left_out)
    counts = dataset.table.counts()
    usable = len(report.pairs)
    return {
        "usable": usable,
        "captions": counts["captioned"],
        "left_out": left_out,
        "verdict": _verdict(usable, counts, left_out),
        "problems": [
            {
                "reason": reason,
                "left_out": is_left_out,
                "files": num_files(group),
                "pictures": [picture(problem.path) for problem in group[:SHOWN]],
            }
            for is_left_out, reason, group in Report("", (), tuple(problems), (), ()).groups()
        ],
        "worst": [
            {"title": title, "pictures": [picture(_own(key)) for key, _ in pictures]} for title, pictures in worst
        ],
        "notes": [_NAMED.sub("", note) for note in report.notes if not (is_of_links(note) or _is_of_empty(note))],
        "histograms": [{"title": part.title, "rows": [list(row) for row in part.rows]} for part in report.histograms],
        "captions_as_read": [
            {**picture(_own(read.key)), "text": read.text, "cut": read.num_cut} for read in report.read
        ],
        "encoder": report.encoder,
        "all": [
            {"path": p.path, "reason": p.reason, "left_out": p.left_out, "row": rows.get(p.path, (None, ""))[0]}
            for p in problems
        ],
    }


def is_of_links(text: str) -> bool:
    """Whether a remark is about the links that a version of the data is made of."""
    return any(remark in text for remark in LINKS)


def _is_of_empty(note: str) -> bool:
    """Whether a note is about empty captions, which training leaves out and the verdict counts by itself."""
    return "an empty caption" in note or "the caption ''" in note


def _verdict(usable: int, counts: dict[str, int], left_out: int) -> str:
    if not usable:
        return "no picture can be used"
    text = f"{usable:,} pictures can be used"
    if counts["empty"]:
        text += f", {counts['empty']:,} of them have no caption yet"
    return text + (f"; {left_out:,} left out" if left_out else "")


def _own(key: str) -> str:
    """The path of a picture in the data, from that in a version."""
    return key.removeprefix(PICTURES)


def _renamed(problem: Problem) -> Problem:
    return Problem(_own(problem.path), problem.reason, problem.left_out, number=problem.number)


def _rows(dataset: DataSet, paths: Iterable[str]) -> dict[str, tuple[int, str]]:
    """Rows and captions by path, where a picture of an archive may be named by the path it was unpacked to."""
    table = dataset.table
    wanted = list(paths)
    rows = table.rows_of(wanted)
    missing = [f"unpacked/{path}" for path in wanted if path not in rows]
    with table.reading() as connection:
        found = connection.execute(
            "select file, row, caption from pictures where file in (select value from json_each(?))",
            [json.dumps(missing)],
        ).fetchall()
    return rows | {file.partition("/")[2]: (row, caption) for file, row, caption in found}
