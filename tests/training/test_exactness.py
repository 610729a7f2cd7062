"""`--deterministic`: kernels that give the same bits, or a refusal; what a run keeps of it; TF32."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from tintype.errors import ConfigError
from tintype.training.core import exactness
from tintype.training.core.components import Components
from tintype.training.core.exactness import Numerics, change_of_numerics, deterministic, float32_products, has_tf32
from tintype.training.core.trainer import Trainer
from tintype.training.run import TrainRequest, train
from tintype.training.setup import prepare

CPU = torch.device("cpu")


@pytest.fixture
def request_(pictures: Path, tmp_path: Path, tiny_nano: None) -> TrainRequest:
    return TrainRequest(data=pictures, out=tmp_path / "run", images=16, device="cpu", threads=1)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(request: TrainRequest) -> str:
    """Train and return what was printed."""
    out = io.StringIO()
    train(request, Console(file=out, width=300))
    return out.getvalue()


def test_the_settings_of_pytorch_hold_inside_and_return(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    with deterministic(CPU), deterministic(CPU):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.cudnn.benchmark is False
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark is True
    assert torch.utils.deterministic.fill_uninitialized_memory is True


@pytest.mark.parametrize(
    ("before", "after"), [(None, ":4096:8"), (":16:8", ":16:8"), (":4096:2:16:8", ":4096:8")], ids=str
)
def test_cublas_gets_a_fixed_workspace(monkeypatch: pytest.MonkeyPatch, before: str | None, after: str) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", before or "")
    with deterministic(CPU):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == (before or "")  # of no concern to a CPU
    with deterministic(torch.device("cuda")):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == after


def test_an_operation_without_such_a_kernel_is_refused_in_one_line() -> None:
    x = torch.zeros(4)
    with pytest.raises(ConfigError, match="there is no deterministic kernel for 'put_'; leave out --deterministic"):
        with deterministic(CPU):
            x.put_(torch.tensor([1]), torch.tensor([2.0]))
    with pytest.raises(RuntimeError, match="shapes"), deterministic(CPU):
        raise RuntimeError("shapes do not match")


def test_a_run_with_such_an_operation_fails_and_says_what_to_do(request_: TrainRequest) -> None:
    def weight(sigma: Tensor) -> Tensor:
        return torch.zeros_like(sigma).put_(torch.arange(len(sigma)), torch.ones_like(sigma))

    own = replace(request_, components=Components(loss_weight=weight))
    with pytest.raises(ConfigError, match="leave out --deterministic"):
        run(replace(own, deterministic=True))
    assert not torch.are_deterministic_algorithms_enabled()


def test_on_a_cpu_the_bits_are_those_of_a_run_without_it(
    make_trainer: Callable[..., Trainer], device: torch.device
) -> None:
    plain, exact = make_trainer(device=device), make_trainer(device=device)
    list(plain.steps(24))
    with deterministic(device):
        list(exact.steps(24))
    for name, weight in plain.weights().items():
        if device.type == "cpu":
            assert torch.equal(weight, exact.weights()[name])
        else:  # the largest difference that was measured after 50 steps is 4.4e-4
            torch.testing.assert_close(weight, exact.weights()[name], rtol=0, atol=5e-3)


@pytest.mark.slow
def test_a_run_keeps_it_and_its_threads(request_: TrainRequest, threads: None) -> None:
    assert "float32, deterministic" in run(replace(request_, deterministic=True))
    start = json.loads((request_.out / "start.json").read_text())
    assert (start["deterministic"], start["tf32"], start["threads"]) == (True, False, 1)
    torch.set_num_threads(2)
    printed = run(replace(request_, images=24, threads=None))
    assert "deterministic" in printed
    assert "bit for bit" not in printed
    state = json.loads((request_.out / "checkpoints" / "step-00000006" / "state.json").read_text())
    assert (state["deterministic"], state["threads"]) == (True, 1)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_change_of_numerics_is_said() -> None:
    now = Numerics("cuda", bf16=True, threads=0, version="2.9", deterministic=True)
    assert change_of_numerics(now.to_dict(), now) == ""
    old = {"device": "cuda", "bf16": True, "threads": 0, "torch": "2.8"}  # of before this was recorded
    assert (
        change_of_numerics(old, now) == "2.8 as the version of torch before, 2.9 now; --deterministic only from here on"
    )
    on_cpu = replace(now, device="cpu", threads=2, version="2.8")
    assert change_of_numerics({**old, "threads": 1}, on_cpu) == "1 threads before, 2 now"
    assert change_of_numerics({}, on_cpu) == ""


def test_tf32_is_for_gpus_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_tf32(CPU)
    for capability, expected in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(exactness.torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert has_tf32(torch.device("cuda")) is expected
    before = torch.get_float32_matmul_precision()
    with float32_products(tf32=True):
        assert torch.get_float32_matmul_precision() == "high"
    with float32_products(tf32=False):
        assert torch.get_float32_matmul_precision() == before
    assert torch.get_float32_matmul_precision() == before


def test_compiled_kernels_of_a_gpu_are_refused(request_: TrainRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "_uses_bf16", lambda request, config, device: False)
    monkeypatch.setattr(prepare, "has_tf32", lambda device: False)
    asked = replace(request_, deterministic=True, compile=True, preset="nano")
    asked.out.mkdir()
    with pytest.raises(ConfigError, match="leave out --deterministic, or give --compile off"):
        prepare.prepare(asked, asked.out, None, torch.device("cuda"), Console(file=io.StringIO()))


@pytest.mark.gpu
def test_two_equal_runs_on_a_gpu_are_equal_to_the_bit(make_trainer: Callable[..., Trainer], gpu: torch.device) -> None:
    with deterministic(gpu):
        trainers = [make_trainer(device=gpu, bf16=bf16) for bf16 in (False, False, True, True)]
        for trainer in trainers:
            list(trainer.steps(40))
    for left, right in (trainers[:2], trainers[2:]):
        assert all(torch.equal(weight, right.weights()[name]) for name, weight in left.weights().items())
