"""Preparation of a run before its first step: settings, captioned pictures, text encoder, codebook."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from torch import Tensor

from tintype.config import TextConfig
from tintype.data.cache.dataset_cache import DatasetCache
from tintype.data.cache.open_or_build import build_cache
from tintype.data.check.legibility import choose_encoder
from tintype.data.images.decode import preprocess_for
from tintype.data.sources.find import find_pairs
from tintype.data.sources.objects import Data
from tintype.diffusion.noise import Purpose, permutation
from tintype.errors import CheckpointError, DataError, MissingExtraError
from tintype.model import checkpoint
from tintype.model.file_names import CACHE_FOLDER, CHECKPOINTS, CONFIG, TOKEN_CONFIG, TOKENIZER
from tintype.model.nets.text import TextEncoder, import_transformers, make_encoder
from tintype.model.nets.tokens import learn_tokenizer
from tintype.model.read_file import MAX_TOKENIZER_BYTES, read_text
from tintype.tokens.codebook import learn_codes, patches_of
from tintype.tokens.config import TokenConfig
from tintype.tokens.model import TokenModel
from tintype.tokens.store import CODES, read_config
from tintype.tokens.trainer import TokenTrainer
from tintype.training.checkpoints.run_folder import load_state
from tintype.training.console import LINE_SECONDS, doing, say
from tintype.training.core.device import bf16_is_faster
from tintype.training.setup.resolve_config import MAX_WARMUP

T = TypeVar("T")
MOST_PATCHES = 2**20  # that a codebook is learned from


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRequest:
    """One call of `tintype tokens`. None: not given, so the stored run or the default decides."""

    data: Data
    out: Path
    images: int | None = None
    resolution: int | None = None
    patch: int | None = None
    codes: int | None = None
    batch_size: int | None = None
    micro_batch: int | None = None
    lr: float | None = None
    seed: int | None = None
    text: str | None = None
    threads: int | None = None
    device: str | None = None
    save_minutes: float | None = None
    sample_minutes: float | None = None
    keep_last: int | None = None
    keep_every: int | None = None
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that a run needs: its settings, data and trainer, at the checkpoint to resume from if there is one."""

    config: TokenConfig
    dataset: DatasetCache
    trainer: TokenTrainer
    seconds: float  # trained so far
    bf16: bool


def prepare(request: TokenRequest, device: torch.device, console: Console) -> Prepared:
    """Read settings and data, learn the codebook, or read the run to resume. Raises TintypeError."""
    run = request.out
    stored = _stored_config(run)
    config = _with_request(stored or TokenConfig(), request)
    if stored is not None:
        _require_same(stored, config, run)
    pairs, problems = find_pairs(request.data, config.data)
    config, tokenizer, encoder = _text(config, [text for pair in pairs for text in pair.captions], run, stored)
    preprocess = preprocess_for(config.net.resolution, config.data, config.net.patch)
    cache = build_cache(pairs, preprocess, request.cache or run / CACHE_FOLDER, encoder, problems, None)
    dataset = _shown(cache, "reading pictures and captions", console)
    newest = checkpoint.latest(run)
    state = load_state(newest) if newest is not None else {}
    if state and state.get("fingerprint") != dataset.fingerprint:
        raise CheckpointError(
            f"the pictures or captions changed since {run} was started; restore them, or choose another --out"
        )
    parts = None if newest is None else checkpoint.load_parts(newest, checkpoint.part_names(newest))
    codes = parts[CODES][CODES] if parts is not None else _codes(config, dataset, console)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        model = TokenModel(config, codes, tokenizer)
    model.encoder = encoder
    bf16 = bool(state["bf16"]) if state.get("device") == device.type else bf16_is_faster(device)
    trainer = TokenTrainer(model.to(device), dataset, config, device, bf16=bf16)
    if parts is not None:
        trainer.load(parts, state)
    return Prepared(config, dataset, trainer, float(state.get("seconds", 0.0)), bf16)


def _stored_config(run: Path) -> TokenConfig | None:
    """The settings of the run in a folder, None for a new run. Raises CheckpointError for a folder in other use."""
    if (run / TOKEN_CONFIG).is_file():
        return read_config(run)
    names = {path.name for path in run.iterdir()} if run.is_dir() else set()
    if CONFIG in names or CHECKPOINTS in names:
        raise CheckpointError(f"{run} holds a diffusion model; choose another --out")
    foreign = sorted(name for name in names if not name.startswith(".") and name not in (CACHE_FOLDER, TOKENIZER))
    if foreign:
        raise CheckpointError(f"{run} is not a run but holds {foreign[0]}; choose an empty folder for --out")
    return None


