"""Preparation of a run before its first step: configuration, captioned pictures, text encoder, initial weights."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console

from tintype.config import PRESETS, Config, DistillConfig, SampleConfig
from tintype.data.cache.builder import Progress
from tintype.data.cache.dataset_cache import DatasetCache
from tintype.data.cache.open_or_build import build_cache, build_index
from tintype.data.cache.stream import Stream
from tintype.data.check.legibility import Legibility, choose_encoder, measure_legibility
from tintype.data.check.report import Report
from tintype.data.images.decode import preprocess_for
from tintype.data.sources.exclude import Exclusions, read_exclusions
from tintype.data.sources.find import data_label, find_pairs
from tintype.data.sources.pairs import Pair, Problem
from tintype.errors import CheckpointError, ConfigError, MissingExtraError
from tintype.model import store
from tintype.model.custom import OF_MODEL, require_components
from tintype.model.denoiser import Denoiser
from tintype.model.file_names import CACHE_FOLDER
from tintype.model.nets.text import TextEncoder, import_transformers, make_encoder
from tintype.model.nets.tokens import learn_tokenizer
from tintype.printable import one_line
from tintype.training.checkpoints.checkpointer import EARLY_STOPPING, read_parts
from tintype.training.checkpoints.run_folder import Stored, load_state
from tintype.training.console import LINE_SECONDS, say
from tintype.training.core.compiled import COMPILER
from tintype.training.core.components import Components
from tintype.training.core.device import bf16_is_faster
from tintype.training.core.exactness import Numerics, change_of_numerics, float32_products, has_tf32
from tintype.training.core.target import TeacherFlow
from tintype.training.core.trainer import Trainer
from tintype.training.core.weights import load_weights
from tintype.training.parallel.world import World
from tintype.training.setup.auto_preset import bf16_steps_are_faster
from tintype.training.setup.forecast import held_out_share
from tintype.training.setup.request import TrainRequest
from tintype.training.setup.resolve_config import (
    as_planned,
    require_fitting,
    require_same,
    resolve_config,
    stopped_at,
)
from tintype.training.setup.teacher import distilled, find_teacher
from tintype.training.setup.usual_sizes import with_usual_sizes

T = TypeVar("T")
STATUS_SECONDS = 0.1  # between updates of the progress line; one for every picture would cost much of reading it
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


def prepare(
    request: TrainRequest, run: Path, stored: Stored | None, device: torch.device, console: Console
) -> Prepared:
    """Resolve the configuration, then read the data. Raises TintypeError before anything in `run` changes."""
    base, tokenizer, initial = _base(request, stored)
    teacher = find_teacher(request, run, stored)
    config = resolve_config(request, device, _with_request_config(request, base, stored))
    folder = stored.checkpoint if stored is not None else None
    state = load_state(folder) if folder is not None else {}
    if end := (state.get(EARLY_STOPPING) or {}).get("end"):
        config = stopped_at(config, end)
    if teacher is not None:
        config = distilled(config, request, teacher)
    for model in (initial, None if teacher is None else teacher.model):
        if model is not None and model.warning:
            say(console, f"warning: {model.warning}")
    if initial is not None:
        _require_parts(request, initial)
        require_fitting(config, store.read_config(initial), str(request.from_model))
    request.components.check(config)
    if request.shard and request.components.net is not None:
        raise ConfigError("a network that is passed in cannot be sharded; leave out shard")
    if stored is not None:
        require_components(str(run), stored.components, request.components.names())
        for changed in require_same(stored.config, config):
            say(console, f"changed: {changed}")
    pairs, problems = find_pairs(request.data, config.data)
    exclusions = read_exclusions(request.exclude) if request.exclude is not None else Exclusions()
    if stored is None:
        exclusions.require_present(pairs)
    pairs, excluded = exclusions.apply(pairs)
    problems += excluded
    captions = [caption for pair in pairs for caption in pair.captions]
    config, legibility = _with_encoder(config, captions)
    if base is not None and config.text == base.text:
        encoder = make_encoder(config.text, tokenizer)
        if initial is not None:
            _require_states(config, encoder)
    else:
        config, tokenizer, encoder = _text(config, captions)
    source = _DataSource(config, pairs, problems, encoder, exclusions, request.cache or run / CACHE_FOLDER)
    dataset = source.stream(console) if request.stream else source.dataset(console)
    if stored is None and teacher is None:
        share = held_out_share(config.train, dataset.num_samples)
        config = replace(config, train=replace(config.train, held_out=share))
    _say_report(data_label(request.data), dataset, pairs, config.train.held_out if stored is None else None, console)
    if stored is None:
        _say_legibility(legibility, captions, config, encoder, console)
    if stored is not None and stored.fingerprint not in (None, dataset.fingerprint):
        raise CheckpointError(
            f"the pictures or captions in {data_label(request.data)} changed since the run was started; restore them, "
            "or choose another --out (with --from and this run to start from its weights)"
        )
    if stored is None:
        config = with_usual_sizes(config, dataset)
    before = state or (stored.numerics if stored is not None else {})
    same_device = before.get("device") == device.type  # a run keeps its precision on the same type of device
    if same_device:
        bf16, tf32 = bool(before["bf16"]), bool(before.get("tf32", False))
    else:
        bf16 = _uses_bf16(request, config, device)
        tf32 = not bf16 and has_tf32(device)
    compiled = bool(before.get("compiled", False)) if request.compile is None else request.compile
    deterministic = request.deterministic or bool(before.get("deterministic", False))
    if deterministic and compiled and device.type == "cuda":
        raise ConfigError(
            "the compiler chooses kernels of a GPU by the clock, so bits may differ from start to start; leave out "
            "--deterministic, or give --compile off"
        )
    if deterministic and same_device and device.type == "cpu" and request.threads is None:
        torch.set_num_threads(int(before["threads"]))  # another number gives other bits
    prepared = Prepared(
        config,
        tokenizer,
        encoder,
        dataset,
        device,
        bf16,
        initial,
        folder,
        state,
        request.components,
        teacher=None if teacher is None else teacher.load(),
        tf32=tf32,
        compiled=compiled,
        deterministic=deterministic,
    )
    if same_device and (change := change_of_numerics(before, prepared.numerics())):
        say(console, f"note: {change}: the run is no longer bit for bit the uninterrupted one, only close to it")
    return prepared


def _uses_bf16(request: TrainRequest, config: Config, device: torch.device) -> bool:
    """Whether training is faster in bfloat16. A sharded model may not fit here whole, so layers alone decide then."""
    with float32_products(tf32=has_tf32(device)):
        return bf16_is_faster(device) and (
            request.shard or bf16_steps_are_faster(config, device, request.components.denoiser)
        )


def _base(request: TrainRequest, stored: Stored | None) -> tuple[Config | None, str | None, store.Model | None]:
    """The base configuration and tokenizer, and the model to start from."""
    if stored is not None and (stored.checkpoint is not None or request.from_model is None):
        return stored.config, stored.tokenizer, None
    if request.from_model is None:
        return None, None, None
    model = store.find(request.from_model)
    if stored is not None:
        return stored.config, stored.tokenizer, model
    config = store.read_config(model)
    store.require_fit(model, config, own_net="net" in store.read_components(model))
    store.weights_hash(model)  # refuses weights that are not what the manifest says
    if config.distill.steps:  # trained on pictures, it is no longer distilled
        defaults, guidance = SampleConfig(), config.distill.guidance
        sample = replace(config.sample, sampler=defaults.sampler, steps=defaults.steps, guidance=guidance)
        config = replace(config, distill=DistillConfig(), sample=sample)
    if config.preset in PRESETS:  # length and learning rate of the other run do not carry over
        preset = PRESETS[config.preset](config.net.resolution)
        # What pictures show is learned already, so all samples are of full size.
        config = replace(config, train=replace(preset.train, half_size=0.0), data=preset.data)
    return config, store.read_tokenizer(model), model


def _with_request_config(request: TrainRequest, base: Config | None, stored: Stored | None) -> Config | None:
    """The base configuration: `base`, or the request's own, completed with what the stored run measured."""
    config = request.config
    if config is None or base is None:
        return config or base
    if config.text.encoder == "auto":
        config = replace(config, text=replace(base.text, max_tokens=config.text.max_tokens))
    if (config.text.encoder, config.text.max_tokens) == (base.text.encoder, base.text.max_tokens):
        config = replace(config, text=base.text)
    if stored is None:
        return config
    config = replace(config, sample=replace(config.sample, sizes=base.sample.sizes))
    train = replace(config.train, micro_batch=config.train.micro_batch or base.train.micro_batch)
    if train.stop_early:  # its share was chosen by the number of pictures
        train = replace(train, held_out=max(train.held_out, base.train.held_out))
    if request.minutes is not None:  # its length was measured when the run started
        planned = as_planned(base).train
        train = replace(train, images=planned.images, warmup_images=planned.warmup_images)
    return replace(config, train=train)


