"""Processes that share the model out train, save and go on as one that has all of it, whatever their number."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tintype.errors import CheckpointError
from tintype.model import checkpoint
from tintype.pipeline.pipeline import Pipeline
from tintype.training.checkpoints.checkpointer import read_parts
from tintype.training.checkpoints.posthoc_ema import averaged

# One process imports torch, then forks those that train: each with the environment that torchrun would give it.
FORK = """
import contextlib, json, os, resource, socket, sys, traceback, warnings
warnings.simplefilter("error")
sys.path.insert(0, {tests!r})
import torch, torch.distributed.fsdp, torch.distributed.checkpoint
from dataclasses import replace
from pathlib import Path
from conftest import TINY, DrawnSamples
from tintype.model import checkpoint
from tintype.model.denoiser import Denoiser
from tintype.errors import CheckpointError, NotFiniteError
from tintype.training.parallel.world import full_tensor, init_processes, local_shard
from tintype.training.checkpoints.run_folder import load_state
from tintype.training.checkpoints.checkpointer import Checkpointer, read_parts
from tintype.training.core.trainer import Trainer

HERE = Path({folder!r})

def picture(trainer):
    with torch.no_grad():
        cond = trainer.denoiser.condition([torch.full((2, 4), 0.3).half(), torch.zeros(0, 4).half()])
        return trainer.denoiser(torch.ones(2, 3, 8, 8), torch.tensor([3.0, 0.5]), cond).flatten().tolist()

def save(saver, trainer, step):
    place = checkpoint.step_folder(saver._run, step)
    saver.save(place, trainer.tensors(), {{"state.json": json.dumps(trainer.counts())}})
    saver.wait()

def refusals(saver, trainer, rank):
    # What every process says when one of them has a full disk, and when one has a number that is none.
    said = []
    signal, limits = __import__("signal"), resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        save(saver, trainer, 98)
    except CheckpointError as error:
        said.append(str(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    weight = local_shard(trainer.weights()["text.start"])
    kept = weight.clone()
    if rank == 1:
        weight[0] = float("nan")
    try:
        save(saver, trainer, 99)
    except NotFiniteError as error:
        said.append(str(error))
    weight.copy_(kept)
    return said

def work(name, rank, size, port, micro_batch, start, sharded):
    os.environ |= dict(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.manual_seed(0 if start is None else 1)  # other weights at first: all must be replaced
    config = replace(TINY, train=replace(TINY.train, batch_size=8, micro_batch=micro_batch, held_out=0.1))
    with init_processes(torch.device("cpu"), shard=sharded) as world:
        trainer = Trainer(Denoiser(config), DrawnSamples(), config, torch.device("cpu"), world=world)
        if start is not None:
            place = checkpoint.step_folder(HERE / start, 2)
            trainer.load(read_parts(place, trainer.weights(), world), load_state(place))
        saver = Checkpointer(HERE / name, config.train, world)
        rows, said = [], []
        for report in trainer.steps(5 * 8):
            rows.append((report.loss, report.grad_norm))
            if report.images_seen == 16:
                save(saver, trainer, 2)
                said = refusals(saver, trainer, rank) if sharded else []
        saver.close()
        held = sum(local_shard(weight).numel() for weight in trainer.weights().values())
        parts = {{part: {{key: float(full_tensor(t).double().sum()) for key, t in own.items()}}
            for part, own in trainer.tensors().items()}}
        with trainer.averaged():
            made = picture(trainer) if world.is_main else []
        found = dict(name=name, rank=rank, rows=rows, held=held, parts=parts, made=made, said=said)
        (HERE / f"{{name}}-{{rank}}.json").write_text(json.dumps(found))

for name, size, micro_batch, start, sharded in {runs!r}:
    with socket.socket() as free:  # just before it is used: later, a connection may have taken it
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for rank in range(size):
        if os.fork() == 0:
            try:
                work(name, rank, size, port, micro_batch, start, sharded)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
    for rank in range(size):
        os.wait()
"""
RUNS = [  # name, processes, micro-batch, the run whose checkpoint after two steps is gone on from, shared out
    ("alone", 1, 0, None, False),
    ("two", 2, 2, None, True),
    ("three", 3, 2, "two", True),  # 8 pictures are 3, 3 and 2: two pieces, two pieces, one
    ("one", 1, 0, "two", False),
    ("from-whole", 2, 0, "alone", True),
]


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the processes of all the runs have written."""
    folder = tmp_path_factory.mktemp("shards")
    script = FORK.format(tests=str(Path(__file__).parent), folder=str(folder), runs=RUNS)
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    return folder


def told(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"{name}-?.json"))]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "start"), [(name, size, start) for name, size, _, start, _ in RUNS[1:]])
def test_a_shared_model_trains_and_goes_on_as_a_whole_one(
    folder: Path, name: str, size: int, start: str | None
) -> None:
    (alone,) = told(folder, "alone")
    reports = told(folder, name)
    assert len(reports) == size
    expected = alone["rows"] if start is None else alone["rows"][2:]
    for entry in reports:
        assert len(entry["rows"]) == len(expected)
        for (loss, norm), (other_loss, other_norm) in zip(entry["rows"], expected, strict=True):
            assert loss == pytest.approx(other_loss, rel=1e-5)
            assert norm == pytest.approx(other_norm, rel=1e-4)
        for part, totals in alone["parts"].items():
            assert entry["parts"][part] == pytest.approx(totals, rel=1e-3, abs=2e-3)
        assert (entry["rows"], entry["parts"]) == (reports[0]["rows"], reports[0]["parts"])  # to the last bit
    assert reports[0]["made"] == pytest.approx(alone["made"], abs=1e-3)


