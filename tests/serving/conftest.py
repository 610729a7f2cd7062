"""A tiny model whose steps a test can hold back, and a live server on a free port of this machine."""

from __future__ import annotations

import datetime
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import uvicorn
from safetensors.torch import load_file
from torch import Tensor

from tintype.diffusion.parameterization import Denoise
from tintype.model import checkpoint, store
from tintype.model.denoiser import Denoiser
from tintype.model.nets.conditioning import Conditioning
from tintype.pipeline.pipeline import Pipeline
from tintype.serving.api.app import create_app
from tintype.serving.api.connection import connection_class
from tintype.serving.catalog import Catalog
from tintype.serving.engine.engine import Engine
from tintype.serving.engine.job import GenerateTask, Job
from tintype.serving.engine.metrics import Metrics
from tintype.serving.extension import Extension
from tintype.serving.settings import Settings
from tintype.serving.writers import Writers


class Held(Denoiser):
    """A denoiser that makes a call only when the test allows it, and remembers how many pictures each call had."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.free = True
        self.allowed = threading.Semaphore(0)
        self.calls: list[int] = []
        self.fault: Callable[[Tensor, Tensor], Tensor | None] | None = None  # may raise, or answer instead

    def conditioned(self, cond: Conditioning) -> Denoise:
        inner = super().conditioned(cond)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            if not self.free:
                assert self.allowed.acquire(timeout=30), "the test never allowed this call"
            self.calls.append(len(x))
            answer = self.fault(x, sigma) if self.fault is not None else None
            return inner(x, sigma) if answer is None else answer

        return denoise

    def hold(self) -> None:
        """Make no call from now on that is not allowed."""
        while self.allowed.acquire(blocking=False):
            pass
        self.free = False

    def allow(self, num: int) -> None:
        """Let `num` more calls through."""
        for _ in range(num):
            self.allowed.release()

    def release(self) -> None:
        """Let all calls through from now on."""
        self.free = True
        self.allowed.release()


def held_pipeline(folder: Path) -> tuple[Pipeline, Held]:
    model = store.find(folder)
    held = Held(store.read_config(model), store.read_tokenizer(model))
    held.load_state_dict(store.read_weights(model))
    held.eval().requires_grad_(False)
    return Pipeline(held, "cpu", model.name, store.weights_hash(model)), held


Ready = tuple[Pipeline, Held]
EngineOf = Callable[..., Engine]


@pytest.fixture
def held(tiny_model: Path) -> tuple[Pipeline, Held]:
    return held_pipeline(tiny_model)


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


@pytest.fixture
def engine_of() -> Iterator[Callable[..., Engine]]:
    """Started engines of a pipeline, stopped at the end."""
    engines: list[tuple[Engine, Pipeline]] = []

    def make(pipeline: Pipeline, **settings: Any) -> Engine:
        engine = Engine(Settings(**{"max_batch": 16, **settings}), Metrics(), 1e15)
        engines.append((engine, pipeline))
        engine.start([pipeline])
        until(lambda: engine.ready)
        return engine

    yield make
    for engine, pipeline in engines:
        if isinstance(pipeline.denoiser, Held):
            pipeline.denoiser.release()
            pipeline.denoiser.allow(100)
        engine.stop()
        assert not engine.alive


def job_of(pipeline: Pipeline, captions: str | list[str] = "a red circle", **options: Any) -> Job:
    """A job that makes pictures."""
    seconds = options.pop("seconds", 60.0)
    return Job(
        GenerateTask(pipeline, pipeline.request(captions, **options)), seconds=seconds, previews=range, keep_frames=True
    )


def over(*jobs: Job) -> None:
    until(lambda: not any(job.open for job in jobs))


def done(job: Job) -> torch.Tensor:
    over(job)
    assert job.status == "done", (job.status, job.message)
    assert job.result is not None
    return job.result


class Live:
    """A server that answers on a real socket."""

    def __init__(
        self,
        catalog: Catalog,
        settings: Settings,
        writers: Writers | None = None,
        extension: Extension | None = None,
    ) -> None:
        app, self.engine = create_app(catalog, settings, writers=writers, extension=extension)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                port=0,
                log_config=None,
                access_log=False,
                http=connection_class(settings),
                timeout_graceful_shutdown=2,
            )
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until(lambda: self._server.started)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def ready(self) -> None:
        until(lambda: self.engine.ready)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()


@contextmanager
def live(
    folder: Path, pipeline: Pipeline | None = None, extension: Extension | None = None, **settings: Any
) -> Iterator[Live]:
    catalog = Catalog([folder], "cpu")
    if pipeline is not None:
        catalog._models["tiny"].pipeline = pipeline
    server = Live(catalog, Settings(**{"max_batch": 16, **settings}), extension=extension)
    try:
        server.ready()
        yield server
    finally:
        if pipeline is not None and isinstance(pipeline.denoiser, Held):
            pipeline.denoiser.release()
            pipeline.denoiser.allow(100)
        server.stop()


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[Live]:
    """One server for a module's tests."""
    with live(tiny_model) as running:
        yield running


@pytest.fixture
def http(server: Live) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny products are fastest on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def still_alive(http: httpx.Client) -> Iterator[None]:
    """After every kind of abuse the server makes pictures."""
    yield
    assert http.post("/v1/images/generations", json={"prompt": "a", "steps": 1}).status_code == 200
    assert http.get("/health").json()["status"] == "ready"


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path) -> Path:
    """A run folder that has logged and sampled, but not saved a checkpoint yet."""
    folder = tmp_path / "my-run"
    (folder / "samples").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(tiny_model / name, folder)
    now = datetime.datetime.now(datetime.UTC)
    rows = [
        {
            "images_seen": 100 * i,
            "loss": 1 / i if i != 5 else None,
            "images_per_second": 50.0,
            "time": (now - datetime.timedelta(seconds=10 * (900 - i))).isoformat(),
            **({"noise_error": {"0.3": 0.5 / i, "1": 0.2 / i}} if i % 100 == 0 else {}),
        }
        for i in range(1, 901)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "data.json").write_text("{}")
    (folder / "samples" / "seen-000000100.png").write_bytes(b"\x89PNG early")
    (folder / "samples" / "seen-000090000.png").write_bytes(b"\x89PNG late")
    (folder / "samples" / "captions.txt").write_text("a red circle\na\n")
    return folder


def save(run: Path, tiny_model: Path, step: int) -> None:
    weights = {
        name: tensor.float() + step / 1000 for name, tensor in load_file(tiny_model / "model.safetensors").items()
    }
    texts = {name: (tiny_model / name).read_text() for name in ("config.json", "tokenizer.json")}
    checkpoint.save_parts(checkpoint.step_folder(run, step), {"model": weights}, texts)
