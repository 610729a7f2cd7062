"""Preparation of a run before its first step: configuration, captioned pictures, text encoder, initial weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from tintype.config import PRESETS, Config, DistillConfig, SampleConfig
from tintype.data.sources.exclude import Exclusions, read_exclusions
from tintype.data.sources.find import data_label, find_pairs
from tintype.data.sources.pairs import Pair, Problem
from tintype.errors import CheckpointError, ConfigError
from tintype.model import store
from tintype.model.custom import OF_MODEL, require_components
from tintype.model.file_names import CACHE_FOLDER
from tintype.model.nets.text import make_encoder
from tintype.training.checkpoints.checkpointer import EARLY_STOPPING
from tintype.training.checkpoints.run_folder import Stored, load_state
from tintype.training.console import say
from tintype.training.core.device import bf16_is_faster
from tintype.training.core.exactness import Numerics, change_of_numerics, float32_products, has_tf32
from tintype.training.setup.auto_preset import bf16_steps_are_faster
from tintype.training.setup.forecast import held_out_share
from tintype.training.setup.prepared import Prepared
from tintype.training.setup.request import TrainRequest
from tintype.training.setup.resolve_config import (
    as_planned,
    require_fitting,
    require_same,
    resolve_config,
    stopped_at,
)
from tintype.training.setup.run_data import DataSource, say_report
from tintype.training.setup.teacher import distilled, find_teacher
from tintype.training.setup.text_encoder import new_encoder, require_states, say_legibility, with_encoder
from tintype.training.setup.usual_sizes import with_usual_sizes


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
    _require_possible(request, config, initial)
    if stored is not None:
        require_components(str(run), stored.components, request.components.names())
        for changed in require_same(stored.config, config):
            say(console, f"changed: {changed}")
    pairs, problems, exclusions = _pairs(request, config, is_new=stored is None)
    captions = [caption for pair in pairs for caption in pair.captions]
    config, legibility = with_encoder(config, captions)
    if base is not None and config.text == base.text:
        encoder = make_encoder(config.text, tokenizer)
        if initial is not None:
            require_states(config, encoder)
    else:
        config, tokenizer, encoder = new_encoder(config, captions)
    source = DataSource(config, pairs, problems, encoder, exclusions, request.cache or run / CACHE_FOLDER)
    dataset = source.stream(console) if request.stream else source.dataset(console)
    if stored is None and teacher is None:
        share = held_out_share(config.train, dataset.num_samples)
        config = replace(config, train=replace(config.train, held_out=share))
    say_report(data_label(request.data), dataset, pairs, config.train.held_out if stored is None else None, console)
    if stored is None:
        say_legibility(legibility, captions, config, encoder, console)
        config = with_usual_sizes(config, dataset)
    elif stored.fingerprint not in (None, dataset.fingerprint):
        raise CheckpointError(
            f"the pictures or captions in {data_label(request.data)} changed since the run was started; restore them, "
            "or choose another --out (with --from and this run to start from its weights)"
        )
    before = state or (stored.numerics if stored is not None else {})
    numerics = _numerics(request, config, device, before)
    prepared = Prepared(
        config,
        tokenizer,
        encoder,
        dataset,
        device,
        numerics.bf16,
        initial,
        folder,
        state,
        request.components,
        teacher=None if teacher is None else teacher.load(),
        tf32=numerics.tf32,
        compiled=numerics.compiled,
        deterministic=numerics.deterministic,
    )
    is_same_device = before.get("device") == device.type
    if is_same_device and (change := change_of_numerics(before, prepared.numerics())):
        say(console, f"note: {change}: the run is no longer bit for bit the uninterrupted one, only close to it")
    return prepared


def _require_possible(request: TrainRequest, config: Config, initial: store.Model | None) -> None:
    """Raise ConfigError or CheckpointError if this configuration cannot be trained so."""
    if initial is not None:
        _require_parts(request, initial)
        require_fitting(config, store.read_config(initial), str(request.from_model))
    request.components.check(config)
    if request.shard and request.components.net is not None:
        raise ConfigError("a network that is passed in cannot be sharded; leave out shard")


def _pairs(request: TrainRequest, config: Config, *, is_new: bool) -> tuple[Sequence[Pair], list[Problem], Exclusions]:
    """The captioned pictures, what is wrong with others, and what was excluded."""
    pairs, problems = find_pairs(request.data, config.data)
    exclusions = read_exclusions(request.exclude) if request.exclude is not None else Exclusions()
    if is_new:
        exclusions.require_present(pairs)
    pairs, excluded = exclusions.apply(pairs)
    return pairs, problems + excluded, exclusions


def _numerics(request: TrainRequest, config: Config, device: torch.device, before: Mapping[str, Any]) -> Numerics:
    """How the run computes: as `before` on the same type of device, else as is fastest here. Raises ConfigError.

    Sets the number of threads where a deterministic run on a CPU needs that of before: another one gives other bits.
    """
    is_same_device = before.get("device") == device.type
    if is_same_device:
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
    if deterministic and is_same_device and device.type == "cpu" and request.threads is None:
        torch.set_num_threads(int(before["threads"]))
    return Numerics.here(device, bf16=bf16, tf32=tf32, deterministic=deterministic, compiled=compiled)


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


def _require_parts(request: TrainRequest, initial: store.Model) -> None:
    """Raise CheckpointError if the model to start from has another network or prediction than the request."""
    given = request.components.names()
    recorded = {name: value for name, value in store.read_components(initial).items() if name in OF_MODEL}
    require_components(initial.name, recorded, {name: value for name, value in given.items() if name in OF_MODEL})
