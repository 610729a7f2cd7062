"""Runs in progress, for the page to show: read-only. Starting and stopping stays on the command line."""

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
from tintype.model import store
from tintype.serving.api.dispatcher import Desk
from tintype.serving.api.errors import Fault
from tintype.training.monitor.log import read_log

MAX_ROWS = 400  # of a curve
SAMPLE = re.compile(r"seen-[0-9]{9}\.png", re.ASCII)


def router(desk: Desk) -> APIRouter:
    """The routes under /api/runs."""
    routes = APIRouter(prefix="/api/runs", tags=["runs"])

    def folder_of(name: str) -> Path:
        folder = desk.catalog.runs.get(name)
        if folder is None:
            raise Fault(404, "there is no such run here", "run_not_found")
        return folder

    @routes.get("")
    async def runs() -> dict[str, Any]:
        """The runs among the models."""
        return {"runs": list(desk.catalog.runs)}

    @routes.get("/{name}")
    async def run(name: str) -> dict[str, Any]:
        """How a run is doing: its curves, its plan, the time left, its sample grids."""
        folder, pipeline = folder_of(name), desk.catalog.pipelines.get(name)
        found = await asyncio.to_thread(_about, name, folder)
        return {**found, "can_generate": pipeline is not None}

    @routes.get("/{name}/samples/{file}", response_class=Response)
    async def sample(name: str, file: str) -> Response:
        """A grid of samples."""
        folder = folder_of(name)
        if not SAMPLE.fullmatch(file):
            raise Fault(404, "there is no such sample", "sample_not_found")
        try:
            content = await asyncio.to_thread((folder / "samples" / file).read_bytes)
        except OSError:
            raise Fault(404, "there is no such sample", "sample_not_found") from None
        return Response(content, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    return routes


def _about(name: str, folder: Path) -> dict[str, Any]:
    try:
        config = store.read_config(store.Model(name, folder, folder))
    except CheckpointError as error:
        raise Fault(500, str(error), "run_damaged", final=True) from None
    rows = read_log(folder / "log.jsonl")
    samples = folder / "samples"
    names = sorted(path.name for path in samples.iterdir() if SAMPLE.fullmatch(path.name)) if samples.is_dir() else []
    captions = samples / "captions.txt"
    seen = max((row["images_seen"] for row in rows), default=0)
    return {
        "name": name,
        "images_seen": seen,
        "images": config.train.images,
        "finished": (folder / store.WEIGHTS).is_file() and seen >= config.train.images,
        "seconds_since": _seconds_since(rows),
        "seconds_left": _seconds_left(rows, config.train.images - seen),
        "loss": [
            [row["images_seen"], row["loss"]] for row in _thin([row for row in rows if row.get("loss") is not None])
        ],
        "noise_error": [
            {"images_seen": row["images_seen"], "levels": row["noise_error"]} for row in rows if row.get("noise_error")
        ],
        "samples": [{"images_seen": int(file[5:14]), "file": file} for file in names],
        "captions": captions.read_text(encoding="utf-8").splitlines() if captions.is_file() else [],
        "plan": _plan(config),
    }


def _plan(config: Config) -> dict[str, Any]:
    train, net = config.train, config.net
    return {
        "preset": config.preset,
        "resolution": net.resolution,
        "text": config.text.encoder,
        "batch_size": train.batch_size,
        "lr": train.lr,
        "predicts": config.noise.prediction,
        "seed": train.seed,
    }


def _thin(rows: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """At most MAX_ROWS, evenly spread, with the last."""
    every = -(-len(rows) // MAX_ROWS) or 1
    return rows if every == 1 else [*rows[::every], rows[-1]]


def _seconds_since(rows: Sequence[dict[str, Any]]) -> float | None:
    """Since the newest row; a run that is at work writes one every ten seconds."""
    if not rows or not isinstance(rows[-1].get("time"), str):
        return None
    try:
        then = datetime.datetime.fromisoformat(rows[-1]["time"])
    except ValueError:
        return None
    return max(0.0, (datetime.datetime.now(datetime.UTC) - then).total_seconds())


def _seconds_left(rows: Sequence[dict[str, Any]], images_left: int) -> float | None:
    """At the median speed of the last rows."""
    speeds = sorted(row["images_per_second"] for row in rows[-30:] if row.get("images_per_second"))
    return max(0, images_left) / speeds[len(speeds) // 2] if speeds else None
