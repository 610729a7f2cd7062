"""What holds up the event loop of a server while the model computes. Wanted: never more than 50 ms.

    python bench/event_loop.py [--model NAME|FOLDER] [--seconds 10]

The server runs in this process, computing for as many clients as it can all the time; only what is asked beside that
changes from row to row. A heartbeat on its loop is due every 10 ms, and every callback of the loop is timed:

- late: the most that a heartbeat was late by the clock, and how many of them were later than 50 ms;
- waiting: of the latest one, how long the loop's thread was ready to run and waited for a processor, which other
  programs on the machine are to blame for (Linux says so); the rest is what the server did;
- callback: the longest single callback, by the clock and in processor time.

Clients send from a process of their own. Ends with a verdict, and with 1 if it is no.
"""

from __future__ import annotations

import argparse
import asyncio
import asyncio.events
import base64
import contextlib
import io
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

MAKE = "/v1/images/generations"
BEAT = 0.01
LIMIT = 0.05
CLIENTS = 8
CHUNKED = (
    f"POST {MAKE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
).encode()
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n'
ODD = "A\U0001f600\u00e9\\n".encode()
ASK = {"prompt": "a red circle left of a blue square", "steps": 16}


@dataclass
class Seen:
    """What was seen of the loop since `clear`."""

    late: list[tuple[float, float]] = field(default_factory=list)  # (by the clock, of it waiting for a processor)
    callback_clock: float = 0.0
    callback_processor: float = 0.0
    busiest: str = ""  # the callback that took most processor time

    def clear(self) -> None:
        self.late, self.callback_clock, self.callback_processor = [], 0.0, 0.0


def watch_callbacks(seen: Seen, thread: int) -> None:
    """From now on every callback of the loop in `thread` is timed."""
    run = asyncio.events.Handle._run

    def timed(handle: asyncio.events.Handle) -> None:
        if threading.get_ident() != thread:
            return run(handle)
        processor, clock = time.thread_time(), time.perf_counter()
        run(handle)
        processor, clock = time.thread_time() - processor, time.perf_counter() - clock
        seen.callback_clock = max(seen.callback_clock, clock)
        if processor > seen.callback_processor:
            seen.callback_processor, seen.busiest = processor, repr(handle)

    asyncio.events.Handle._run = timed  # type: ignore[method-assign]


