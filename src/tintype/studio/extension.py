"""The studio as an extension of the server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter, Depends

from tintype.errors import ConfigError
from tintype.serving.catalog import Catalog
from tintype.serving.server import is_loopback
from tintype.serving.settings import Settings
from tintype.studio.access import Access
from tintype.studio.captioners import find_captioners
from tintype.studio.places import Places
from tintype.studio.routes import captions, datasets, overview, runs, uploads
from tintype.studio.studio import Studio


class StudioExtension:
    """The routes of a studio, all of which need its token, and what looks after its runs."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def router(self, catalog: Catalog) -> APIRouter:
        self.studio.runs.catalog = catalog
        guarded = APIRouter(prefix="/api", tags=["studio"], dependencies=[Depends(self.studio.access.require)])
        for part in (overview, datasets, captions, uploads, runs):
            guarded.include_router(part.router(self.studio))
        routes = APIRouter()
        routes.include_router(overview.entrance(self.studio))
        routes.include_router(guarded)
        return routes

    async def background(self) -> None:
        await self.studio.watch()

    def link(self, address: str) -> str:
        return f"the studio is at {address}/studio?token={self.studio.access.token}"


def open_studio(settings: Settings, root: Path, folder: Path, captioners: Sequence[Path] = ()) -> StudioExtension:
    """A studio for a server with these settings. Raises ConfigError.

    root: people choose folders below it. folder: of the studio. captioners: folders of image-to-text models.
    """
    is_local = is_loopback(settings.host)
    if not is_local and not settings.api_keys:
        raise ConfigError("a studio that listens on a network needs --api-key-file; leave out --host for this machine")
    access = Access(any_host=not is_local, allowed_hosts=settings.allowed_hosts)
    places = Places.make(root, folder)
    return StudioExtension(Studio(places, access, captioners=find_captioners(places.studio, captioners)))
