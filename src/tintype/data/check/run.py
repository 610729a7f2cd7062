"""Look at data before training: what can be used, what is left out and why, and what its owner should know."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Generator, Sequence
from itertools import islice

from tintype.config import DataConfig, TextConfig
from tintype.data.check.report import Report
from tintype.data.check.summary import Tokens, summarize
from tintype.data.images.decode import examine_all, preprocess_for
from tintype.data.images.facts import FACTS, facts_row
from tintype.data.sources.find import data_label, find_pairs
from tintype.data.sources.objects import Data
from tintype.data.sources.pair_list import PairList
from tintype.data.sources.pairs import Pair, Problem
from tintype.data.sources.row_file import RowFile, chunks
from tintype.data.thread_pool import finished, in_order
from tintype.model.nets.tokens import token_lengths

TOGETHER = 1_000  # captions that are measured at once
RESOLUTION = 32  # pixels; the training size that the pictures are checked for


def check(
    data: Data,
    resolution: int = RESOLUTION,
    options: DataConfig | None = None,
    text: TextConfig | None = None,
) -> Report:
    """Run `checking` to its end."""
    return finished(check_steps(data, resolution, options, text))


def check_steps(
    data: Data,
    resolution: int = RESOLUTION,
    options: DataConfig | None = None,
    text: TextConfig | None = None,
) -> Generator[tuple[int, int], None, Report]:
    """Read and decode every captioned picture once, for training at `resolution`; yield (done, total).

    With `text`, captions are measured against the limit of that encoder. Raises DataError if there is not one pair.
    """
    options = options or DataConfig(crop="none")
    preprocess = preprocess_for(resolution, options)
    pairs, problems = find_pairs(data, options)
    usable = RowFile("<i8")  # places in `pairs`
    facts = RowFile(FACTS)
    tally: Counter[str] = Counter()
    seen_all = in_order(lambda some: examine_all([pair.source for pair in some], preprocess, pixels=False), pairs)
    for done, (pair, seen) in enumerate(zip(pairs, seen_all, strict=True), start=1):
        if seen.facts is None:
            problems.append(Problem(pair.key, seen.reason, source=pair.source))
        else:
            usable.append(struct.pack("<q", done - 1))
            facts.append(facts_row(seen.facts))
            tally.update(seen.facts.notes)
        yield done, len(pairs)
    found = PairList.wrap(pairs).select(place for _, part in chunks(usable) for place in part.tolist())
    tokens = Tokens(text.encoder, text.max_tokens, _lengths(found, text)) if text is not None and found else None
    return summarize(data_label(data), found, facts, problems, tally, tokens)


def _lengths(pairs: Sequence[Pair], text: TextConfig) -> Counter[int]:
    """Tokens of the captions, measured some at a time, except where the encoder is to be learned from all of them."""
    lengths: Counter[int] = Counter()
    captions = (caption for pair in pairs for caption in pair.captions)
    while some := list(islice(captions, None if text.encoder == "learned" else TOGETHER)):
        lengths.update(token_lengths(some, text))
    return lengths
