"""What a run has before its first step: configuration, captioned pictures, text encoder, weights to start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tintype.config import Config
from tintype.data.cache.dataset_cache import DatasetCache
from tintype.data.cache.stream import Stream
from tintype.model import store
from tintype.model.denoiser import Denoiser
from tintype.model.nets.text import TextEncoder
from tintype.training.checkpoints.checkpointer import read_parts
from tintype.training.core.compiled import COMPILER
from tintype.training.core.components import Components
from tintype.training.core.exactness import Numerics
from tintype.training.core.target import TeacherFlow
from tintype.training.core.trainer import Trainer
from tintype.training.core.weights import load_weights
from tintype.training.parallel.world import World

AHEAD = 2  # batches read in advance, without a cache


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that a `Trainer` needs."""

    config: Config
    tokenizer: str | None
    encoder: TextEncoder
    dataset: DatasetCache | Stream
    device: torch.device
    bf16: bool
    initial: store.Model | None  # model whose weights to start from; None: random weights
    checkpoint: Path | None  # to resume from
    state: Mapping[str, Any]  # state.json of that checkpoint
    components: Components = field(default_factory=Components)  # objects from Python
    teacher: Denoiser | None = None  # in distillation
    tf32: bool = False  # products of float32 matrices with 11 significant bits
    compiled: bool = False  # network and loss as graphs of torch.compile
    deterministic: bool = False  # only kernels that give the same bits each time

    def numerics(self) -> Numerics:
        """What decides the last bits of the run, with the threads of now."""
        return Numerics.here(
            self.device,
            bf16=self.bf16,
            tf32=self.tf32,
            deterministic=self.deterministic,
            compiled=self.compiled,
        )

    def new_trainer(self, config: Config, world: World | None = None) -> Trainer:
        """A trainer at the start of a run of `config`; every call returns an identical one."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.train.seed)
            denoiser = self.components.denoiser(config, self.tokenizer)
        denoiser.encoder = self.encoder
        if self.initial is not None:
            load_weights(denoiser, store.read_weights(self.initial))
        ahead = AHEAD if isinstance(self.dataset, Stream) else 0
        target = None if self.teacher is None else TeacherFlow(self.teacher, config, self.device)
        return Trainer(
            denoiser,
            self.dataset,
            config,
            self.device,
            bf16=self.bf16,
            ahead=ahead,
            world=world,
            target=target,
            components=self.components,
            compiler=COMPILER if self.compiled else None,
        )

    def resumed_trainer(self, config: Config, world: World | None = None) -> Trainer:
        """A trainer at the checkpoint to resume from, or at the start."""
        trainer = self.new_trainer(config, world)
        if self.checkpoint is not None:
            trainer.load(read_parts(self.checkpoint, trainer.weights(), world), self.state)
        return trainer

    def is_saved(self, run: Path, images_seen: int) -> bool:
        """Whether the checkpoint to resume from is that of `run` itself after `images_seen`."""
        folder = self.checkpoint
        is_own = folder is not None and folder.resolve().parent.parent == run.resolve()
        return is_own and self.state.get("images_seen") == images_seen