def run_delay() -> float:
    """Seconds that this thread was ready to run and had no processor; 0 where nobody says."""
    try:
        return int(Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


async def heart(seen: Seen) -> None:
    while True:
        due, delay = time.perf_counter() + BEAT, run_delay()
        await asyncio.sleep(BEAT)
        seen.late.append((time.perf_counter() - due, run_delay() - delay))


def noise_png(size: int) -> bytes:
    """A picture of about so many bytes: noise cannot be packed."""
    side = int((size / 3) ** 0.5)
    buffer = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(3 * side * side)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def beside(side: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """What is asked beside the load: a name, a path, and what `httpx.Client.request` is to be told."""
    base64_ = base64.b64encode(noise_png(6_000_000)).decode()
    form = {"prompt": "a red circle", "steps": "1", "strength": "0.3"}
    return {
        "nothing": ("/liveness", {}),
        "ten large pictures": (MAKE, {"json": {**ASK, "steps": 1, "n": 10, "size": f"{side}x{side}", "guidance": 1}}),
        "a stream of previews": (MAKE, {"json": {**ASK, "n": 2, "stream": True, "preview_every": 1}}),
        "an edit, form of 23 MB": ("/v1/images/edits", {"data": form, "files": {"image": noise_png(23_000_000)}}),
        "a job, JSON of 8 MB": ("/api/jobs", {"json": {**ASK, "steps": 1, "init_image": base64_}}),
        "a look, JSON of 8 MB": ("/api/look", {"json": {"image": base64_}}),
        "a receipt, JSON of 8 MB": ("/api/receipt", {"json": {"image": "a" * 8_300_000}}),
        "a job, steps and pictures": ("/api/models", {}),
        "the metrics": ("/metrics", {}),
        "JSON of 8 MB, small lists": ("/api/jobs", hostile(b'{"prompt":"a","x":[' + b"[]," * 2_790_000 + b"1]}")),
        "JSON of 8 MB, odd letters": (
            "/api/receipt",
            hostile(b'{"image":"' + "A\U0001f600\u00e9\\n".encode() * 900_000 + b'"}'),
        ),
        "JSON of 250 kB, small lists": (MAKE, hostile(b'{"prompt":"a","x":[' + b"[]," * 65_000 + b"1]}")),
        "250 kB in one-byte chunks": (MAKE, {"raw": CHUNKED + b"1\r\nx\r\n" * 250_000 + b"0\r\n\r\n"}),
        "10 kB in one-byte chunks": (MAKE, {"raw": CHUNKED + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"}),
        "a head of 240 kB, 60,000 lines": (
            MAKE,
            {"raw": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a:\r\n" * 60_000 + b"\r\n"},
        ),
        "a trailer of 240 kB": (MAKE, {"raw": CHUNKED + b"0\r\n" + b"a:\r\n" * 60_000 + b"\r\n"}),
        "a body of 9 MB, refused": ("/api/jobs", hostile(b"x" * 9_000_000)),
        "a form of 24 MB of line ends": ("/v1/images/edits", {"content": b"\r\n" * 12_000_000, "headers": FORM}),
        "a form of 300,000 parts": ("/v1/images/edits", {"content": PART * 300_000, "headers": FORM}),
    }


def hostile(body: bytes) -> dict[str, Any]:
    """A body as JSON, whether or not it is."""
    return {"content": body, "headers": {"Content-Type": "application/json"}}


def send_raw(url: str, content: bytes) -> None:
    """Send bytes on a connection of their own, and read until the server closes or nothing more comes."""
    port = int(url.rpartition(":")[2])
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connected:
        with contextlib.suppress(ConnectionError):
            connected.sendall(content)
        while b"error" not in connected.recv(2**16):
            pass


def ask_for(url: str, name: str, side: int, seconds: float) -> None:
    """Run as a process of its own: asks for one thing again and again."""
    path, request = beside(side)[name]
    end = time.perf_counter() + seconds
    with httpx.Client(base_url=url, timeout=600, trust_env=False) as http:
        while time.perf_counter() < end:
            if "raw" in request:
                send_raw(url, request["raw"])
                continue
            answer = http.request("POST" if request else "GET", path, **request)
            if "content" not in request:  # what is hostile may be refused
                answer.raise_for_status()
            if name == "a job, steps and pictures":
                job = http.post("/api/jobs", json=ASK).raise_for_status().json()["id"]
                with http.stream("GET", f"/api/jobs/{job}/events") as answer:
                    lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
                for picture in json.loads(lines[-1][6:])["pictures"]:
                    http.get(picture["url"]).raise_for_status()
            elif not request:
                time.sleep(0.05)


async def load(url: str) -> None:
    """Run as a process of its own: keeps the model busy until it is ended."""
    async with httpx.AsyncClient(base_url=url, timeout=600, trust_env=False) as http:

        async def client() -> None:
            while True:
                await http.post(MAKE, json=ASK)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))


@contextlib.contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([sys.executable, __file__, *words])
    try:
        yield started
    finally:
        started.terminate()
        started.wait(30)


def measure(url: str, seen: Seen, side: int, seconds: float, verbose: bool) -> bool:
    """A row for each thing that is asked; whether none was later than wanted."""
    print(f"{'beside the load':32}{'beats':>7}{'> 50 ms':>9}{'late':>9}{'waiting':>9}{'callback':>11}{'processor':>11}")
    worst, blamed, beats, too_late = 0.0, 0.0, 0, 0
    for name in beside(side):
        with process("--ask", name, "--url", url, "--side", str(side), "--seconds", str(seconds)) as asking:
            time.sleep(1)
            seen.clear()
            asking.wait(600)
            late = list(seen.late)
        if asking.returncode:
            raise SystemExit(f"{name} failed")
        latest, waiting = max(late)
        over = sum(lag > LIMIT for lag, _ in late)
        worst, beats, too_late = max(worst, latest), beats + len(late), too_late + over
        blamed = max(blamed, *(lag - waited for lag, waited in late))
        numbers = "".join(f"{1e3 * each:>6.1f} ms" for each in (latest, waiting))
        callbacks = "".join(f"{1e3 * each:>8.1f} ms" for each in (seen.callback_clock, seen.callback_processor))
        print(f"{name:32}{len(late):>7}{over:>9}{numbers}{callbacks}", flush=True)
        if verbose:
            print(f"    {seen.busiest[:600]}")
    good = worst <= LIMIT
    print(
        f"{'yes' if good else 'NO'}: of {beats} heartbeats {too_late} ({too_late / beats:.2%}) were more than 50 ms "
        f"late, the latest {1e3 * worst:.1f} ms; without what waited for a processor at most {1e3 * blamed:.1f} ms"
    )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description="What holds up the event loop.")
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each thing that is asked")
    parser.add_argument("--verbose", action="store_true", help="say which callback took most processor time")
    for name in ("--ask", "--url", "--load", "--side"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        ask_for(options.url, options.ask, int(options.side), options.seconds)
        return 0
    if options.load:
        asyncio.run(load(options.load))
        return 0
    # Here, as the processes that only ask need none of it.
    import uvicorn

    from tintype.serving.api.app import create_app
    from tintype.serving.api.connection import connection_class
    from tintype.serving.catalog import Catalog
    from tintype.serving.server import SWITCH_SECONDS
    from tintype.serving.settings import Settings

    logging.disable()  # each request of a client that is no client would be a line
    catalog = Catalog([options.model], None)
    settings = Settings(max_waiting=10_000, max_waiting_cost=1e18)
    app, engine = create_app(catalog, settings)
    seen = Seen()
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, http=connection_class(settings))
    server = uvicorn.Server(config)
    sys.setswitchinterval(SWITCH_SECONDS)

    async def serve() -> None:
        watch_callbacks(seen, threading.get_ident())
        beating = asyncio.create_task(heart(seen))
        await server.serve()
        beating.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    while not (server.started and engine.ready):
        time.sleep(0.05)
    (pipeline,) = catalog.pipelines.values()
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    with process("--load", url):
        good = measure(url, seen, 4 * pipeline.config.net.resolution, options.seconds, options.verbose)
    server.should_exit = True
    thread.join(30)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
