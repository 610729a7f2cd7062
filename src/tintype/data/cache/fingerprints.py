"""Fingerprints of a cache: one of names and times, to see whether it is up to date, and one of its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from tintype.data.cache.index import FORMAT
from tintype.data.images.decode import Preprocess
from tintype.data.sources.exclude import Exclusions
from tintype.data.sources.pairs import Pair


def source_fingerprint(pairs: Sequence[Pair], preprocess: Preprocess, identity: str, exclusions: Exclusions) -> str:
    """Hash the names, times and settings of the data, without reading a picture, to see if a cache is up to date."""
    # Caches on disk have the fingerprint of the time when the class was named Framing.
    head = repr([FORMAT, preprocess, identity]).replace("Preprocess(", "Framing(", 1)
    digest = hashlib.sha256(head.encode() + exclusions.fingerprint)
    for pair in pairs:
        digest.update(f"[{_text(pair.key)}, {_texts(pair.captions)}, {pair.weight}]".encode() + pair.source.fingerprint)
    return digest.hexdigest()


def content_fingerprint(
    pairs: Sequence[Pair],
    hashes: Sequence[str],
    preprocess: Preprocess,
    shapes: Sequence[int],
    identity: str,
    even: bool,
) -> str:
    """Hash the content of the training data: the same on another machine and after a copy of the data.

    Square pictures over white keep the hash that they had in the first version, which knew nothing else.
    """
    head: list[Any] = [1, preprocess.resolution, identity]
    used = [preprocess.shapes[shape] for shape in shapes]
    if used != [(preprocess.resolution, preprocess.resolution)]:
        head.append({"shapes": preprocess.shapes})
    if preprocess.options.alpha_color != "white":
        head.append({"alpha_color": preprocess.options.alpha_color})
    digest = hashlib.sha256(json.dumps(head).encode())
    for pair, sha256 in zip(pairs, hashes, strict=True):
        weight = "" if even else f", {pair.weight}"
        digest.update(f'[{_text(pair.key)}, "{sha256}", {_texts(pair.captions)}{weight}]'.encode())
    return digest.hexdigest()


# The output of json.dumps for a row, in a fraction of the time: there are as many rows as pictures.
_text = json.encoder.encode_basestring_ascii


def _texts(captions: Sequence[str]) -> str:
    return f"[{', '.join(map(_text, captions))}]"
