"""An extension of the server: routes beside those that every server has, and work in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tintype.serving.catalog import Catalog

if TYPE_CHECKING:
    from fastapi import APIRouter


class Extension(Protocol):
    """Routes and background work that a server has only on request, such as the studio."""

    def router(self, catalog: Catalog) -> APIRouter:
        """Its routes. It may add models to the catalog while the server runs."""

    async def background(self) -> None:
        """Work for as long as the server runs. After an error, which is logged, it is called again."""

    def link(self, address: str) -> str:
        """The line that tells people where to go, from the address of the server."""
