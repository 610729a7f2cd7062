"""The held-out split: a hash of each picture alone decides its side."""

from __future__ import annotations

import hashlib


def is_held_out(name: str, share: float) -> bool:
    """Whether a picture is held out of training, from its sha256 alone, so that added pictures do not change it."""
    return name_hash(name) < share


def name_hash(name: str) -> float:
    """Map a name to a number in [0, 1), uniformly, the same in every version."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
