"""Tables of the report, and on the terminal."""

from __future__ import annotations

import html
from collections.abc import Sequence

from tintype.data.sources.files import printable
from tintype.evaluation.results import SamplingSetting, TuningResult
from tintype.metrics.intervals import format_estimate, format_proportion


def escape(value: object) -> str:
    """Anything as text that is safe to stand on a page."""
    return html.escape(printable(str(value)))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int = 1) -> str:
    """Cells are HTML; from column `numbers_from` on they are set to the right."""

    def cell(tag: str, column: int, content: str) -> str:
        if column < numbers_from:
            return f"<{tag}>{content}</{tag}>"
        for space, kept in ((" %", "&nbsp;%"), (", ", ",&nbsp;"), (">of ", ">of&nbsp;")):  # figures break nowhere else
            content = content.replace(space, kept) if tag == "td" else content
        return f"<{tag} class=number>{content}</{tag}>"

    top = "".join(cell("th", column, content) for column, content in enumerate(head))
    body = "".join(
        f"<tr>{''.join(cell('td', column, content) for column, content in enumerate(row))}</tr>" for row in rows
    )
    return (
        f"<div class=scroll tabindex=0 role=group aria-label=table><table><thead><tr>{top}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def format_setting(choice: TuningResult, setting: SamplingSetting) -> str:
    """What a setting was judged by: a share where a program judges, else a distance."""
    return format_estimate(setting.figure) if setting.all_right is None else format_proportion(setting.figure)


def tuning_lines(choice: TuningResult, steps: int, guidance: float) -> list[str]:
    """What was tried, for the terminal; `steps` and `guidance` are the model's own so far."""
    lines = [f"{choice.criterion}, {choice.num} captions (intervals of 95 %, evaluations of the network a picture)"]
    for one in choice.settings:
        mark = "*" if one == choice.chosen else " "
        what = f"{one.steps:3} steps, guidance {one.guidance:<4g}"
        lines.append(f"{mark} {what} {format_setting(choice, one):<26} {one.evaluations:4.0f} evaluations")
    chosen = choice.chosen
    return [*lines, f"best: {chosen.steps} steps, guidance {chosen.guidance:g}; so far {steps} and {guidance:g}"]