def _with_encoder(config: Config, captions: Sequence[str]) -> tuple[Config, Legibility | None]:
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


def _say_legibility(
    legibility: Legibility | None, captions: Sequence[str], config: Config, encoder: TextEncoder, console: Console
) -> None:
    """Print what a new run's text encoder cannot read of its captions; `legibility` is that of minilm, if measured."""
    name = config.text.encoder
    measured_for = "minilm" if legibility is not None else name
    note = (legibility or measure_legibility(captions, encoder.reader)).note(measured_for, name)
    if note:
        say(console, f"  note: {one_line(note)}")


def _text(config: Config, captions: Sequence[str]) -> tuple[Config, str | None, TextEncoder]:
    """Complete the text settings of a new model: its vocabulary, or the width of its text embeddings."""
    tokenizer = None
    if config.text.encoder == "learned":
        tokenizer, vocabulary = learn_tokenizer(captions)
        config = replace(config, text=replace(config.text, vocabulary=vocabulary))
    encoder = make_encoder(config.text, tokenizer)
    if config.text.encoder not in ("minilm", "learned"):  # their widths are known without loading them
        config = replace(config, text=replace(config.text, embedding_dim=encoder.embedding_dim))
    return config, tokenizer, encoder


def _require_parts(request: TrainRequest, initial: store.Model) -> None:
    """Raise CheckpointError if the model to start from has another network or prediction than the request."""
    given = request.components.names()
    recorded = {name: value for name, value in store.read_components(initial).items() if name in OF_MODEL}
    require_components(initial.name, recorded, {name: value for name, value in given.items() if name in OF_MODEL})


