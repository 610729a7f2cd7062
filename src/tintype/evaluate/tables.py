"""Tables of the report."""

from __future__ import annotations

import html
from collections.abc import Sequence

from tintype.data.files import shown


def text(value: object) -> str:
    """Anything as text that is safe to stand on a page."""
    return html.escape(shown(str(value)))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int = 1) -> str:
    """Cells are HTML; from column `numbers_from` on they are set to the right."""

    def cell(tag: str, column: int, content: str) -> str:
        return f"<{tag}{' class=number' if column >= numbers_from else ''}>{content}</{tag}>"

    top = "".join(cell("th", column, content) for column, content in enumerate(head))
    body = "".join(
        f"<tr>{''.join(cell('td', column, content) for column, content in enumerate(row))}</tr>" for row in rows
    )
    return (
        f"<div class=scroll tabindex=0 role=group aria-label=table><table><thead><tr>{top}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )
