"""A training run of a token model from start to end: data, codebook, steps, samples, checkpoints, finished model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console

from tintype.data.sources.find import dataset_name
from tintype.errors import CheckpointError
from tintype.model import checkpoint
from tintype.model.codec import pictures_of
from tintype.model.file_names import CARD, EVALUATION, LOG, SAMPLES, STATE, TOKEN_CONFIG, TOKEN_WEIGHTS, TOKENIZER
from tintype.tokens import store
from tintype.tokens.card import token_card
from tintype.tokens.prepare import Prepared, TokenRequest, prepare, state_of
from tintype.tokens.write import WriteRequest, write
from tintype.training.checkpoints.checkpointer import Checkpointer
from tintype.training.checkpoints.run_folder import locked, sweep
from tintype.training.console import say
from tintype.training.core.device import choose_device, keep_memory
from tintype.training.core.trainer import StepReport
from tintype.training.monitor.log import Display, Log
from tintype.training.monitor.sample_grid import choose_captions, sample_grid
from tintype.training.signals import Interruption

_MINUTE = 60.0


def train_tokens(request: TokenRequest, console: Console) -> Path:
    """Start the run of a request, or resume the one in its folder. Returns that folder, now a token model.

    SIGINT and SIGTERM end the run after a checkpoint, with KeyboardInterrupt or Terminated. Raises TintypeError.
    """
    for _ in training_steps(request, console, Interruption()):
        pass
    return request.out


def training_steps(request: TokenRequest, console: Console, interruption: Interruption) -> Iterator[StepReport]:
    """Train as `train_tokens` does, and yield a report after each step; its loss is in bits a token."""
    device = choose_device(request.device)
    keep_memory()
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    with locked(request.out):
        sweep(request.out)
        prepared = prepare(request, device, console)
        run = _Run(request, prepared, device, console)
        if prepared.trainer.images_seen >= prepared.config.train.images and (request.out / TOKEN_WEIGHTS).is_file():
            seen = prepared.trainer.images_seen
            say(
                console,
                f"the run in {request.out} is complete: {seen:,} images; give more --images to train it further",
            )
            return
        with interruption:
            yield from run.steps(interruption)


class _Run:
    """A run at work."""

    def __init__(self, request: TokenRequest, prepared: Prepared, device: torch.device, console: Console) -> None:
        self._run = request.out
        self._data = dataset_name(request.data)
        self._prepared = prepared
        self._config = prepared.config
        self._trainer = prepared.trainer
        self._device = device
        self._console = console
        self._seconds = prepared.seconds
        self._log = Log(self._run / LOG)
        self._checkpointer = Checkpointer(self._run, self._config.train)
        self._saved_at = self._sampled_at = time.monotonic()
        self._captions = choose_captions(prepared.dataset.captions)

    def steps(self, interruption: Interruption) -> Iterator[StepReport]:
        """Train to the end and write the model. Closing the iterator saves a checkpoint, as a signal does."""
        self._say_plan()
        checkpoint.write_text(self._run / TOKEN_CONFIG, self._config.to_json())
        if self._trainer.model.tokenizer is not None:
            checkpoint.write_text(self._run / TOKENIZER, self._trainer.model.tokenizer)
        images = self._config.train.images
        try:
            with Display(self._console, self._config.train, self._trainer.images_seen) as display:
                start = time.perf_counter()
                for report in self._trainer.steps(images):
                    seconds = time.perf_counter() - start
                    self._seconds += seconds
                    self._log.step(report, self._config.train.batch_size, seconds)
                    display.step(report, self._config.train.batch_size, seconds)
                    if interruption.received is not None:
                        self._stop(interruption)
                    self._now_and_then()
                    try:
                        yield report
                    except GeneratorExit:
                        self._save(wait=True)
                        raise
                    start = time.perf_counter()
            self._finish()
        finally:
            self._checkpointer.close()

    def _say_plan(self) -> None:
        net, train = self._config.net, self._config.train
        training, held_out = self._prepared.dataset.split(train.held_out)
        num = sum(weight.numel() for weight in self._trainer.model.parameters())
        say(self._console, f"data: {len(training):,} pictures to train on, {len(held_out):,} held out")
        say(
            self._console,
            f"model: {num:,} weights; {net.num_tokens} tokens a picture of {net.resolution}x{net.resolution} pixels, "
            f"{net.codes:,} codes, width {net.width}, depth {net.depth}, text {self._config.text.encoder}; on "
            f"{self._device}, {'bfloat16' if self._prepared.bf16 else 'float32'}",
        )
        if self._trainer.images_seen:
            say(self._console, f"resuming at {self._trainer.images_seen:,} of {train.images:,} images")

    def _now_and_then(self) -> None:
        """Validate, and save a checkpoint, when it is time to."""
        train, now = self._config.train, time.monotonic()
        if self._trainer.images_seen >= train.images:
            return
        if now - self._sampled_at >= train.sample_minutes * _MINUTE:
            self._validate()
            self._sampled_at = time.monotonic()
        if now - self._saved_at >= train.save_minutes * _MINUTE:
            self._saved_at = now
            try:
                self._save()
            except CheckpointError as error:  # a full disk may have space later; the previous checkpoint remains
                say(self._console, f"warning: {error}; training continues")

    def _validate(self) -> float | None:
        """Measure the bits a token of held-out pictures, and write a grid of samples; returns the bits."""
        seen, model = self._trainer.images_seen, self._trainer.model
        bits = self._trainer.held_out_bits()
        if bits is not None:
            self._log.event(seen, "validated", {"held_out_bits": round(bits, 5)})
            say(self._console, f"held out: {bits:.3f} bits a token at {seen:,} images")
        captions = tuple(self._captions)
        num = len(captions)
        request = WriteRequest(
            captions=captions, seeds=(self._config.train.seed,) * num, indices=tuple(range(num)),
            temperature=self._config.write.temperature, top_k=self._config.write.top_k,
            guidance=self._config.write.guidance,
        )  # fmt: skip
        with self._trainer.averaged():
            tokens = torch.stack([step.tokens for step in write(model, request)], dim=1)
        pictures = pictures_of(model.codebook.decode(tokens.cpu()))
        (self._run / SAMPLES).mkdir(exist_ok=True)
        checkpoint.write_bytes(self._run / SAMPLES / f"seen-{seen:09d}.png", sample_grid(pictures, captions))
        checkpoint.write_text(self._run / SAMPLES / "captions.txt", "".join(f"{caption}\n" for caption in captions))
        return bits

    def _save(self, *, wait: bool = False) -> None:
        """Save a checkpoint; wait: until it is on the disk. Raises CheckpointError, NotFiniteError."""
        train = self._config.train
        folder = checkpoint.step_folder(self._run, self._trainer.images_seen // train.batch_size)
        state = state_of(self._prepared, self._device, self._seconds)
        texts = {TOKEN_CONFIG: self._config.to_json(), STATE: json.dumps(state, indent=2) + "\n"}
        if self._trainer.model.tokenizer is not None:
            texts[TOKENIZER] = self._trainer.model.tokenizer
        parts = {**self._trainer.tensors(), store.CODES: {store.CODES: self._trainer.model.codebook.codes}}
        self._checkpointer.save(folder, parts, texts)
        if wait:
            self._checkpointer.wait()

    def _stop(self, interruption: Interruption) -> None:
        self._save(wait=True)
        seen = self._trainer.images_seen
        say(self._console, f"stopped at {seen:,} images and saved; run the same command again to resume")
        raise interruption.error()

    def _finish(self) -> None:
        """Save the last checkpoint and write the model of the averaged weights, with its card."""
        self._save(wait=True)
        bits = self._validate()
        training, held_out = self._prepared.dataset.split(self._config.train.held_out)
        seen = self._trainer.images_seen
        with self._trainer.averaged():
            store.write(self._run, self._trainer.model)
        card = token_card(
            self._run.resolve().name,
            self._config,
            data=self._data,
            num_training=len(training),
            num_held_out=len(held_out),
            num_weights=sum(weight.numel() for weight in self._trainer.model.parameters()),
            images_seen=seen,
            seconds=self._seconds,
            bits=bits,
            caption=self._captions[0],
        )
        checkpoint.write_text(self._run / CARD, card)
        evaluation = {"images_seen": seen, "held_out_bits_per_token": bits}
        checkpoint.write_text(self._run / EVALUATION, json.dumps(evaluation, indent=1) + "\n")
        say(self._console, f"done: {self._run / TOKEN_WEIGHTS}; samples are in {self._run / SAMPLES}")
