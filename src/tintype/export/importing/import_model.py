"""Import: a page, a site or a published model folder becomes a model folder, whole or not at all."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tintype.config import Config
from tintype.errors import CheckpointError, ConfigError, TintypeWarning
from tintype.export.card import export_card, front_matter
from tintype.export.description import ENCODERS
from tintype.export.folder import require_portable
from tintype.export.importing.packed import PackedModel, read_packed, tensors
from tintype.export.importing.sources import kind_of
from tintype.export.options import ExportOptions
from tintype.export.record import read_record, write_record
from tintype.export.target import filled, require_free
from tintype.model import checkpoint, custom, file_names, hub, manifest, store
from tintype.model.denoiser import Denoiser
from tintype.model.meta_device import meta_device
from tintype.model.read_file import MAX_CONFIG_BYTES, MAX_TOKENIZER_BYTES, read_bytes
from tintype.printable import one_line
from tintype.training.core.validation_error import ValidationMetrics

MAX_EXAMPLES = 64  # captions of a page that are kept to try
INT8 = "its weights were rounded to int8: the model draws what the page draws, not quite what the original drew"
ENCODER = (
    "the page has a rounded text encoder; the model reads captions with the exact one, so its pictures differ a little"
)


def import_model(source: str | Path, out: str | Path, *, overwrite: bool = False) -> Path:
    """Make a model folder of a model that someone has exported, whole or not at all. Returns where it is.

        tintype.import_model("cats.html", "cats")

    Nothing in the source is run: no HTML, no JavaScript, no pickle, no code of a repository. Sizes are checked before
    memory is taken.

    Args:
        source: an exported page (.html), the folder of a site, a published model folder (files for diffusers beside it
            are left out), a shipped name, or `hf:OWNER/NAME`.
        out: the folder to write.
        overwrite: replace an earlier export or import.

    Raises CheckpointError for a source that is damaged or holds no model, such as an ONNX export, or a place that
    cannot be written; ConfigError for a model that others cannot use. Warns (TintypeWarning) where the model is not
    quite the original.
    """
    target = Path(out).resolve()
    named = isinstance(source, str) and (source.startswith(hub.PREFIX) or source in store.shipped())
    path = Path(source)
    if not named and not path.exists():
        raise CheckpointError(
            f"no {one_line(str(source))!r}: give an exported page, an exported folder or hf:OWNER/NAME"
        )
    kind = "folder" if named else kind_of(path)
    require_free(target, overwrite=overwrite)
    with filled(target) as temporary:
        if kind == "folder":
            _import_folder(store.find(source), temporary, inside=not named)
        else:
            _import_packed(read_packed(path), temporary, target.name)
        _require_loads(temporary, source)
    return Path(out)


def config_of(model: PackedModel) -> Config:
    """The configuration of a packed model. Raises CheckpointError."""
    try:
        config = Config.from_json(json.dumps(model.description["config"]))
    except (ConfigError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{model.path}: {one_line(str(error))[:200]}") from None
    if config.text.encoder not in ENCODERS:
        raise CheckpointError(f"{model.path}: its text encoder must be {' or '.join(ENCODERS)}")
    return config


def text_of(model: PackedModel, name: str) -> str:
    """A short text of the description; "" where it has none."""
    text = model.description.get(name)
    return one_line(text)[:200] if isinstance(text, str) else ""


def _import_packed(model: PackedModel, folder: Path, name: str) -> None:
    """Write the model of a page or site. Raises CheckpointError."""
    config = config_of(model)
    weights = tensors(model, _shapes(config))
    options = _options(model, name, _precision(weights))
    folder.mkdir()
    checkpoint.write_text(folder / file_names.CONFIG, config.to_json())
    checkpoint.write_tensors(folder / file_names.WEIGHTS, weights)
    tokenizer = model.description.get("tokenizer")
    if config.text.encoder == "learned":
        checkpoint.write_text(folder / file_names.TOKENIZER, json.dumps(tokenizer, ensure_ascii=False, indent=1))
    manifest.write(folder, config.train.images)
    num_weights = sum(weight.numel() for weight in weights.values())
    card = export_card(
        config, options, num_weights=num_weights, images_seen=config.train.images, metrics=ValidationMetrics()
    )
    checkpoint.write_text(folder / file_names.CARD, front_matter(options, {}) + "\n" + card)
    captions = _examples(model)
    if captions:
        (folder / file_names.SAMPLE_CAPTIONS).parent.mkdir()
        checkpoint.write_text(folder / file_names.SAMPLE_CAPTIONS, "".join(f"{caption}\n" for caption in captions))
    write_record(folder, "folder", options)
    _warn(model, config)


def _warn(model: PackedModel, config: Config) -> None:
    kinds = {entry.kind for name, entry in model.entries.items() if not name.startswith("encoder.")}
    if "i8" in kinds:
        warnings.warn(INT8, TintypeWarning, stacklevel=4)
    if config.text.encoder == "minilm" and model.description.get("precision") != "fp32":
        warnings.warn(ENCODER, TintypeWarning, stacklevel=4)


def _shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights that a configuration asks for, without memory for them."""
    with meta_device():
        return {name: tuple(weight.shape) for name, weight in Denoiser(config).state_dict().items()}