def _with_request(config: TokenConfig, request: TokenRequest) -> TokenConfig:
    """The settings with those that the request gives. Raises ConfigError for one out of range."""

    def given(section: T, *names: str) -> T:
        values = {name: getattr(request, name) for name in names}
        return replace(section, **{name: value for name, value in values.items() if value is not None})  # type: ignore[type-var]

    names = (
        *("images", "batch_size", "micro_batch", "lr", "seed"),
        *("save_minutes", "sample_minutes", "keep_last", "keep_every"),
    )
    train = given(config.train, *names)
    train = replace(train, warmup_images=min(2_000, int(MAX_WARMUP * train.images)))
    text = config.text if request.text in (None, config.text.encoder) else TextConfig(encoder=str(request.text))
    net = given(config.net, "resolution", "patch", "codes")
    return replace(config, net=net, train=train, text=text)


def _require_same(stored: TokenConfig, config: TokenConfig, run: Path) -> None:
    """Raise CheckpointError if a run is resumed with settings that decide what it learns."""
    free = (
        *("images", "warmup_images", "micro_batch"),
        *("save_minutes", "sample_minutes", "keep_last", "keep_every"),
    )
    train = replace(config.train, **{name: getattr(stored.train, name) for name in free})
    if replace(config, train=train) != stored:
        raise CheckpointError(
            f"the run in {run} was started with other settings, which {TOKEN_CONFIG} has; give the same to resume, "
            "or another --out"
        )


def _text(
    config: TokenConfig, captions: list[str], run: Path, stored: TokenConfig | None
) -> tuple[TokenConfig, str | None, TextEncoder]:
    """The settings with their text encoder, and the tokenizer of a learned vocabulary, which a stored run has."""
    text = config.text
    if text.encoder == "auto":
        name, _ = choose_encoder(captions)
        if name == "minilm":
            try:
                import_transformers()
            except MissingExtraError:
                name = "learned"
        text = replace(text, encoder=name)
    tokenizer = None
    if text.encoder == "learned" and stored is not None:
        try:
            tokenizer = read_text(run / TOKENIZER, MAX_TOKENIZER_BYTES)
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"cannot read {run / TOKENIZER} ({error}); restore it from a backup") from None
    elif text.encoder == "learned":
        tokenizer, vocabulary = learn_tokenizer(captions)
        text = replace(text, vocabulary=vocabulary)
    encoder = make_encoder(text, tokenizer)
    if stored is None and text.encoder not in ("minilm", "learned"):
        text = replace(text, embedding_dim=encoder.embedding_dim)
    return replace(config, text=text), tokenizer, encoder


def _codes(config: TokenConfig, dataset: DatasetCache, console: Console) -> Tensor:
    """The codebook of a new run, learned from training pictures: uint8 [V, 3 * patch * patch]."""
    net = config.net
    training, _ = dataset.split(config.train.held_out)
    if len(dataset.shapes) != 1:
        raise DataError("pictures of several shapes cannot be written as tokens; crop them to squares")
    chosen = permutation(config.train.seed, Purpose.CODEBOOK, 1, len(training)).cpu()
    chosen = chosen[: max(1, MOST_PATCHES // net.num_tokens)].sort().values
    patches = patches_of(dataset.pictures(training[chosen]), net.patch).flatten(0, 1)
    learning = learn_codes(patches, net.codes, config.train.seed)
    text = f"learning a codebook of {net.codes:,} patches from {len(patches):,}"
    with doing(console, text):
        error = 0.0
        while True:
            try:
                error = next(learning)
            except StopIteration as end:
                codes: Tensor = end.value
                break
    say(
        console,
        f"codebook: {net.codes:,} patches of {net.patch}x{net.patch} pixels, mean squared error {error:.1f}",
    )
    return codes


def _shown(progress: Generator[object, None, T], text: str, console: Console) -> T:
    """Run `progress` to its end, and print that it goes on every ten seconds."""
    printed = time.monotonic()
    while True:
        try:
            next(progress)
        except StopIteration as end:
            result: T = end.value
            return result
        if time.monotonic() - printed >= LINE_SECONDS:
            printed = time.monotonic()
            say(console, text)


def state_of(prepared: Prepared, device: torch.device, seconds: float) -> dict[str, object]:
    """What state.json of a checkpoint holds."""
    return {
        **prepared.trainer.counts(),
        "fingerprint": prepared.dataset.fingerprint,
        "device": device.type,
        "bf16": prepared.bf16,
        "seconds": round(seconds, 3),
    }
