"""The data check: it opens every picture before training, and reports the usable ones, the others and why."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from itertools import islice

from tintype.config import DataConfig, TextConfig
from tintype.data.check.legibility import BATCH, choose_encoder, measure_legibility
from tintype.data.check.report import ReadCaption, Report
from tintype.data.check.summary import Tokens, summarize
from tintype.data.images.decode import examine_all, preprocess_for
from tintype.data.images.facts import FACTS, facts_row
from tintype.data.sources.find import data_label, find_pairs
from tintype.data.sources.objects import Data
from tintype.data.sources.pair_list import PairList
from tintype.data.sources.pairs import Pair, Problem
from tintype.data.sources.row_file import RowFile, chunks
from tintype.data.thread_pool import finished, map_batched
from tintype.model.nets.legibility import FrozenReader, LearnedReader
from tintype.model.nets.tokens import encoder_folder, learn_tokenizer

NUM_READ = 5  # captions that are shown as the encoder reads them
_GOLDEN = 0.618034  # multiples of it, less their whole parts, are spread evenly from 0 to 1
RESOLUTION = 32  # pixels, the default training size


def check_data(
    data: Data,
    resolution: int = RESOLUTION,
    options: DataConfig | None = None,
    text: TextConfig | None = None,
) -> Report:
    """Check data for training at `resolution`, without progress: `check_data_steps`, run to its end."""
    return finished(check_data_steps(data, resolution, options, text))


def check_data_steps(
    data: Data,
    resolution: int = RESOLUTION,
    options: DataConfig | None = None,
    text: TextConfig | None = None,
) -> Generator[tuple[int, int], None, Report]:
    """Read and decode every captioned picture once, for training at `resolution`; yield (done, total).

    With `text`, captions are compared with what that encoder can read, and with its limit. Raises DataError without
    captioned pictures.
    """
    options = options or DataConfig.of_new_runs()
    preprocess = preprocess_for(resolution, options)
    pairs, problems = find_pairs(data, options)
    usable = RowFile("<i8")  # indices into `pairs`
    facts = RowFile(FACTS)
    tally: Counter[str] = Counter()
    pictures = map_batched(lambda batch: examine_all([pair.source for pair in batch], preprocess, pixels=False), pairs)
    for done, (pair, picture) in enumerate(zip(pairs, pictures, strict=True), start=1):
        if picture.facts is None:
            problems.append(Problem(pair.key, picture.reason, source=pair.source))
        else:
            usable.append(struct.pack("<q", done - 1))
            facts.append(facts_row(picture.facts))
            tally.update(picture.facts.notes)
        yield done, len(pairs)
    usable_pairs = PairList.wrap(pairs).select(index for _, part in chunks(usable) for index in part.tolist())
    tokens = None
    if text is not None and usable_pairs:
        tokens = _tokens(usable_pairs, text)
    return summarize(data_label(data), usable_pairs, facts, problems, tally, tokens)


def _tokens(pairs: Sequence[Pair], text: TextConfig) -> Tokens:
    """Captions as the text encoder reads them; "auto" is chosen as training does."""
    note, encoder = "", text.encoder
    if encoder == "auto":
        encoder, legibility = choose_encoder(_captions(pairs))
        note = legibility.note("minilm", encoder)
    reader = _reader(encoder, pairs)
    if text.encoder not in ("auto", "learned"):
        note = measure_legibility(_captions(pairs), reader).note(encoder, encoder)
    lengths: Counter[int] = Counter()
    captions = _captions(pairs)
    while batch := list(islice(captions, BATCH)):
        lengths.update(len(ids) + reader.num_marks for ids in reader.token_ids(batch))
    return Tokens(encoder, text.max_tokens, lengths, note, tuple(_read_captions(pairs, reader, text.max_tokens)))


def _reader(encoder: str, pairs: Sequence[Pair]) -> FrozenReader | LearnedReader:
    """The reader of an encoder; that of "learned" learns all captions at once."""
    if encoder != "learned":
        return FrozenReader(encoder_folder(encoder))
    from tokenizers import Tokenizer

    return LearnedReader(Tokenizer.from_str(learn_tokenizer(list(_captions(pairs)))[0]))


def _read_captions(
    pairs: Sequence[Pair], reader: FrozenReader | LearnedReader, max_tokens: int
) -> Iterator[ReadCaption]:
    """Captions of pictures from all over the data as the encoder reads them, the first of each; not one twice."""
    spread = (pairs[int(number * _GOLDEN % 1 * len(pairs))] for number in range(8 * NUM_READ))
    chosen = list(islice({pair.captions[0]: pair for pair in spread}.values(), NUM_READ))
    for pair in sorted(chosen, key=lambda pair: pair.key):
        text, num_cut = reader.as_read(pair.captions[0], max_tokens)
        yield ReadCaption(pair.key, text, num_cut, len(pair.captions))


def _captions(pairs: Sequence[Pair]) -> Iterator[str]:
    return (caption for pair in pairs for caption in pair.captions)
