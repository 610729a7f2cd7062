"""How exactly a device computes: kernels that give the same bits each time, and TF32 for products of float32.

On a CPU the kernels here give the same bits for the same number of threads. On a GPU the fastest ones do not: they add
in whatever order the parts are ready, so two equal runs drift apart. PyTorch has others, which cost time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from tintype.errors import ConfigError

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # without a fixed one cuBLAS may add in another order
_EXACT_WORKSPACES = (":4096:8", ":16:8")
_memory: Any = torch.utils.deterministic  # its settings are attributes of the module
_TF32_SINCE = (8, 0)  # compute capability: Ampere


@dataclass(frozen=True, slots=True)
class Numerics:
    """The choices that decide the last bits of a run besides its configuration: recorded at its start."""

    device: str  # its type
    bf16: bool
    threads: int  # of a CPU; 0 on other devices
    version: str  # of PyTorch
    tf32: bool = False
    deterministic: bool = False
    compiled: bool = False

    @classmethod
    def here(
        cls,
        device: torch.device,
        *,
        bf16: bool,
        tf32: bool = False,
        deterministic: bool = False,
        compiled: bool = False,
    ) -> Numerics:
        """Those of this process as it is now."""
        threads = torch.get_num_threads() if device.type == "cpu" else 0
        return cls(device.type, bf16, threads, str(torch.__version__), tf32, deterministic, compiled)

    def to_dict(self) -> dict[str, Any]:
        """As `start.json` and `state.json` hold it."""
        values = asdict(self)
        return {"torch": values.pop("version"), **values}


def change_of_numerics(before: Mapping[str, Any], now: Numerics) -> str:
    """What differs from the recorded numerics and changes the last bits from here on, in words; "" if nothing does."""
    named = (("threads", now.threads, "threads"), ("torch", now.version, "as the version of torch"))
    changed = [
        f"{before[name]} {text} before, {value} now"
        for name, value, text in named
        if name in before and before[name] != value
    ]
    if now.deterministic and now.device != "cpu" and not before.get("deterministic", False):
        changed.append("--deterministic only from here on")
    if now.compiled != before.get("compiled", False):
        changed.append("compiled only from here on" if now.compiled else "not compiled from here on")
    return "; ".join(changed)


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """A `with` block in which an operation on `device` gives the same bits each time, or is refused.

    Raises ConfigError for an operation that has no such kernel on the device.
    """
    if device.type == "cuda" and os.environ.get(_WORKSPACE) not in _EXACT_WORKSPACES:
        os.environ[_WORKSPACE] = _EXACT_WORKSPACES[0]  # read at the first product of the process
    fill = _memory.fill_uninitialized_memory
    benchmark = torch.backends.cudnn.benchmark
    was_on, only_warned = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False  # it would choose kernels by the clock
    _memory.fill_uninitialized_memory = False  # nothing here reads memory that was never written
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        operation = str(error).split(" does not have ")[0].split("\n")[0]
        raise ConfigError(
            f"on {device.type} there is no deterministic kernel for {operation[:80]!r}; leave out --deterministic, or "
            "train on a CPU"
        ) from None
    finally:
        torch.use_deterministic_algorithms(was_on, warn_only=only_warned)
        torch.backends.cudnn.benchmark = benchmark
        _memory.fill_uninitialized_memory = fill


def has_tf32(device: torch.device) -> bool:
    """Whether a device multiplies float32 numbers of 11 significant bits several times as fast as whole ones."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= _TF32_SINCE


@contextmanager
def float32_products(*, tf32: bool) -> Iterator[None]:
    """A `with` block in which products of float32 matrices may take TF32. Without `tf32` nothing changes."""
    before = torch.get_float32_matmul_precision()
    if tf32:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
