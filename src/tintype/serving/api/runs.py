"""Training runs for the page, read-only; only the command line starts and stops them."""

from __future__ import annotations

import asyncio
import datetime
import re
from collections.abc import Sequence
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
from tintype.training.monitor.log_rows import read_log

MAX_POINTS = 400  # of a curve
SAMPLE = re.compile(r"seen-[0-9]{9}\.png", re.ASCII)


def router(dispatcher: Dispatcher) -> APIRouter:
    """The routes under /api/runs."""
    routes = APIRouter(prefix="/api/runs", tags=["runs"])

    def folder_of(name: str) -> Path:
        folder = dispatcher.catalog.runs.get(name)
        if folder is None:
            raise ApiError(404, "unknown run; GET /api/runs lists them", "run_not_found")
        return folder

    @routes.get("")
    async def runs() -> dict[str, Any]:
        """The models that are run folders."""
        return {"runs": list(dispatcher.catalog.runs)}

    @routes.get("/{name}")
    async def run(name: str) -> dict[str, Any]:
        """A run's progress: curves, plan, time left, sample grids."""
        folder, pipeline = folder_of(name), dispatcher.catalog.pipelines.get(name)
        progress = await asyncio.to_thread(_progress, name, folder)
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


def _progress(name: str, folder: Path) -> dict[str, Any]:
    try:
        config = store.read_config(store.Model(name, folder, folder))
    except CheckpointError as error:  # its message names places on this machine's disk
        if not folder.is_dir():
            raise ApiError(404, "this run's folder no longer exists", "run_not_found") from None
        logs.log.error("run damaged", extra={"fields": {"run": name, "error": str(error)}})
        message = "this run's configuration cannot be read; the server's log has the details"
        raise ApiError(500, message, "run_damaged", final=True) from None
    rows = read_log(folder / file_names.LOG, folder)
    samples = folder / "samples"
    names = sorted(path.name for path in samples.iterdir() if SAMPLE.fullmatch(path.name)) if samples.is_dir() else []
    images_seen = max((row["images_seen"] for row in rows), default=0)
    return {
        "name": name,
        "images_seen": images_seen,
        "images": config.train.images,
        "finished": (folder / file_names.WEIGHTS).is_file() and images_seen >= config.train.images,
        "seconds_since": _seconds_since(rows),
        "seconds_left": _seconds_left(rows, config.train.images - images_seen),
        "loss": [
            [row["images_seen"], row["loss"]] for row in _thin([row for row in rows if row.get("loss") is not None])
        ],
        "noise_error": [
            {"images_seen": row["images_seen"], "levels": row["noise_error"]} for row in rows if row.get("noise_error")
        ],
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


def _thin(rows: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """At most MAX_POINTS rows, evenly spread, and the last."""
    every = -(-len(rows) // MAX_POINTS) or 1
    return rows if every == 1 else [*rows[::every], rows[-1]]


def _seconds_since(rows: Sequence[dict[str, Any]]) -> float | None:
    """Age of the newest row; an active run writes one every ten seconds."""
    if not rows or not isinstance(rows[-1].get("time"), str):
        return None
    try:
        written = datetime.datetime.fromisoformat(rows[-1]["time"])
    except ValueError:
        return None
    return max(0.0, (datetime.datetime.now(datetime.UTC) - written).total_seconds())


def _seconds_left(rows: Sequence[dict[str, Any]], images_left: int) -> float | None:
    """Time left at the median speed of the last rows."""
    speeds = sorted(row["images_per_second"] for row in rows[-30:] if row.get("images_per_second"))
    return max(0, images_left) / speeds[len(speeds) // 2] if speeds else None
