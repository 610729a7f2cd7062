"""A studio over a small folder of pictures, and a live server with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from tintype.serving.api.app import _add_error_handlers
from tintype.serving.api.guard import RequestGuard
from tintype.serving.catalog import Catalog
from tintype.serving.engine.metrics import Metrics
from tintype.serving.settings import Settings
from tintype.studio.access import HEADER, Access
from tintype.studio.dataset import DataSet
from tintype.studio.extension import StudioExtension
from tintype.studio.places import Places
from tintype.studio.scan import scan
from tintype.studio.studio import Studio
from tintype.studio.uploads import UploadLimits

TOKEN = "token-of-the-tests"
CAPTIONS = {"red": "a red square", "blue": "a blue square", "green": "a green square"}


def picture(path: Path, color: str, side: int = 40) -> None:
    """A picture file of one color with a mark, so that no two are near-duplicates."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (side, side), color)
    image.paste("white", (2, 3, 5 + sum(map(ord, color)) % 20, 30))
    image.save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a folder of three captioned pictures and one without a caption."""
    folder = tmp_path / "home" / "Pictures" / "squares"
    for color, caption in CAPTIONS.items():
        picture(folder / f"{color}.png", color)
        (folder / f"{color}.txt").write_text(caption + "\n")
    picture(folder / "more" / "yellow_star.png", "yellow")
    return tmp_path / "home"


@pytest.fixture
def places(root: Path, tmp_path: Path) -> Places:
    return Places.make(root, tmp_path / "studio")


@pytest.fixture
def dataset(places: Places) -> DataSet:
    """The data set of that folder, scanned."""
    home = places.datasets / "squares"
    home.mkdir()
    made = DataSet("squares", home, "Squares", "Pictures/squares")
    made.save()
    list(scan(made, places))
    return made


@pytest.fixture
def studio_of(places: Places) -> Iterator[Callable[..., Studio]]:
    """Studios over the same folder, one after another."""
    made: list[Studio] = []

    def make(**limits: Any) -> Studio:
        made.append(Studio(places, Access(token=TOKEN), UploadLimits(**{"reserve": 0, "chunk": 1000, **limits})))
        return made[-1]

    yield make
    for studio in made:
        studio.close()


@pytest.fixture
def studio(studio_of: Callable[..., Studio]) -> Studio:
    return studio_of()


class NoCatalog(Catalog):
    """A catalog without models."""

    def __init__(self) -> None:
        super().__init__([])


def client_of(studio: Studio, *, api_keys: tuple[str, ...] = (), **headers: str) -> TestClient:
    """A client of the routes of a studio, behind the guard of the server, without an engine."""
    app = FastAPI()
    app.include_router(StudioExtension(studio).router(NoCatalog()))
    _add_error_handlers(app)
    guard = RequestGuard(app, Settings(max_chunk=studio.uploads.limits.chunk, api_keys=api_keys), Metrics())
    return TestClient(guard, base_url="http://127.0.0.1:8000", headers=headers, follow_redirects=False)


@pytest.fixture
def client(studio: Studio) -> TestClient:
    """A client with the token."""
    return client_of(studio, **{HEADER: TOKEN})


def code(response: Any) -> tuple[int, str]:
    """Status and code of an error."""
    return response.status_code, json.loads(response.content)["error"]["code"]