def _require_states(config: Config, encoder: TextEncoder) -> None:
    """Raise CheckpointError if this encoder gives embeddings of another width than the model was trained with."""
    if config.text.encoder != "learned" and encoder.embedding_dim != config.text.embedding_dim:
        raise CheckpointError(
            f"the encoder {config.text.encoder} here gives embeddings of width {encoder.embedding_dim}, but the model "
            f"needs {config.text.embedding_dim}; restore the encoder that the model was trained with"
        )


def _say_report(
    data: str, dataset: DatasetCache | Stream, pairs: Sequence[Pair], held_out: float | None, console: Console
) -> None:
    """Print the report of a data check; on resume (held_out is None) only what is left out."""
    if held_out is None:
        used = set(dataset.keys)
        report = Report(data, tuple(pair for pair in pairs if pair.key in used), tuple(dataset.problems), (), ())
    else:
        report = dataset.report(data, pairs, held_out)
    for line in report.lines():
        say(console, line)


@dataclass(frozen=True, slots=True)
class _DataSource:
    """The captioned pictures of a run, as a cache or as a stream."""

    config: Config
    pairs: Sequence[Pair]
    problems: list[Problem]
    encoder: TextEncoder
    exclusions: Exclusions
    folder: Path

    def dataset(self, console: Console) -> DatasetCache:
        """Open the cache, or build it."""
        preprocess = preprocess_for(self.config.net.resolution, self.config.data, self.config.net.multiple)
        progress = build_cache(self.pairs, preprocess, self.folder, self.encoder, self.problems, self.exclusions)
        return _with_status(progress, console)

    def stream(self, console: Console) -> Stream:
        """Check every picture, unless an earlier run did; decode pictures at every use."""
        preprocess = preprocess_for(self.config.net.resolution, self.config.data, self.config.net.multiple)
        progress = build_index(self.pairs, preprocess, self.folder, self.encoder, self.problems, self.exclusions)
        catalog = _with_status(progress, console)
        return Stream(catalog.folder, self.pairs, preprocess, self.encoder, catalog.problems)


def _with_status(progress: Generator[Progress, None, T], console: Console) -> T:
    """Run `progress` to its end and show it: all the time on a terminal, else every ten seconds."""
    updated = printed = time.monotonic()
    with console.status("reading pictures and captions") as status:
        while True:
            try:
                stage, done, total = next(progress)
            except StopIteration as end:
                result: T = end.value
                return result
            now = time.monotonic()
            if now - updated < STATUS_SECONDS:
                continue
            updated = now
            line = f"reading {stage}: {done:,} of {total:,}"
            if stage == "waiting":
                line = "another run is making the same cache; waiting for it"
            status.update(line)
            if not console.is_terminal and now - printed >= LINE_SECONDS:
                printed = now
                say(console, line)
