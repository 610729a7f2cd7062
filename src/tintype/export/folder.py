"""The form `folder`: an ordinary model folder for other people, with nothing of its training but the settings.

config.json  model.safetensors  model.manifest.json  tokenizer.json  evaluation.json  README.md  tintype.json
samples/captions.txt  samples/example-0.png ...                                        only with examples
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tintype.errors import ConfigError
from tintype.export.card import export_card, front_matter, read_metrics, without_front_matter
from tintype.export.options import ExportOptions
from tintype.export.record import write_record
from tintype.model import checkpoint, custom, file_names, manifest, store
from tintype.pipeline.image_file import encode
from tintype.pipeline.pipeline import Pipeline
from tintype.training.monitor.log import metrics_json


def write_folder(model: store.Model, out: Path, options: ExportOptions) -> None:
    """Write the form `folder` of a model at `out`, where nothing is. Raises CheckpointError, ConfigError, OSError."""
    write_model_folder(model, out, options)
    write_record(out, "folder", options)


def write_model_folder(
    model: store.Model, out: Path, options: ExportOptions, use: str = "", tags: Sequence[str] = ()
) -> None:
    """Write a model folder for other people at `out`, where nothing is; the record is left to the caller.

    use: Markdown at the end of a card that is made here. tags: more of them in its metadata. Raises CheckpointError,
    ConfigError, OSError.
    """
    if options.precision == "int8":
        raise ConfigError("a model folder has precision fp16 or fp32; int8 is for other forms")
    config = store.read_config(model)
    require_portable(config.text.encoder)
    weights = store.read_weights(model)
    seen = images_seen(model)
    metrics = read_metrics(model.folder)
    pictures = {caption: f"samples/example-{index}.png" for index, caption in enumerate(options.examples)}

    out.mkdir()
    write_model(model, out, config.to_json(), weights if options.precision == "fp32" else half(weights))
    manifest.write(out, seen)
    if metrics.errors:
        errors = {"images_seen": seen, **metrics_json(metrics)}
        checkpoint.write_text(out / file_names.EVALUATION, json.dumps(errors, indent=1, allow_nan=False) + "\n")
    if pictures:
        _draw_examples(out, options.name, pictures)
    card = options.card
    if card is None:
        num_weights = sum(weight.numel() for weight in weights.values())
        card = export_card(config, options, num_weights=num_weights, images_seen=seen, metrics=metrics) + use
    metadata = front_matter(options, pictures, tags)
    checkpoint.write_text(out / file_names.CARD, metadata + "\n" + without_front_matter(card))


def write_model(model: store.Model, folder: Path, config: str, weights: Mapping[str, Tensor]) -> None:
    """Write a model's settings, weights, vocabulary and the names of its custom components into a folder.

    Raises CheckpointError, NotFiniteError.
    """
    checkpoint.write_text(folder / file_names.CONFIG, config)
    checkpoint.write_tensors(folder / file_names.WEIGHTS, weights)
    tokenizer = store.read_tokenizer(model)
    if tokenizer is not None:
        checkpoint.write_text(folder / file_names.TOKENIZER, tokenizer)
    components = {
        part: name for part, name in store.read_components(model).items() if part in custom.OF_MODEL
    }  # the others matter only in training
    if components:
        checkpoint.write_text(folder / file_names.COMPONENTS, custom.to_json(components))


def half(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights rounded to the nearest float16. A tensor with a number too large for it stays as it is."""
    halves = {name: weight.half() for name, weight in weights.items()}
    return {name: rounded if bool(torch.isfinite(rounded).all()) else weights[name] for name, rounded in halves.items()}


def images_seen(model: store.Model) -> int:
    """Images that a model has seen, by its state of training or its manifest; else those that were planned."""
    seen = manifest.read_images_seen(model.folder / file_names.STATE)
    if seen is None:
        seen = manifest.images_seen(model.folder)
    return store.read_config(model).train.images if seen is None else seen


def require_portable(encoder: str) -> None:
    """Raise ConfigError if a text encoder is a folder of this machine: nobody else has it, and its path is private."""
    name = encoder.removeprefix("hf:")
    if encoder.startswith("hf:") and (Path(name).is_dir() or Path(name).is_absolute()):
        raise ConfigError(
            "the text encoder of this model is a folder of this machine, which others do not have; train with the name "
            "of a text encoder on the Hugging Face Hub, or with --text minilm or learned"
        )


def _draw_examples(folder: Path, name: str, pictures: dict[str, str]) -> None:
    """Draw the captions with the model in `folder`, and note them as captions to try."""
    pipeline = Pipeline.load(folder, "cpu")
    pipeline.name = name  # for receipts; the folder is a temporary one
    request = pipeline.request(list(pictures))
    drawn = zip(pipeline.generate(list(pictures)), pipeline.receipts(request), pictures.values(), strict=True)
    (folder / file_names.SAMPLE_CAPTIONS).parent.mkdir()
    for picture, receipt, path in drawn:
        checkpoint.write_bytes(folder / path, encode(picture, receipt, ".png"))
    checkpoint.write_text(folder / file_names.SAMPLE_CAPTIONS, "".join(f"{caption}\n" for caption in pictures))
