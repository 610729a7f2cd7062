"""The text encoder of a run: chosen by what it reads of the captions, made, and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from tintype.config import Config
from tintype.data.check.legibility import Legibility, choose_encoder, measure_legibility
from tintype.errors import CheckpointError, MissingExtraError
from tintype.model.nets.text import TextEncoder, import_transformers, make_encoder
from tintype.model.nets.tokens import learn_tokenizer
from tintype.printable import one_line
from tintype.training.console import say


def with_encoder(config: Config, captions: Sequence[str]) -> tuple[Config, Legibility | None]:
    """The configuration with a text encoder in place of "auto", and what minilm reads if that was measured."""
    if config.text.encoder != "auto":
        return config, None
    encoder, legibility = choose_encoder(captions)
    if encoder == "minilm":
        try:
            import_transformers()
        except MissingExtraError as error:
            encoder, legibility = "learned", replace(legibility, missing=str(error))
    return replace(config, text=replace(config.text, encoder=encoder)), legibility


def say_legibility(
    legibility: Legibility | None, captions: Sequence[str], config: Config, encoder: TextEncoder, console: Console
) -> None:
    """Print what a new run's text encoder cannot read of its captions; `legibility` is that of minilm, if measured."""
    name = config.text.encoder
    measured_for = "minilm" if legibility is not None else name
    note = (legibility or measure_legibility(captions, encoder.reader)).note(measured_for, name)
    if note:
        say(console, f"  note: {one_line(note)}")


def new_encoder(config: Config, captions: Sequence[str]) -> tuple[Config, str | None, TextEncoder]:
    """Complete the text settings of a new model: its vocabulary, or the width of its text embeddings."""
    tokenizer = None
    if config.text.encoder == "learned":
        tokenizer, vocabulary = learn_tokenizer(captions)
        config = replace(config, text=replace(config.text, vocabulary=vocabulary))
    encoder = make_encoder(config.text, tokenizer)
    if config.text.encoder not in ("minilm", "learned"):  # their widths are known without loading them
        config = replace(config, text=replace(config.text, embedding_dim=encoder.embedding_dim))
    return config, tokenizer, encoder


def require_states(config: Config, encoder: TextEncoder) -> None:
    """Raise CheckpointError if this encoder gives embeddings of another width than the model was trained with."""
    if config.text.encoder != "learned" and encoder.embedding_dim != config.text.embedding_dim:
        raise CheckpointError(
            f"the encoder {config.text.encoder} here gives embeddings of width {encoder.embedding_dim}, but the model "
            f"needs {config.text.embedding_dim}; restore the encoder that the model was trained with"
        )
