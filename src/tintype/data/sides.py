"""Captions that name a side, such as "an arrow to the left": their pictures must not be mirrored."""

from __future__ import annotations

import re

# Words of English, German, French, Spanish, Italian, Portuguese, Dutch and Polish, and signs of Chinese and Japanese.
# "right" and "droit" have other meanings too; a picture that is not mirrored for one of these loses little.
_SIDES = re.compile(
    r"\b(?:left|right|leftwards?|rightwards?|(?:anti|counter)?-?clockwise|mirrored|reversed?|west|east|"
    r"links|rechts|linken?|rechten?|linkes?|rechtes?|gauche|droite?|izquierd[ao]s?|derech[ao]s?|sinistr[ao]|destr[ao]|"
    r"esquerd[ao]s?|direit[ao]s?|lew[aoey]j?|praw[aoey]j?)\b|[左右]",
    re.IGNORECASE,
)


def names_side(caption: str) -> bool:
    """Whether a caption speaks of left and right, or of a turn or a direction that a mirror reverses."""
    return _SIDES.search(caption) is not None
