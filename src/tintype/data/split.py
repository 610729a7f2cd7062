"""Which pictures are held out of training."""

from __future__ import annotations

import hashlib


def is_held_out(name: str, share: float) -> bool:
    """Say whether a picture is held out of training, from its name alone, so that others joining do not change it."""
    return name_hash(name) < share


def name_hash(name: str) -> float:
    """Map a name to a number in [0, 1), evenly and for ever the same."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
