"""The device: which one is used, and whether bfloat16 is faster on it."""

from __future__ import annotations

import ctypes
import sys

import pytest
import torch

from tintype.errors import ConfigError
from tintype.training.core import device


def test_bfloat16_is_chosen_only_where_it_is_clearly_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    threads = torch.get_num_threads()
    for seconds, expected in ((0.9, False), (1.1, False), (0.3, True)):
        monkeypatch.setattr(device, "layer_seconds", lambda device, *, bf16, s=seconds: s if bf16 else 1.0)
        assert device.bf16_is_faster(cpu) is expected
    assert torch.get_num_threads() == threads
    assert device.bf16_is_faster(torch.device("mps")) is False


def test_emulated_bfloat16_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[bool] = []

    def seconds(device: torch.device, *, bf16: bool) -> float:
        passes.append(bf16)
        return 20.0 if bf16 else 1.0

    monkeypatch.setattr(device, "layer_seconds", seconds)
    assert device.bf16_is_faster(torch.device("cpu")) is False
    assert passes == [False, True] * 2


def test_one_slow_pass_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = iter([1.0, 30.0])  # the first pass of all in bfloat16 compiles its kernels
    monkeypatch.setattr(device, "layer_seconds", lambda device, *, bf16: next(slow, 0.3 if bf16 else 1.0))
    assert device.bf16_is_faster(torch.device("cpu")) is True


def test_the_measure_itself_runs() -> None:
    assert device.layer_seconds(torch.device("cpu"), bf16=True) > 0


def test_devices() -> None:
    assert device.choose_device("cpu") == torch.device("cpu")
    assert device.choose_device(None).type in ("cpu", "cuda")
    for wrong in ("gpu9", "cuda:99"):
        with pytest.raises(ConfigError, match="device"):
            device.choose_device(wrong)


def test_keeping_memory_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    device.keep_memory()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # a libc without mallopt
    device.keep_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    device.keep_memory()