@pytest.mark.slow
def test_each_process_holds_its_share_of_the_weights(folder: Path) -> None:
    (alone,) = told(folder, "alone")
    held = [entry["held"] for entry in told(folder, "two")]
    assert sum(held) == alone["held"]
    assert max(held) < 0.6 * alone["held"]


@pytest.mark.slow
def test_what_goes_wrong_in_one_process_is_known_in_all_and_nothing_is_left(folder: Path) -> None:
    for entry in told(folder, "two"):
        full, infinite = entry["said"]
        assert "File too large" in full
        assert "finite" in infinite
    names = [path.name for path in (folder / "two" / "checkpoints").iterdir()]
    assert names == ["step-00000002"]


@pytest.mark.slow
def test_a_damaged_shard_is_found_and_named(folder: Path) -> None:
    saved = checkpoint.step_folder(folder / "two", 2)
    parts = read_parts(saved, {}, None)
    assert {part: set(tensors) == set(parts["model"]) for part, tensors in parts.items() if part != "optimizer"} == {
        "model": True,
        "model_long": True,
        "weights": True,
    }
    path = saved / "shard-00002-model-00001-of-00001.safetensors"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(CheckpointError, match="shard-00002"):
            read_parts(saved, {}, None)
        assert not checkpoint.is_whole(saved)
    finally:
        path.write_bytes(content)


RUN = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {tests!r})
import conftest
from tintype.config import PRESETS
from tintype.training.setup import prepare
from tintype.training.run import TrainRequest, train

tiny = conftest.tiny_preset(8)
PRESETS["nano"] = lambda resolution=8: replace(tiny, train=replace(tiny.train, save_minutes=1e-9, held_out=0.2))
prepare.bf16_is_faster = lambda device: False
data, out, images = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
train(TrainRequest(data=data, out=out, images=images, device="cpu", shard=True))
"""


@pytest.mark.slow
def test_a_shared_run_leaves_what_any_run_leaves_and_one_process_goes_on(pictures: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(RUN.format(tests=str(Path(__file__).parent)))
    out, environment = tmp_path / "run", {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", str(free_port())]
    subprocess.run([*command, str(script), str(pictures), str(out), "24"], env=environment, check=True)
    newest = checkpoint.latest(out)
    assert newest is not None
    assert checkpoint.is_sharded(newest)
    final = Pipeline.load(out).generate("shade number 2", seeds=3)[0]
    assert Pipeline.load(newest).generate("shade number 2", seeds=3)[0].size == final.size
    weights, _, _, _ = averaged(out, 0.07)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())
    subprocess.run([sys.executable, str(script), str(pictures), str(out), "28"], env=environment, check=True)
    newest = checkpoint.latest(out)
    assert newest is not None
    assert newest.name == "step-00000007"
    assert not checkpoint.is_sharded(newest)
