"""Training runs for the page, read-only; only the command line starts and stops them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from tintype.config import Config
from tintype.errors import CheckpointError
from tintype.model import file_names, store
from tintype.model.read_file import MAX_CAPTIONS_BYTES, MAX_SAMPLE_BYTES, read_bytes
from tintype.serving import logs
from tintype.serving.api.dispatcher import Dispatcher
from tintype.serving.api.errors import ApiError
from tintype.serving.api.run_log import RunLog

SAMPLE = re.compile(r"seen-[0-9]{9}\.png", re.ASCII)


def router(dispatcher: Dispatcher) -> APIRouter:
    """The routes under /api/runs."""
    routes = APIRouter(prefix="/api/runs", tags=["runs"])
    run_logs: dict[Path, RunLog] = {}

    def folder_of(name: str) -> Path:
        folder = dispatcher.catalog.runs.get(name)
        if folder is None:
            raise ApiError(404, "unknown run; GET /api/runs lists them", "run_not_found")
        return folder

    def log_of(folder: Path) -> RunLog:
        for gone in set(run_logs) - set(dispatcher.catalog.runs.values()):
            del run_logs[gone]
        return run_logs.setdefault(folder, RunLog(folder))

    @routes.get("")
    async def runs() -> dict[str, Any]:
        """The models that are run folders."""
        return {"runs": list(dispatcher.catalog.runs)}

    @routes.get("/{name}")
    async def run(name: str) -> dict[str, Any]:
        """A run's progress: curves, plan, time left, sample grids."""
        folder, pipeline = folder_of(name), dispatcher.catalog.pipelines.get(name)
        progress = await asyncio.to_thread(progress_of, name, folder, log_of(folder))
        return {**progress, "can_generate": pipeline is not None}

    @routes.get("/{name}/samples/{file}", response_class=Response)
    async def sample(name: str, file: str) -> Response:
        """A sample grid."""
        folder = folder_of(name)
        if not SAMPLE.fullmatch(file):
            raise ApiError(404, "unknown sample", "sample_not_found")
        try:
            content = await asyncio.to_thread(read_bytes, folder / "samples" / file, MAX_SAMPLE_BYTES, folder)
        except OSError:
            raise ApiError(404, "unknown sample", "sample_not_found") from None
        return Response(content, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    return routes


def progress_of(name: str, folder: Path, log: RunLog) -> dict[str, Any]:
    """A run's progress, as the page shows it. Raises ApiError."""
    try:
        config = store.read_config(store.Model(name, folder, folder))
    except CheckpointError as error:  # its message names places on this machine's disk
        if not folder.is_dir():
            raise ApiError(404, "this run's folder no longer exists", "run_not_found") from None
        logs.log.error("run damaged", extra={"fields": {"run": name, "error": str(error)}})
        message = "this run's configuration cannot be read; the server's log has the details"
        raise ApiError(500, message, "run_damaged", final=True) from None
    summary = log.summary(config.train)
    samples = folder / "samples"
    names = sorted(path.name for path in samples.iterdir() if SAMPLE.fullmatch(path.name)) if samples.is_dir() else []
    return {
        "name": name,
        "images_seen": summary.images_seen,
        "images": config.train.images,
        "planned_images": config.train.planned_images,
        "finished": (folder / file_names.WEIGHTS).is_file() and summary.images_seen >= config.train.images,
        "seconds_since": summary.seconds_since,
        "seconds_left": summary.seconds_left,
        "loss": summary.loss,
        "noise_error": summary.noise_error,
        "samples": [{"images_seen": int(file[5:14]), "file": file} for file in names],
        "captions": _text(folder, "samples/captions.txt", MAX_CAPTIONS_BYTES).splitlines(),
        "plan": _plan(config),
    }


def _text(run: Path, name: str, max_bytes: int) -> str:
    """A text in a run folder, which may come from a stranger; empty if it cannot be read or is a link out of it."""
    try:
        return read_bytes(run / name, max_bytes, run).decode("utf-8", "replace")
    except OSError:
        return ""


def _plan(config: Config) -> dict[str, Any]:
    train, net = config.train, config.net
    return {
        "preset": config.preset,
        "resolution": net.resolution,
        "sizes": config.sizes,  # usual widths and heights of the pictures
        "text": config.text.encoder,
        "batch_size": train.batch_size,
        "lr": train.lr,
        "predicts": config.noise.prediction,
        "seed": train.seed,
    }
