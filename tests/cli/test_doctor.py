"""The report on this machine names what is shipped and says what training would do here."""

from __future__ import annotations

import pytest
import torch

from tintype.cli.run import doctor
from tintype.model import store


def test_it_lists_the_machine_and_all_that_is_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_matmul_rate", lambda device, dtype: 123.0)  # seconds on a processor that emulates
    monkeypatch.setattr(doctor, "bf16_is_faster", lambda device: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    lines = list(doctor.doctor())
    for name in store.shipped():
        assert any(line.startswith(f"model {name}: ") for line in lines)
    for name in store.shipped_token_models():
        assert any(line.startswith(f"token model {name}: ") for line in lines)
    assert any("float32 123, bfloat16 123 billion operations a second" in line for line in lines)
    assert lines[-1] == "ok: ready"
