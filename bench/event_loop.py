"""What holds up the event loop of a server: the longest single callback of each kind of request, the largest included.

    python bench/event_loop.py --model M

The server runs in this process, and every callback of its loop is timed. Processor time is what the callback itself
took; by the clock it may have waited for other threads and programs too. Wanted: 50 ms at most.
"""

from __future__ import annotations

import argparse
import asyncio
import asyncio.events
import base64
import io
import os
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import httpx
import uvicorn
from PIL import Image

from tintype.serve.app import create_app
from tintype.serve.catalog import Catalog
from tintype.serve.settings import Settings

MAKE = "/v1/images/generations"


class Took(NamedTuple):
    processor: float  # seconds
    clock: float


def watch() -> list[Took]:
    """From now on every callback of every event loop adds how long it took."""
    seen: list[Took] = []
    run = asyncio.events.Handle._run

    def timed(handle: asyncio.events.Handle) -> None:
        processor, clock = time.thread_time(), time.perf_counter()
        run(handle)
        seen.append(Took(time.thread_time() - processor, time.perf_counter() - clock))

    asyncio.events.Handle._run = timed  # type: ignore[method-assign]
    return seen


def noise_png(side: int) -> bytes:
    """A picture of about 3 * side * side bytes: noise cannot be packed."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(3 * side * side)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def requests(http: httpx.Client, side: int) -> dict[str, Callable[[], httpx.Response]]:
    large, small = noise_png(2400), noise_png(1900)
    base64_ = base64.b64encode(small).decode()
    ask = {"prompt": "a red circle", "steps": 2}
    form = {"prompt": "a red circle", "steps": "1", "strength": "0.3"}

    def post(path: str, **body: object) -> Callable[[], httpx.Response]:
        return lambda: http.post(path, json=body)

    return {
        "one picture": post(MAKE, **ask),
        "ten large pictures": post(MAKE, **ask, n=10, size=f"{side}x{side}", guidance=1),
        "a stream of previews": post(MAKE, **ask, n=2, stream=True, preview_every=1),
        "an edit, form of 17 MB": lambda: http.post("/v1/images/edits", data=form, files={"image": large}),
        "a job, JSON of 15 MB": post("/api/jobs", **ask, init_image=base64_),
        "a look, JSON of 15 MB": post("/api/look", image=base64_),
        "a receipt, JSON of 15 MB": post("/api/receipt", image=base64_),
        "JSON of 16 MB": post("/api/receipt", image="a" * 16_000_000),
        "the metrics": lambda: http.get("/metrics"),
        "the description": lambda: http.get("/openapi.json"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="What holds up the event loop.")
    parser.add_argument("--model", default="shapes")
    options = parser.parse_args()
    catalog = Catalog([options.model], "cpu")
    app, engine = create_app(catalog, Settings(max_batch=8))
    seen = watch()
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not (server.started and engine.ready):
        time.sleep(0.05)
    (pipeline,) = catalog.pipelines.values()
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600, trust_env=False) as http:
        print(f"{'the longest callback of':30}{'processor':>12}{'clock':>12}")
        for name, send in requests(http, 4 * pipeline.config.net.resolution).items():
            seen.clear()
            send().raise_for_status()
            longest = Took(*(max(times) for times in zip(*seen, strict=True)))
            print(f"{name:30}{1e3 * longest.processor:>9.1f} ms{1e3 * longest.clock:>9.1f} ms", flush=True)
    server.should_exit = True
    thread.join(20)


if __name__ == "__main__":
    main()