def _precision(weights: dict[str, Tensor]) -> str:
    return "fp16" if any(weight.dtype == torch.float16 for weight in weights.values()) else "fp32"


def _options(model: PackedModel, name: str, precision: str) -> ExportOptions:
    """Name and license of the source, where they are such."""
    try:
        return ExportOptions(name=text_of(model, "name"), license=text_of(model, "license"), precision=precision)
    except ConfigError as error:
        raise CheckpointError(f"{model.path}: {one_line(str(error))[:200]}") from None


def _examples(model: PackedModel) -> list[str]:
    """The captions to try that come with a page."""
    captions: Any = model.description.get("examples")
    texts = [text for text in captions if isinstance(text, str)] if isinstance(captions, list) else []
    return [text for text in texts if text.strip() and text.isprintable() and len(text) <= 1000][:MAX_EXAMPLES]


def _import_folder(model: store.Model, folder: Path, *, inside: bool) -> None:
    """Copy a published model folder, the files of a model alone. Raises CheckpointError, ConfigError.

    inside: refuse links that lead out of the folder. (Those of the cache of the Hub do.)
    """
    source = model.folder
    if model.run is not None or (source / file_names.DATA).is_file():
        raise CheckpointError(
            f"{source} is a run of training, not an export: tintype export makes a model folder of it"
        )
    within = source if inside else None
    limits = {
        file_names.CONFIG: MAX_CONFIG_BYTES,
        file_names.WEIGHTS: hub.MAX_WEIGHTS_BYTES,
        file_names.TOKENIZER: MAX_TOKENIZER_BYTES,
        file_names.COMPONENTS: MAX_CONFIG_BYTES,
        file_names.EVALUATION: MAX_CONFIG_BYTES,
        file_names.CARD: MAX_CONFIG_BYTES,
        file_names.SAMPLE_CAPTIONS: MAX_CONFIG_BYTES,
    }
    if manifest.read(source) is not None:
        manifest.verify(source)
    seen = manifest.images_seen(source)
    folder.mkdir()
    for name, most in limits.items():
        if (source / name).exists():
            try:
                content = read_bytes(source / name, most, within)
            except OSError as error:
                raise CheckpointError(f"cannot read {source / name}: {error.strerror or error}") from None
            (folder / name).parent.mkdir(exist_ok=True)
            checkpoint.write_bytes(folder / name, content)
    copied = store.Model(model.name, folder, None)
    config = store.read_config(copied)
    require_portable(config.text.encoder)
    store.require_fit(copied, config, own_net="net" in custom.read_components(folder))
    manifest.write(folder, config.train.images if seen is None else seen)
    record = read_record(source)
    name, license_ = (record.name, record.license) if record is not None else (model.name, "")
    try:
        options = ExportOptions(name=name, license=license_)
    except ConfigError as error:
        raise CheckpointError(f"{source}: {one_line(str(error))[:200]}") from None
    write_record(folder, "folder", options)


def _require_loads(folder: Path, source: str | Path) -> None:
    """Raise CheckpointError if the model that was written does not load."""
    model = store.Model(folder.name, folder, None)
    if store.read_components(model):
        return  # its parts are Python objects, which come with the code of its author
    try:
        store.load_denoiser(model)
    except CheckpointError as error:
        reason = str(error).replace(str(folder), "").lstrip(": /").removesuffix("; copy the model again")
        raise CheckpointError(f"{one_line(str(source))}: {reason}") from None
