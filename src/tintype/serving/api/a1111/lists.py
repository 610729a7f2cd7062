"""Lists of A1111's API: models, samplers, schedulers, and the kinds of things that this server does not have."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from tintype.serving.api.a1111.names import OWN, SAME, SCHEDULERS
from tintype.serving.api.dispatcher import Dispatcher

EMPTY = (
    *("sd-vae", "latent-upscale-modes", "hypernetworks", "face-restorers", "realesrgan-models", "prompt-styles"),
    *("loras", "extensions", "script-info"),
)


def add_lists(routes: APIRouter, dispatcher: Dispatcher) -> None:
    """GET routes that clients ask when they connect."""

    @routes.get("/sd-models")
    async def models() -> list[dict[str, Any]]:
        """The models of this server; their titles are their names."""
        return [
            {
                "title": name,
                "model_name": name,
                "hash": pipeline.model_hash[:10],
                "sha256": pipeline.model_hash,
                "filename": name,
                "config": None,
            }
            for name, pipeline in dispatcher.catalog.pipelines.items()
        ]

    @routes.get("/samplers")
    async def samplers() -> list[dict[str, Any]]:
        """The samplers, under A1111's names where it has one."""
        same = [{"name": name, "aliases": list(aliases), "options": {}} for name, (_, aliases) in SAME.items()]
        return [*same, *({"name": name, "aliases": [name], "options": {}} for name in OWN)]

    @routes.get("/schedulers")
    async def schedulers() -> list[dict[str, Any]]:
        """The schedulers; "automatic" is the model's own schedule."""
        return [
            {"name": name, "label": label, "aliases": None, "default_rho": -1, "need_inner_model": False}
            for name, label in SCHEDULERS.items()
        ]

    @routes.get("/upscalers")
    async def upscalers() -> list[dict[str, Any]]:
        """The one way in which pictures are enlarged."""
        return [{"name": "Lanczos", "model_name": None, "model_path": None, "model_url": None, "scale": 4}]

    @routes.get("/embeddings")
    async def embeddings() -> dict[str, Any]:
        """None."""
        return {"loaded": {}, "skipped": {}}

    @routes.get("/scripts")
    async def scripts() -> dict[str, list[str]]:
        """None."""
        return {"txt2img": [], "img2img": []}

    @routes.get("/cmd-flags")
    async def flags() -> dict[str, bool]:
        """How the server was started, as far as clients ask for it."""
        return {"api": True}

    @routes.get("/memory")
    async def memory() -> dict[str, dict[str, int]]:
        """Nothing that a stranger needs to know."""
        return {"ram": {}, "cuda": {}}

    async def nothing() -> list[str]:
        """None: this server has nothing of this kind."""
        return []

    for name in EMPTY:
        routes.add_api_route(f"/{name}", nothing, methods=["GET"], name=name, operation_id=f"list_{name}")
