"""A hook for the documentation site: links that lead out of docs/ become plain text; the site holds docs/ alone."""

from __future__ import annotations

import re
from typing import Any

_OUTWARD = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs with the text of each page; returns the text to render."""
    return _OUTWARD.sub(r"\1", markdown)
