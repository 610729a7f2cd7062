"""The held-out split: a hash of each picture alone decides its side."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

FEW = 20  # with fewer pictures, a run may hold out none


def is_held_out(name: str, share: float) -> bool:
    """Whether a picture is held out of training, from its sha256 alone, so that added pictures do not change it."""
    return name_hash(name) < share


def held_out_mask(sha256: Sequence[str], share: float) -> list[bool]:
    """Which pictures of a data set are held out, from their sha256; exact copies never lie on both sides.

    At least one picture is trained on; of 20 and more, at least one is held out.
    """
    held = [is_held_out(digest, share) for digest in sha256]
    if all(held) or (share > 0 and not any(held) and len(sha256) >= FEW):
        lowest = min(sha256, key=name_hash)
        held = [digest == lowest and len(sha256) >= FEW for digest in sha256]
        held = [False] * len(sha256) if all(held) else held
    return held


def name_hash(name: str) -> float:
    """Map a name to a number in [0, 1), uniformly, the same in every version."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
