"""The description of a model for a page: everything but its weights, as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tintype._version import __version__
from tintype.config import Config
from tintype.errors import ConfigError
from tintype.export.encoder import add_minilm
from tintype.export.options import ExportOptions
from tintype.export.payload import Payload, add_weights
from tintype.export.plans import make_plans
from tintype.model import store
from tintype.model.nets.legibility import ILLEGIBLE
from tintype.pipeline.limits import MAX_GUIDANCE, MAX_SEED
from tintype.pipeline.receipt import Receipt, receipts_of
from tintype.pipeline.request import STRONG_GUIDANCE, make_request

ENCODERS = ("learned", "minilm")


def describe(model: store.Model, options: ExportOptions) -> tuple[dict[str, Any], Payload]:
    """The description and the payload of a model. Raises ConfigError for a model that a page cannot draw with."""
    config = store.read_config(model)
    require_known(model, config)
    plans = make_plans(config)
    payload = Payload()
    for kind, of_steps in (("plan", plans.usual), ("strong", plans.strong)):
        for steps, plan in of_steps.items():
            payload.add_floats(f"{kind}.{steps}", plan)
    weights = store.read_weights(model)
    add_weights(payload, weights, options.precision)
    encoder = add_minilm(payload, config.text, options.precision) if config.text.encoder == "minilm" else None
    tokenizer = store.read_tokenizer(model) if config.text.encoder == "learned" else None
    receipt = dataclasses.replace(
        receipts_of(make_request(config, "", {}), (options.name, store.weights_hash(model)))[0],
        precision="" if is_unrounded(weights, config, options.precision) else options.precision,
    )
    description = {
        "name": options.name,
        "version": __version__,
        "precision": options.precision,
        "config": json.loads(config.to_json()),
        "size": config.default_size,
        "tokenizer": None if tokenizer is None else json.loads(tokenizer),
        "encoder": encoder,
        "steps": sorted(plans.usual),
        "sampler": {"usual": receipt.sampler, "strong": strong_sampler(config), "above": STRONG_GUIDANCE},
        "limits": {"seed": str(MAX_SEED), "guidance": MAX_GUIDANCE},
        "receipt": json.loads(receipt.to_json()),
        "parameters": parameters(receipt),
        "words": {"illegible": ILLEGIBLE, "cut": cut_note(config)},
        "examples": options.examples,
        "license": options.license,
        "payload": payload.header,
        "unpacked": payload.size,
    }
    return description, payload


def is_unrounded(weights: Mapping[str, Tensor], config: Config, precision: str) -> bool:
    """Whether all weights of a page, those of a frozen text encoder among them, are those that the model has."""
    are_halves = all(torch.equal(weight.half().to(weight.dtype), weight) for weight in weights.values())
    return precision == "fp32" or (precision == "fp16" and are_halves and config.text.encoder == "learned")


def require_known(model: store.Model, config: Config) -> None:
    """Raise ConfigError for a model that page/*.js cannot compute."""
    components = sorted(store.read_components(model).values())
    if components:
        raise ConfigError(
            f"a page knows the networks of Tintype only, and this model has a part of its own, {components[0]}"
        )
    if config.text.encoder not in ENCODERS:
        raise ConfigError(f"a page knows the text encoders {' and '.join(ENCODERS)}, not {config.text.encoder}")
    if (config.net.architecture, config.net.codec) != ("dit", "pixels"):
        raise ConfigError(f"a page knows no network {config.net.architecture} with the codec {config.net.codec}")


def strong_sampler(config: Config) -> str:
    """The sampler that takes the place of the usual one under strong guidance."""
    return str(make_request(config, "", {"guidance": STRONG_GUIDANCE + 1}).sampler)


def parameters(receipt: Receipt) -> str:
    """The form of a receipt that other programs read, with {names} where the page fills in."""
    text = receipt.parameters()
    given = {
        "Steps": ("steps", receipt.steps),
        "Sampler": ("sampler", receipt.sampler),
        "CFG scale": ("guidance", f"{receipt.guidance:g}"),
        "Seed": ("seed", receipt.seed),
    }
    for label, (name, value) in given.items():
        text = text.replace(f"{label}: {value},", f"{label}: {{{name}}},", 1)
    return "{caption}" + text


def cut_note(config: Config) -> str:
    """What to say of a caption that is longer than the model reads."""
    return f"the caption is longer than the {config.text.max_tokens} tokens this model reads; the end is not used"
