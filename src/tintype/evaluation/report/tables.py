"""Tables in the report and on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from tintype.evaluation.results import SamplingSetting, TuningResult
from tintype.metrics.intervals import format_estimate, format_proportion


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int = 1) -> str:
    """A table of HTML cells; columns from `numbers_from` on are right-aligned."""

    def cell(tag: str, column: int, content: str) -> str:
        if column < numbers_from:
            return f"<{tag}>{content}</{tag}>"
        for space, kept in (
            (" %", "&nbsp;%"),
            (", ", ",&nbsp;"),
            (">of ", ">of&nbsp;"),
        ):  # the only places for line breaks in numbers
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


def format_score(tuning: TuningResult, setting: SamplingSetting) -> str:
    """The score of a setting: a proportion where a program judges images, else a distance."""
    return format_estimate(setting.score) if setting.all_right is None else format_proportion(setting.score)


def tuning_lines(tuning: TuningResult, steps: int, guidance: float) -> list[str]:
    """The compared settings, for the terminal; `steps` and `guidance` are the model's present ones."""
    lines = [f"{tuning.criterion}, {tuning.num} captions (95 % intervals; evaluations of the network per image)"]
    for setting in tuning.settings:
        mark = "*" if setting == tuning.best else " "
        name = f"{setting.steps:3} steps, guidance {setting.guidance:<4g}"
        lines.append(f"{mark} {name} {format_score(tuning, setting):<26} {setting.evaluations:4.0f} evaluations")
    best = tuning.best
    return [*lines, f"best: {best.steps} steps, guidance {best.guidance:g}; now {steps} and {guidance:g}"]
