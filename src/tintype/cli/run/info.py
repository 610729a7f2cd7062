"""Descriptions of pictures, models and runs, in lines for the terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tintype.config.sizes import size_text
from tintype.errors import CheckpointError, DataError
from tintype.export.record import Record, read_record
from tintype.export.target import is_page
from tintype.model import file_names, manifest
from tintype.model.read_file import MAX_RECORD_BYTES, read_text
from tintype.pipeline.image_file import read_receipt, read_texts
from tintype.pipeline.receipt import Receipt
from tintype.printable import printable, shell_word
from tintype.tokens.receipt import TokenReceipt

if TYPE_CHECKING:
    from tintype.config import Config
    from tintype.model.store import Model

ENGINES = {"webgpu": "WebGPU", "wasm": "WebAssembly", "javascript": "JavaScript"}


def info(target: str) -> list[str]:
    """Describe a picture, a model folder, a run folder or a shipped model. Raises TintypeError for anything else."""
    from tintype.model.store import is_token_model

    path = Path(target)
    if path.is_file():
        return packed_lines(path, "page") if is_page(path) else picture_lines(path)
    record = read_record(path) if path.is_dir() else None
    if record is not None and record.form == "site":
        return packed_lines(path, "site")
    if record is not None and not (path / file_names.WEIGHTS).is_file():
        return record_lines(path, record)
    if is_token_model(target):
        return token_model_lines(target)
    try:
        return model_lines(target)
    except CheckpointError as error:
        is_run = (path / file_names.CONFIG).is_file() and (path / file_names.DATA).is_file()
        if not is_run or (path / file_names.WEIGHTS).is_file():
            raise
        return run_lines(path, str(error))


def verified(target: str) -> list[str]:
    """Compare every file of a model with its manifest. Raises CheckpointError naming the first that differs."""
    from tintype.model import store

    if Path(target).is_file():
        raise CheckpointError(
            f"{target} is a file; --verify takes a model folder, a run folder, hf:OWNER/NAME or a shipped name"
        )
    model = store.find(target)
    names = store.verify(model)
    warning = [f"warning: {printable(model.warning)}"] if model.warning else []
    return [
        *warning,
        f"{model.name}: intact; {len(names)} files of {model.folder} are as they were written: {', '.join(names)}",
    ]


def run_lines(run: Path, error: str) -> list[str]:
    """Progress of a run without a whole checkpoint, and the `error` about those that it has. Raises CheckpointError."""
    from tintype.model import store
    from tintype.training.monitor.log_rows import read_log
    from tintype.training.monitor.status import run_status

    train = store.read_config(store.Model(run.name, run, run)).train
    seen = max([0, *(row["images_seen"] for row in read_log(run / file_names.LOG))])
    heading = f"{run}: a run without a complete checkpoint; {seen:,} of {train.images:,} images seen"
    warning = error if any((run / file_names.CHECKPOINTS).glob("step-*")) else ""
    return [heading, *_aligned([*run_status(run, train), *_sharing(str(run), run), ("warning", warning)])]


def record_lines(folder: Path, record: Record) -> list[str]:
    """An export that is no model folder."""
    size = sum(file.stat().st_size for name in record.files if (file := folder / name).is_file())
    lines = [
        ("name", record.name),
        ("license", record.license or "none"),
        ("exported", f"by Tintype {record.version}"),
        ("files", f"{', '.join(record.files)} ({size / 2**20:.1f} MiB)"),
    ]
    return [f"{folder}: a text-to-image model, exported as {printable(record.form)}", *_aligned(lines)]


def packed_lines(path: Path, form: str) -> list[str]:
    """A page or site: the model in it, of which only the head is read. Raises CheckpointError."""
    from tintype.export.importing.import_model import config_of, text_of
    from tintype.export.importing.packed import read_packed
    from tintype.export.importing.sources import PACKED

    model = read_packed(path)
    config = config_of(model)
    receipt = model.description.get("receipt")
    sha256 = receipt.get("model_hash") if isinstance(receipt, dict) else None
    size = (path / PACKED if path.is_dir() else path).stat().st_size
    sample = config.sample
    lines = [
        ("name", text_of(model, "name")),
        ("license", text_of(model, "license") or "none"),
        ("exported", f"by Tintype {text_of(model, 'version')}"),
        ("pictures", ", ".join(map(size_text, config.sizes))),
        ("weights", f"stored as {text_of(model, 'precision')} ({size / 2**20:.1f} MiB)"),
        ("text", f"{config.text.encoder}, at most {config.text.max_tokens} tokens"),
        ("distilled", _distilled(config)),
        ("sampling", f"{sample.sampler}, {sample.steps} steps, guidance {sample.guidance:g}"),
        ("original", f"sha256 {sha256[:64]}" if isinstance(sha256, str) else ""),
        ("to use it", f"tintype import {shell_word(str(path))} --out FOLDER"),
    ]
    return [f"{path}: a text-to-image model, exported as {form}", *_aligned(lines)]


def picture_lines(path: Path) -> list[str]:
    """The receipt of a picture, or the text that another program left in it. Raises DataError."""
    texts = read_texts(path)
    if "tintype" not in texts and "parameters" in texts:
        return [
            f"{path}: not made by Tintype; another program says:",
            *map(printable, texts["parameters"].splitlines()),
        ]
    written = TokenReceipt.from_json(texts.get("tintype", ""))
    if written is not None:
        return written_lines(path, written)
    receipt = read_receipt(path)
    lines = [
        ("caption", receipt.caption),
        ("negative", receipt.negative),
        ("seed", f"{receipt.seed}, index {receipt.index}"),
        ("steps", f"{receipt.steps}, schedule {receipt.grid}, sampler {receipt.sampler}"),
        ("guidance", f"{receipt.guidance:g} at sigma {receipt.guidance_min:g} to {receipt.guidance_max:g}"),
        ("guide", f"{receipt.guide} (sha256 {receipt.guide_hash[:10]}...)" if receipt.guide else ""),
        ("size", f"{receipt.width}x{receipt.height}"),
        ("enlarged", f"to {receipt.enlarge}" if receipt.enlarge else ""),
        ("made from", f"a picture, strength {receipt.strength:g}" if receipt.init_image else ""),
        ("mask", "yes" if receipt.mask else ""),
        ("outpainted", f"{receipt.outpaint} pixels (left, top, right, bottom)" if receipt.outpaint else ""),
        ("inverted", f"as {receipt.invert!r}" if receipt.invert is not None else ""),
        ("mixed in", _interpolation(receipt) if receipt.share else ""),
        ("model", f"{receipt.model} (sha256 {receipt.model_hash[:10]}...)"),
        ("weights", f"rounded to {receipt.precision}" if receipt.precision else ""),
        ("drawn by", f"a page, with {ENGINES.get(receipt.engine, receipt.engine)}" if receipt.engine else ""),
        ("version", f"tintype {receipt.version}"),
    ]
    return [f"{path}: made by Tintype", *_aligned(lines)]


def written_lines(path: Path, receipt: TokenReceipt) -> list[str]:
    """The receipt of a picture that was written token by token."""
    lines = [
        ("caption", receipt.caption),
        ("seed", f"{receipt.seed}, index {receipt.index}"),
        ("drawn", f"temperature {receipt.temperature:g}, top k {receipt.top_k or 'all'}"),
        ("guidance", f"{receipt.guidance:g}"),
        ("size", f"{receipt.side}x{receipt.side}"),
        ("model", f"{receipt.model} (sha256 {receipt.model_hash[:10]}...)"),
        ("version", f"tintype {receipt.version}"),
    ]
    return [f"{path}: made by Tintype, token by token", *_aligned(lines)]


def token_model_lines(name: str) -> list[str]:
    """Tokens, network, training and defaults of a token model. Raises CheckpointError."""
    from tintype.tokens import store

    folder = store.find(name)
    config, weights = store.read_config(folder), store.weights_file(folder)
    net, write = config.net, config.write
    images = max(
        _count_in(folder / file_names.STATE, "images_seen"), _count_in(folder / file_names.EVALUATION, "images_seen")
    )
    lines = [
        ("pictures", f"{net.resolution}x{net.resolution}, {net.num_tokens} tokens of {net.patch}x{net.patch}"),
        ("codebook", f"{net.codes:,} codes"),
        ("weights", f"{_num_weights(weights):,} ({weights.stat().st_size / 2**20:.1f} MiB), with the codebook"),
        ("network", f"width {net.width}, depth {net.depth}"),
        ("text", f"{config.text.encoder}, at most {config.text.max_tokens} tokens"),
        ("training", f"{images:,} of {config.train.images:,} images seen"),
        ("writing", f"temperature {write.temperature:g}, top k {write.top_k or 'all'}, guidance {write.guidance:g}"),
        ("folder", str(folder)),
        ("sha256", store.weights_hash(folder)),
    ]
    return [f"{Path(name).name}: a text-to-image model that writes token by token", *_aligned(lines)]


def _interpolation(receipt: Receipt) -> str:
    caption = [] if receipt.caption_to is None else [f"caption {receipt.caption_to!r}"]
    seed = [] if receipt.seed_to is None else [f"noise of seed {receipt.seed_to}, index {receipt.index_to}"]
    return f"{receipt.share:.3g} of {' and '.join([*caption, *seed])}"


def model_lines(name: str) -> list[str]:
    """Size, text encoder, data, training and progress of a model. Raises CheckpointError."""
    from tintype.model import store
    from tintype.training.monitor.log_rows import read_log
    from tintype.training.monitor.status import run_status

    model = store.find(name)
    config = store.read_config(model)
    net, train, noise, sample = config.net, config.train, config.noise, config.sample
    folder = model.run or model.folder
    rows = read_log(folder / file_names.LOG)
    errors: dict[str, float | None] = next((row["noise_error"] for row in reversed(rows) if row.get("noise_error")), {})
    num_samples = _count_in(folder / file_names.DATA, "num_samples")
    record = read_record(model.folder)
    size = (model.folder / file_names.WEIGHTS).stat().st_size
    lines = [
        ("pictures", ", ".join(map(size_text, config.sizes))),
        ("weights", f"{_num_weights(model.folder / file_names.WEIGHTS):,} ({size / 2**20:.1f} MiB)"),
        ("preset", f"{config.preset}: width {net.width}, depth {net.depth}, patch {net.patch}"),
        ("text", f"{config.text.encoder}, at most {config.text.max_tokens} tokens"),
        ("training", _progress(model, train.images, train.planned_images, [row["images_seen"] for row in rows])),
        *(run_status(model.run, train) if model.run is not None else []),
        ("data", f"{num_samples:,} captioned pictures" if num_samples else ""),
        ("settings", f"predicts {noise.prediction}, batch {train.batch_size}, lr {train.lr:g}"),
        ("loss", f"weight {noise.weighting}"),
        (
            "noise error",
            ", ".join(f"{error:.2g} at sigma {float(level):.3g}" for level, error in errors.items() if error),
        ),
        ("distilled", _distilled(config)),
        ("license", (record.license or "none") if record else ""),
        ("exported", _exported(record) if record else ""),
        ("sampling", f"{sample.sampler}, {sample.steps} steps, guidance {sample.guidance:g}"),
        ("folder", str(model.folder)),
        *_sharing(name, folder),
        ("warning", model.warning),
        ("sha256", store.weights_hash(model)),
    ]
    return [f"{model.name}: a text-to-image model", *_aligned(lines)]


def _exported(record: Record) -> str:
    form = "" if record.form == "folder" else f", in the form {record.form}"
    return f"by Tintype {record.version}, as {record.name!r}{form}"


def _sharing(name: str, run: Path) -> list[tuple[str, str]]:
    """What of a run folder is the model, which others may have, and what shows the data; nothing for a model folder.

    name: of the run on the command line.
    """
    private = [name for name in file_names.PRIVATE if (run / name).exists()]
    if not {file_names.DATA, file_names.CACHE_FOLDER} & set(private):
        return []
    word = shell_word(name)
    command = f"tintype export --out FOLDER {'-- ' if word.startswith('-') else ''}{word}"
    files = [name for name in manifest.FILES if (run / name).is_file()] if (run / file_names.WEIGHTS).is_file() else []
    return [
        ("to share", f"{command} (writes the model alone{': ' if files else ''}{', '.join(files)})"),
        ("private", f"{', '.join(private)}: captions and pictures of your data; do not upload this folder"),
    ]


def _distilled(config: Config) -> str:
    """The teacher of a distilled model; empty for any other."""
    distill = config.distill
    if not distill.steps:
        return ""
    return f"from {distill.teacher} (sha256 {distill.teacher_hash[:10]}...), guidance {distill.guidance:g}"


def _progress(model: Model, images: int, planned_images: int, logged_images: Sequence[int]) -> str:
    if model.folder != model.run:
        seen = max(
            _count_in(model.folder / file_names.STATE, "images_seen"),
            manifest.images_seen(model.folder) or 0,
            *logged_images,
        )
        if model.run is not None or 0 < seen < images:
            return f"not finished: {seen:,} of {images:,} images seen ({100 * seen / images:.0f}%)"
    early = f" of {planned_images:,} planned, as far as it learned more than its pictures" if planned_images else ""
    return f"finished: {images:,} images seen{early}"


def _num_weights(path: Path) -> int:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); use another checkpoint or copy it again") from None


def _aligned(rows: list[tuple[str, str]]) -> list[str]:
    return [f"  {name:<12} {printable(' '.join(value.split()))}" for name, value in rows if value]


def _count_in(path: Path, name: str) -> int:
    """A count in a JSON file; 0 without the file or the entry. Raises DataError if the file is damaged."""
    if not path.is_file():
        return 0
    try:
        value = json.loads(read_text(path, MAX_RECORD_BYTES)).get(name, 0)
    except (OSError, ValueError, AttributeError, RecursionError):
        raise DataError(f"{path} is damaged; restore it from a backup") from None
    return value if type(value) is int else 0
