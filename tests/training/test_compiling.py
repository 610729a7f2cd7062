"""Whether a run is compiled: the rule, what the plan says of it, and runs that stay compiled."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from rich.console import Console
from tests.training.conftest import after_step

from tintype.config import Config
from tintype.errors import ConfigError
from tintype.training.core.components import Components
from tintype.training.parallel.world import World
from tintype.training.run import TrainRequest, train
from tintype.training.setup import prepared as module
from tintype.training.setup.compiling import MIN_SECONDS, may_compile, with_compiler
from tintype.training.setup.plan import Speed
from tintype.training.setup.prepared import Prepared

PLAIN = Speed(100.0, 1.0, 0.1)


def prepared_for(device: str = "cuda", images: int = 10**6, **changes: Any) -> Prepared:
    config = Config.from_preset("nano")
    config = replace(config, train=replace(config.train, images=images))
    prepared = Prepared(
        config,
        tokenizer=None,
        encoder=cast(Any, None),
        dataset=cast(Any, None),
        device=torch.device(device),
        bf16=True,
        initial=None,
        checkpoint=None,
        state={},
    )
    return replace(prepared, **changes)


def request_for(compile: bool | None = None) -> TrainRequest:
    return TrainRequest(data="pictures", out=Path("run"), compile=compile)


def choose(
    prepared: Prepared, measure: Callable[[Prepared], Speed], minutes: float | None = None
) -> tuple[bool, Speed, str]:
    out = io.StringIO()
    chosen, speed = with_compiler(prepared, PLAIN, minutes, measure, Console(file=out, width=300))
    return chosen.compiled, speed, out.getvalue()


def test_it_is_open_only_for_new_runs_of_one_process_on_cuda() -> None:
    two = cast(World, SimpleNamespace(size=2))
    assert may_compile(request_for(), prepared_for(), World(), is_new=True)
    assert not may_compile(request_for(), prepared_for(), World(), is_new=False)
    assert not may_compile(request_for(), prepared_for("cpu"), World(), is_new=True)
    assert not may_compile(request_for(), prepared_for(), two, is_new=True)
    assert not may_compile(request_for(), prepared_for(deterministic=True), World(), is_new=True)
    for explicit in (True, False):
        assert not may_compile(request_for(explicit), prepared_for(), World(), is_new=True)
    own = Components(net=torch.nn.Identity())
    assert not may_compile(request_for(), prepared_for(components=own), World(), is_new=True)


@pytest.mark.parametrize("minutes", [None, MIN_SECONDS / 60 - 0.1])
def test_a_short_run_is_not_compiled_nor_measured_again(minutes: float | None) -> None:
    def measure(prepared: Prepared) -> Speed:
        raise AssertionError("measured")

    images = int(0.9 * MIN_SECONDS * PLAIN.images_per_second) if minutes is None else 10**9
    compiled, speed, said = choose(prepared_for(images=images), measure, minutes)
    assert (compiled, speed) == (False, PLAIN)
    assert "too short to repay the compiler" in said


@pytest.mark.parametrize("minutes", [None, MIN_SECONDS / 60 + 0.1])
@pytest.mark.parametrize(("rate", "faster"), [(185.0, True), (90.0, False)])
def test_a_long_run_takes_the_faster_way_and_says_so(rate: float, faster: bool, minutes: float | None) -> None:
    def measure(prepared: Prepared) -> Speed:
        assert prepared.compiled
        return replace(PLAIN, images_per_second=rate, compile_seconds=43.0)

    compiled, speed, said = choose(prepared_for(), measure, minutes)
    assert compiled is faster
    assert speed.images_per_second == (rate if faster else PLAIN.images_per_second)
    assert f"the compiler took 43 s; steps are {rate / 100:.2f} times as fast" in said
    assert ("not compiled" in said) is not faster


@pytest.mark.parametrize("kind", [ConfigError, RuntimeError])
def test_a_machine_where_the_compiler_fails_trains_without_it(kind: type[Exception]) -> None:
    def measure(prepared: Prepared) -> Speed:
        raise kind("the network cannot be compiled here (no gcc); train with --compile off")

    compiled, speed, said = choose(prepared_for(), measure)
    assert (compiled, speed) == (False, PLAIN)
    assert "no gcc" in said


def run(request: TrainRequest) -> str:
    out = io.StringIO()
    train(request, Console(file=out, width=300))
    return out.getvalue()


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_nano")
def test_a_compiled_run_is_stopped_and_goes_on_bit_for_bit(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMPILER", "eager")

    def request(name: str, compile: bool | None) -> TrainRequest:
        return TrainRequest(data=pictures, out=tmp_path / name, images=40, device="cpu", compile=compile)

    assert "float32, compiled" in run(request("whole", True))

    def stop() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        after_step(patched, 16, stop)
        with pytest.raises(KeyboardInterrupt):
            run(request("stopped", True))
    assert json.loads((tmp_path / "stopped/start.json").read_text())["compiled"] is True
    said = run(request("stopped", None))  # it stays compiled
    assert "float32, compiled" in said
    assert "no longer bit for bit" not in said
    whole, stopped = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped"))
    assert whole == stopped


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_nano")
def test_a_run_that_is_no_longer_compiled_says_so(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMPILER", "eager")
    request = TrainRequest(data=pictures, out=tmp_path / "run", images=16, device="cpu", compile=True)
    run(request)
    assert "note: not compiled from here on" in run(replace(request, images=40, compile=False))
