"""The device: which one to use, and whether bfloat16 is faster on it."""

from __future__ import annotations

import ctypes
import math
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from tintype.errors import ConfigError

BF16_GAIN = 1.5  # layers must be this much faster in bfloat16 before whole steps are tried
_PASSES = 6  # per measurement; the fastest counts
_HOPELESS = 4.0  # times slower in each of two passes: emulated bfloat16 is, and its passes take half a second each
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def choose_device(name: str | None) -> torch.device:
    """The device of this name; None: a GPU if there is one, else the CPU. Raises ConfigError for an unknown device."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):
        raise ConfigError(f"this machine has no device {name!r}; use cpu, or leave out --device") from None
    return device


def bf16_is_faster(device: torch.device) -> bool:
    """Whether layers train clearly faster in bfloat16: measured, as some processors have it but are slow at it.

    A quick test before `auto_preset.bf16_steps_are_faster`.
    """
    if device.type not in ("cpu", "cuda"):
        return False
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # its CPU time is not affected by other programs
    try:
        float32, bfloat16 = math.inf, math.inf
        for number in range(_PASSES):
            float32 = min(float32, layer_seconds(device, bf16=False))
            bfloat16 = min(bfloat16, layer_seconds(device, bf16=True))
            if number > 0 and bfloat16 > _HOPELESS * float32:
                break
    finally:
        torch.set_num_threads(threads)
    return BF16_GAIN * bfloat16 < float32


def layer_seconds(device: torch.device, *, bf16: bool) -> float:
    """One pass, forward and backward, through a linear layer and a convolution."""
    size = 4 if device.type == "cpu" else 256  # enough work to tell
    rows = torch.ones(size * 256, 256, device=device, requires_grad=True)
    matrix = torch.ones(768, 256, device=device, requires_grad=True)
    pictures = torch.ones(size, 32, 32, 32, device=device, requires_grad=True)
    kernel = torch.ones(32, 32, 3, 3, device=device, requires_grad=True)
    clock: Callable[[], float] = time.thread_time if device.type == "cpu" else time.perf_counter
    start = clock()
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        total = F.linear(rows, matrix).float().sum() + F.conv2d(pictures, kernel, padding=1).float().sum()
    torch.autograd.backward(total)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


def keep_memory() -> None:
    """Make glibc keep freed memory for the next step instead of returning it and faulting it in again.

    Does nothing without glibc. `bench/train_speed.py --malloc` measures the gain.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl and others have no mallopt
        return
    for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        mallopt(ctypes.c_int(option), ctypes.c_int(2**31 - 1))
