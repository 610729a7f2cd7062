"""The server of `tintype serve`: listens on a port until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import _imaging

from tintype.errors import ConfigError, MissingExtraError, TintypeError

try:
    import fastapi  # noqa: F401
    import prometheus_client  # noqa: F401
    import python_multipart  # noqa: F401
    import uvicorn
except ImportError as error:
    raise MissingExtraError(
        (error.name or "fastapi").replace("multipart", "python-multipart"), "tintype[serve]"
    ) from None

from tintype.printable import print_line
from tintype.serving import logs
from tintype.serving.api.app import create_app
from tintype.serving.api.connection import connection_class
from tintype.serving.api.keys import read_keys
from tintype.serving.catalog import Catalog
from tintype.serving.engine.engine import Engine
from tintype.serving.extension import Extension
from tintype.serving.settings import Settings
from tintype.serving.writers import Writers
from tintype.tokens.store import is_token_model

SPARE_FILES = 256  # that the process opens beside its connections
SWITCH_SECONDS = 0.001  # after which a computing thread yields to the event loop; Python's default is 5 ms
POLL_SECONDS = 0.05  # between checks for a signal
IMAGE_BLOCK = 64 * 2**20  # bytes that Pillow asks for at once; the C library returns none under 32 MiB to the system


def serve(
    models: Sequence[str], settings: Settings, device: str | None = None, extension: Extension | None = None
) -> None:
    """Load models and serve them until SIGINT or SIGTERM, with the routes of an extension. Raises TintypeError."""
    with _listen(settings) as listener:
        for warning in warnings_of(settings):
            print_line(f"tintype: warning: {warning}", sys.stderr)
        token_models = [model for model in models if is_token_model(model)]
        writers = Writers(token_models, device)
        others = [model for model in models if model not in token_models]
        if not others:
            raise ConfigError(
                f"{token_models[0]} is served beside a diffusion model: name one too, such as shapes, or leave it out"
            )
        catalog = Catalog(others, device, dict(settings.aliases), cuda_graphs=settings.cuda_graphs)
        logs.set_up()
        refresh_now = asyncio.Event()
        app, engine = create_app(catalog, settings, refresh_now, writers, extension)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            http=connection_class(settings),
            ws="none",
            timeout_keep_alive=30,
            timeout_graceful_shutdown=int(settings.shutdown_seconds) + 2,
        )
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        names = ", ".join(catalog.pipelines) or "no model yet"
        address = f"http://{host}:{listener.getsockname()[1]}"
        print_line(f"tintype: serving {names} at {address}", sys.stderr)
        if extension is not None:
            print_line(f"tintype: {extension.link(address)}", sys.stderr)
        sys.setswitchinterval(SWITCH_SECONDS)
        _imaging.set_block_size(IMAGE_BLOCK)  # so that large images leave no holes in the memory of their threads
        _raise_file_limit(settings.max_connections + SPARE_FILES)
        asyncio.run(_run(uvicorn.Server(config), listener, engine, settings, refresh_now))


def _listen(settings: Settings) -> socket.socket:
    """Open the port, before loading models takes time. Raises TintypeError."""
    if not settings.host:
        raise ConfigError("--host must be an address or a name, such as 127.0.0.1; 0.0.0.0 listens on every network")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).partition(" (while")[0]
        raise TintypeError(
            f"cannot listen on {settings.host}:{settings.port} ({reason}); choose another --host or --port"
        ) from None


def _raise_file_limit(num: int) -> None:
    """Allow this process so many open files, because each connection is one and the usual limit is 1,024."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = num if hard == resource.RLIM_INFINITY else min(num, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _run(
    server: uvicorn.Server, listener: socket.socket, engine: Engine, settings: Settings, refresh_now: asyncio.Event
) -> None:
    """Serve; on a signal reject new jobs, let running ones finish within the limit, and fail the rest.

    SIGHUP reads keys and models again at once.
    """
    if hasattr(signal, "SIGHUP"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, refresh_now.set)
    stopping = asyncio.create_task(_stop_on_signal(server, engine, settings))
    try:
        await server.serve(sockets=[listener])
    finally:
        stopping.cancel()


async def _stop_on_signal(server: uvicorn.Server, engine: Engine, settings: Settings) -> None:
    while not server.should_exit:
        await asyncio.sleep(POLL_SECONDS)
    logs.event("stopping", running=engine.num_running, waiting=engine.num_waiting)
    try:
        await asyncio.to_thread(engine.stop, settings.shutdown_seconds)
    except Exception:
        logs.log.exception("the engine did not stop")


def with_keys(settings: Settings, path: Path | None) -> Settings:
    """The settings with the keys of a file; unchanged without a file. Raises ConfigError."""
    return settings if path is None else replace(settings, api_keys=read_keys(path), api_key_file=path)


def warnings_of(settings: Settings) -> list[str]:
    """Warnings about a server with these settings."""
    if settings.api_keys or is_loopback(settings.host):
        return []
    return [
        f"ANYONE who can reach {settings.host}:{settings.port} over the network can use this server, without a key; "
        "give --api-key-file FILE, or leave out --host to serve this machine only"
    ]


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
