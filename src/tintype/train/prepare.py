"""Everything a run needs before its first step: settings, captioned pictures, text encoder, weights to start from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from tintype import models
from tintype.checkpoint import load_parts
from tintype.config import PRESETS, Config
from tintype.data.check import Report
from tintype.data.pack import Pack, Progress, packing
from tintype.data.sources import Pair, Problem, find_pairs
from tintype.denoiser import Denoiser
from tintype.errors import CheckpointError
from tintype.nets.text import TextEncoder, learn_tokenizer, make_encoder
from tintype.train.folder import PACKS, PARTS, Stored, load_state
from tintype.train.log import ROW_SECONDS, say
from tintype.train.machine import bf16_is_faster
from tintype.train.request import TrainRequest
from tintype.train.settings import require_same, settings_of
from tintype.train.trainer import Trainer, load_weights


@dataclass(frozen=True, slots=True)
class Prepared:
    """The makings of a `Trainer`."""

    config: Config
    tokenizer: str | None
    encoder: TextEncoder
    pack: Pack
    device: torch.device
    bf16: bool
    initial: models.Model | None  # whose weights to start from; None draws them
    checkpoint: Path | None  # to go on from
    state: Mapping[str, Any]  # the numbers in it

    def fresh(self, config: Config) -> Trainer:
        """A trainer at the very start of a run of `config`: every call gives the same one."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.train.seed)
            denoiser = Denoiser(config, self.tokenizer)
        denoiser.encoder = self.encoder
        if self.initial is not None:
            load_weights(denoiser, models.read_weights(self.initial))
        return Trainer(denoiser, self.pack, config, self.device, bf16=self.bf16)

    def resumed(self, config: Config) -> Trainer:
        """A trainer where the run is to go on: at its checkpoint, or at the start."""
        trainer = self.fresh(config)
        if self.checkpoint is not None:
            trainer.load(load_parts(self.checkpoint, PARTS), self.state)
        return trainer


def prepare(
    request: TrainRequest, run: Path, stored: Stored | None, device: torch.device, console: Console
) -> Prepared:
    """Settle the configuration, then read the data. Raises TintypeError, before anything in `run` is changed."""
    base, tokenizer, initial = _base(request, stored)
    config = settings_of(request, device, base)
    if stored is not None:
        require_same(stored.config, config)
    pairs, problems = find_pairs(request.data)
    if base is not None and config.text == base.text:
        encoder = make_encoder(config.text, tokenizer)
    else:
        config, tokenizer, encoder = _text(config, pairs)
    pack = _packed(pairs, problems, config.net.resolution, run / PACKS, encoder, console)
    _report(request.data, pairs, pack, console)
    if stored is not None and stored.fingerprint not in (None, pack.fingerprint):
        raise CheckpointError(
            f"the pictures or captions in {request.data} are not those the run was started with; put them back, or "
            "choose another --out (with --from and this run to start from its weights)"
        )
    place = stored.checkpoint if stored is not None else None
    state = load_state(place) if place is not None else {}
    known = state.get("device") == device.type  # a run keeps its precision as long as it stays on one kind of device
    bf16 = state["bf16"] if known else bf16_is_faster(device)
    return Prepared(config, tokenizer, encoder, pack, device, bf16, initial, place, state)


def _base(request: TrainRequest, stored: Stored | None) -> tuple[Config | None, str | None, models.Model | None]:
    """Configuration and tokenizer to build on, and the model to start from."""
    if stored is not None and (stored.checkpoint is not None or request.from_model is None):
        return stored.config, stored.tokenizer, None
    if request.from_model is None:
        return None, None, None
    found = models.find(request.from_model)
    if stored is not None:
        return stored.config, stored.tokenizer, found
    config = models.read_config(found)
    if config.preset in PRESETS:  # how long and how fast the other model was trained is not asked for again
        config = replace(config, train=PRESETS[config.preset](config.net.resolution).train)
    return config, models.read_tokenizer(found), found


def _text(config: Config, pairs: list[Pair]) -> tuple[Config, str | None, TextEncoder]:
    """Complete the text settings of a new model: its vocabulary, or the width of its encoder's states."""
    tokenizer = None
    if config.text.encoder == "learned":
        tokenizer, vocabulary = learn_tokenizer([caption for pair in pairs for caption in pair.captions])
        config = replace(config, text=replace(config.text, vocabulary=vocabulary))
    encoder = make_encoder(config.text, tokenizer)
    if config.text.encoder.startswith("hf:"):
        config = replace(config, text=replace(config.text, state_width=encoder.state_width))
    return config, tokenizer, encoder


def _packed(
    pairs: list[Pair], problems: list[Problem], resolution: int, folder: Path, encoder: TextEncoder, console: Console
) -> Pack:
    """Make or open the training copy, and tell how far it is every ten seconds."""
    progress = packing(pairs, resolution, folder, encoder, problems)
    last = time.monotonic()
    with console.status("reading pictures and captions") as status:
        while True:
            try:
                now: Progress = next(progress)
            except StopIteration as end:
                pack: Pack = end.value
                return pack
            line = f"reading {now.stage}: {now.done:,} of {now.total:,}"
            status.update(line)
            if not console.is_terminal and time.monotonic() - last >= ROW_SECONDS:
                last = time.monotonic()
                say(console, line)


def _report(data: Path, pairs: list[Pair], pack: Pack, console: Console) -> None:
    used = set(pack.keys)
    kept = tuple(pair for pair in pairs if pair.key in used)
    for line in Report(data, kept, tuple(pack.problems), notes=(), duplicates=()).lines():
        say(console, line)
