"""Several processes train as one does: the same losses, whatever their number, and all end when one does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tintype.errors import ConfigError
from tintype.model import checkpoint
from tintype.training.monitor.log_rows import read_log
from tintype.training.parallel.world import World, init_processes

# One process imports torch, then forks those that train: each with the environment that torchrun would give it.
FORK = """
import json, os, sys
sys.path.insert(0, {tests!r})
import torch
from dataclasses import replace
from conftest import TINY, DrawnSamples
from tintype.model.denoiser import Denoiser
from tintype.training.parallel.world import init_processes
from tintype.training.core.trainer import Trainer

def tell(found):
    with open(f"{folder}/{{found['size']}}-{{found['rank']}}.json", "w") as file:
        json.dump(found, file)

def work(rank, size, port, micro_batch):
    os.environ |= dict(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.manual_seed(0)
    config = replace(TINY, train=replace(TINY.train, batch_size=8, micro_batch=micro_batch))
    with init_processes(torch.device("cpu")) as world:
        trainer = Trainer(Denoiser(config), DrawnSamples(), config, torch.device("cpu"), world=world)
        reports = list(trainer.steps(4 * 8))
        total = [float(tensor.double().sum()) for tensor in trainer.tensors()["weights"].values()]
        told = world.broadcast(f"grün {{rank}}" if world.is_main else "")
        agreed = world.any([rank == size - 1, False])
        world.barrier()
        rows = [(report.loss, report.grad_norm) for report in reports]
        tell(dict(rank=rank, size=size, rows=rows, total=total, told=told, agreed=agreed))

def die(rank, size, port):
    # The second process is killed in the middle of its training; the first says how it ended, and how soon.
    import signal
    from tintype.errors import TrainingError
    os.environ |= dict(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    try:
        with init_processes(torch.device("cpu")) as world:
            trainer = Trainer(Denoiser(TINY), DrawnSamples(), TINY, torch.device("cpu"), world=world)
            for report in trainer.steps(10**9):
                if rank == 1 and report.images_seen == 8:
                    os.kill(os.getpid(), signal.SIGKILL)
    except TrainingError as error:
        tell(dict(rank=rank, size=0, said=str(error)))

for rank in range(2):
    if os.fork() == 0:
        try:
            die(rank, 2, {port!r})
        finally:
            os._exit(0)
for rank in range(2):
    os.wait()

for size, micro_batch, port in {runs!r}:
    for rank in range(size):
        if os.fork() == 0:
            try:
                work(rank, size, port, micro_batch)
            finally:
                os._exit(0)
    for rank in range(size):
        os.wait()
"""


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the processes of all the runs have said."""
    runs = [(size, micro_batch, free_port()) for size, micro_batch in ((1, 0), (2, 2), (3, 0))]
    folder = tmp_path_factory.mktemp("processes")
    script = FORK.format(tests=str(Path(__file__).parent), folder=folder, runs=runs, port=free_port())
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    return [json.loads(path.read_text()) for path in folder.iterdir()]


@pytest.mark.slow
def test_when_one_process_is_killed_the_others_stop_at_once_and_say_so(found: list[dict[str, Any]]) -> None:
    (entry,) = [entry for entry in found if entry["size"] == 0]
    assert entry["rank"] == 0
    assert "another process of this run ended" in entry["said"]
    assert "--max-restarts" in entry["said"]


@pytest.mark.slow
def test_one_two_and_three_processes_give_the_same_losses(found: list[dict[str, Any]]) -> None:
    found = [entry for entry in found if entry["size"] > 0]
    assert sorted(entry["size"] for entry in found) == [1, 2, 2, 3, 3, 3]
    alone = next(entry for entry in found if entry["size"] == 1)
    for entry in found:
        for (loss, norm), (expected, expected_norm) in zip(entry["rows"], alone["rows"], strict=True):
            assert loss == pytest.approx(expected, rel=1e-5)
            assert norm == pytest.approx(expected_norm, rel=1e-4)
        assert entry["total"] == pytest.approx(alone["total"], abs=2e-4)
        assert entry["told"] == "grün 0"
        assert entry["agreed"] == [True, False]
    for size in (2, 3):  # processes of one run agree to the last bit
        first, *others = [entry for entry in found if entry["size"] == size]
        assert all((entry["rows"], entry["total"]) == (first["rows"], first["total"]) for entry in others)


def test_alone_there_is_nothing_to_agree_on() -> None:
    with init_processes(torch.device("cpu")) as world:
        assert (world.rank, world.size, world.is_main) == (0, 1, True)
        assert world.any([True, False]) == [True, False]
        assert world.broadcast("x") == "x"
        assert world.min(3) == 3
        world.barrier()


def test_a_batch_smaller_than_the_processes_is_refused(make_trainer: Any) -> None:
    with pytest.raises(ConfigError, match="too small for 5 processes"):
        make_trainer(world=World(0, 5))


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
PRESETS["nano"] = lambda resolution=8: replace(tiny, train=replace(tiny.train, save_minutes=1e-9))
prepare.bf16_is_faster = lambda device: False
train(TrainRequest(data=sys.argv[1], out=Path(sys.argv[2]), images=int(sys.argv[3]), device="cpu"))
"""


def torchrun(folder: Path, out: Path, images: int, *more: str) -> subprocess.Popen[bytes]:
    script = folder / "script.py"
    script.write_text(RUN.format(tests=str(Path(__file__).parent)))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(free_port()),
    ]
    command += [*more, str(script), str(folder / "pictures"), str(out), str(images)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})


def workers(parent: int) -> list[int]:
    """Process ids of the children of a process."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], stdout=subprocess.PIPE, text=True)
    return [int(line) for line in listed.stdout.split()]


@pytest.mark.slow
def test_after_a_kill_torchrun_goes_on_and_ends_the_same(pictures: Path, tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert torchrun(tmp_path, straight, 120).wait(300) == 0
    rows = [row["images_seen"] for row in read_log(straight / "log.jsonl")]
    assert rows.count(4) == 1  # the first step has a row, which one process writes
    process = torchrun(tmp_path, killed, 120, "--max-restarts", "1")
    while process.poll() is None and len(checkpoint.checkpoints(killed)) < 3:
        time.sleep(0.01)
    os.kill(workers(process.pid)[-1], signal.SIGKILL)
    assert process.wait(300) == 0
    ends = [checkpoint.latest(folder) for folder in (straight, killed)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert ends[0].name == ends[1].name
    for part, tensors in checkpoint.load_parts(ends[0], checkpoint.part_names(ends[0])).items():
        other = checkpoint.load_parts(ends[1], [part])[part]
        assert all(torch.equal(tensors[name], other[name]) for name in tensors)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_and_saves_all(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = torchrun(tmp_path, out, 10**6)
    while process.poll() is None and not checkpoint.checkpoints(out):
        time.sleep(0.01)
    os.kill(workers(process.pid)[-1], signal.SIGTERM)
    assert process.wait(60) != 0
    newest = checkpoint.latest(out)
    assert newest is not None
    checkpoint.verify(newest)


@contextmanager
def two_hosts() -> Iterator[list[str]]:
    """Two network namespaces with a cable between them: 10.99.0.1 and 10.99.0.2. Skips where that is not allowed."""
    names = [f"tintype-{os.getpid()}-{number}" for number in (1, 2)]
    ends = [f"tt{os.getpid() % 10**6}{letter}" for letter in "ab"]
    setup = [
        *(["netns", "add", name] for name in names),
        ["link", "add", ends[0], "type", "veth", "peer", "name", ends[1]],
    ]
    for number, (name, end) in enumerate(zip(names, ends, strict=True), start=1):
        setup += [
            ["link", "set", end, "netns", name],
            ["-n", name, "addr", "add", f"10.99.0.{number}/24", "dev", end],
            ["-n", name, "link", "set", end, "up"],
            ["-n", name, "link", "set", "lo", "up"],
        ]
    try:
        for arguments in setup:
            if subprocess.run(["ip", *arguments], capture_output=True).returncode != 0:
                pytest.skip("network namespaces are not allowed here")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ip") is None, reason="needs ip of iproute2")
def test_two_hosts_train_one_model(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(RUN.format(tests=str(Path(__file__).parent)))
    out = tmp_path / "run"
    with two_hosts() as names:
        processes = []
        for rank, name in enumerate(names):
            end = f"tt{os.getpid() % 10**6}{'ab'[rank]}"
            command = ["ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"]
            command += ["--node-rank", str(rank), "--nproc-per-node", "1", "--master-addr", "10.99.0.1"]
            command += ["--master-port", "29511", str(tmp_path / "script.py"), str(pictures), str(out), "40"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": end}
            processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment))
        assert [process.wait(400) for process in processes] == [0, 0]
    newest = checkpoint.latest(out)
    assert newest is not None
    assert newest.name == "step-00000010"
    assert (out / "model.safetensors").is_file()
