"""Every test runs without a network and with the same examples each time."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

# Before anything imports transformers, and for every process that a test starts.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
import torch
from hypothesis import settings

LOOPBACK = ("127.", "::1", "localhost")


def _refuse_network(method: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(LOOPBACK):
            raise RuntimeError(f"a test tried to reach {address[0]}: tests use no network")
        return method(self, address)

    return guarded


def pytest_configure() -> None:
    socket.socket.connect = _refuse_network(socket.socket.connect)  # type: ignore[method-assign]
    socket.socket.connect_ex = _refuse_network(socket.socket.connect_ex)  # type: ignore[method-assign]
    settings.register_profile("tintype", deadline=None, derandomize=True, database=None)
    settings.load_profile("tintype")
    if "OMP_NUM_THREADS" not in os.environ and hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))  # what this process may use, not what the machine has


@pytest.fixture(scope="session")
def data_sets() -> Path:
    """The folder of data sets for tests marked needs_data; they are skipped where there is none."""
    folder = os.environ.get("TINTYPE_TEST_DATA")
    if not folder:
        pytest.skip("TINTYPE_TEST_DATA names no folder of data sets")
    return Path(folder)
