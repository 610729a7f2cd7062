"""What a server can do: requests together against one after another, closed and open load, hang-ups, memory.

    python bench/serve.py [--model NAME|FOLDER] [--steps 16] [--seconds 20] [--minutes 0] [--json]

Starts `tintype serve` on a free port of this machine and loads it from this process, over loopback only. Every request
is a stream with one preview, so that the time to the first preview is seen too. Client and server share the processors.
`--minutes 10` also watches the server's memory under steady load for so long.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import httpx

MAKE = "/v1/images/generations"
CLIENTS = (1, 4, 16, 64)
TOGETHER = 16
HANG_UPS = 200


class Answer(NamedTuple):
    status: int
    seconds: float
    preview: float | None  # seconds until the first one


class Load:
    """Sends requests, each with a seed of its own."""

    def __init__(self, http: httpx.AsyncClient, steps: int) -> None:
        self._http = http
        self._steps = steps
        self._num = 0

    async def make(self, hang_up_after: float | None = None) -> Answer:
        self._num += 1
        ask = {"prompt": "a red circle left of a blue square", "seed": self._num, "steps": self._steps,
               "stream": True, "partial_images": 1}  # fmt: skip
        start, preview, done = time.perf_counter(), None, False
        try:
            async with asyncio.timeout(hang_up_after), self._http.stream("POST", MAKE, json=ask) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("event: image_generation.partial") and preview is None:
                        preview = time.perf_counter() - start
                    done = done or line.startswith("event: image_generation.completed")
                status = answer.status_code if answer.status_code != 200 or done else 500
        except TimeoutError:
            status = 0
        return Answer(status, time.perf_counter() - start, preview)


async def for_seconds(load: Load, clients: int, seconds: float) -> tuple[list[Answer], float]:
    """Closed loop: every client asks again as soon as it is answered."""
    answers: list[Answer] = []
    start = time.perf_counter()

    async def client() -> None:
        while time.perf_counter() - start < seconds:
            answer = await load.make()
            answers.append(answer)
            if answer.status == 429:
                await asyncio.sleep(0.2)

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers, time.perf_counter() - start


async def poisson(load: Load, rate: float, seconds: float) -> tuple[list[Answer], float]:
    """Open loop: requests arrive at random, whether or not others have been answered."""
    chance = random.Random(0)
    tasks = []
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        tasks.append(asyncio.create_task(load.make()))
        await asyncio.sleep(chance.expovariate(rate))
    return list(await asyncio.gather(*tasks)), time.perf_counter() - start


def summary(answers: list[Answer], seconds: float) -> dict[str, Any]:
    good = [answer for answer in answers if answer.status == 200]
    previews = [answer.preview for answer in good if answer.preview is not None]
    return {
        "requests": len(answers),
        "per_second": round(len(good) / seconds, 2),
        "p50": quantile([answer.seconds for answer in good], 0.5),
        "p99": quantile([answer.seconds for answer in good], 0.99),
        "first_preview_p50": quantile(previews, 0.5),
        "rejected": sum(answer.status == 429 for answer in answers),
        "failed": sum(answer.status not in (200, 429) for answer in answers),
    }


def quantile(values: list[float], share: float) -> float | None:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None


async def gauges(http: httpx.AsyncClient) -> tuple[float, float]:
    """(running, waiting) as the server's metrics say."""
    text = (await http.get("/metrics")).text
    matches = [re.search(rf"^tintype_num_requests_{name} (\S+)", text, re.M) for name in ("running", "waiting")]
    return float(matches[0][1]) if matches[0] else -1, float(matches[1][1]) if matches[1] else -1


def processor_seconds(pid: int) -> float:
    """What a process has used of all processors so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def sixteen(load: Load, pid: int) -> dict[str, Any]:
    """Sixteen requests one after another, then together: seconds by the clock, and of processor time of the server."""
    clock, processor = [time.perf_counter()], [processor_seconds(pid)]
    for _ in range(TOGETHER):
        await load.make()
    clock.append(time.perf_counter())
    processor.append(processor_seconds(pid))
    await asyncio.gather(*(load.make() for _ in range(TOGETHER)))
    clock.append(time.perf_counter())
    processor.append(processor_seconds(pid))
    rows = {}
    for name, (start, middle, end) in (("clock", clock), ("processor", processor)):
        rows[name] = f"{middle - start:.2f} s and {end - middle:.2f} s"
        rows[f"{name} ratio"] = f"{(end - middle) / (middle - start):.3f}"
    return rows


async def heartbeats(late: list[float]) -> None:
    """How late an event loop without work is on this machine at the same time: what the server cannot be blamed for."""
    while True:
        due = time.perf_counter() + 0.05
        await asyncio.sleep(0.05)
        late.append(time.perf_counter() - due)


def idle_lags() -> None:
    """Run by `measure` as a process of its own, until its input is closed: prints how late its heartbeats were."""
    late: list[float] = []

    async def until_told() -> None:
        task = asyncio.create_task(heartbeats(late))
        await asyncio.to_thread(sys.stdin.read)
        task.cancel()

    asyncio.run(until_told())
    counts = {f"later than {limit} s": sum(lag > limit for lag in late) for limit in (0.01, 0.05, 0.1)}
    print(json.dumps({"heartbeats": len(late), **counts}))


async def lags(http: httpx.AsyncClient) -> dict[str, Any]:
    """How late the server's event loop was to its own heartbeat, over all of the load so far."""
    text = (await http.get("/metrics")).text
    counts = {le: float(num) for le, num in re.findall(r'lag_seconds_bucket\{le="(\S+)"\} (\S+)', text)}
    total = counts.pop("+Inf")
    return {
        "heartbeats": int(total),
        **{f"later than {le} s": int(total - counts[le]) for le in ("0.01", "0.05", "0.1")},
    }


async def hang_ups(load: Load, http: httpx.AsyncClient) -> dict[str, Any]:
    """200 clients that leave at random moments; then how long until nothing is left."""
    chance = random.Random(1)

    async def client() -> None:
        await asyncio.sleep(chance.uniform(0, 4))
        await load.make(hang_up_after=chance.uniform(0.001, 1.5))

    await asyncio.gather(*(client() for _ in range(HANG_UPS)))
    start = time.perf_counter()
    while await gauges(http) != (0, 0):
        if time.perf_counter() - start > 60:
            return {"hang_ups": HANG_UPS, "left_over": await gauges(http)}
        await asyncio.sleep(0.01)
    return {"hang_ups": HANG_UPS, "left_over": 0, "idle_after": round(time.perf_counter() - start, 3)}


async def memory(load: Load, pid: int, minutes: float) -> dict[str, Any]:
    """Resident megabytes of the server under load of four clients: after the first tenth, and at the end."""
    sizes: list[float] = []

    async def watch() -> None:
        while True:
            status = Path(f"/proc/{pid}/status").read_text()
            sizes.append(int(status.partition("VmRSS:")[2].split()[0]) / 1024)
            await asyncio.sleep(1)

    task = asyncio.create_task(watch())
    await for_seconds(load, 4, 60 * minutes)
    task.cancel()
    tenth = max(1, len(sizes) // 10)
    return {
        "minutes": minutes,
        "early_mb": round(statistics.median(sizes[tenth : 2 * tenth] or sizes), 1),
        "late_mb": round(statistics.median(sizes[-tenth:]), 1),
    }


async def measure(url: str, pid: int, options: argparse.Namespace) -> dict[str, Any]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits, trust_env=False) as http:
        while (await http.get("/health")).status_code != 200:
            await asyncio.sleep(0.1)
        load = Load(http, options.steps)
        await load.make()
        result: dict[str, Any] = {}
        idle = subprocess.Popen(
            [sys.executable, __file__, "--idle"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        result["sixteen"] = [await sixteen(load, pid) for _ in range(options.repeats)]
        best = 0.0
        for clients in CLIENTS:
            answers, seconds = await for_seconds(load, clients, options.seconds)
            result[f"closed {clients}"] = summary(answers, seconds)
            best = max(best, result[f"closed {clients}"]["per_second"])
        for share in (0.7, 1.5):
            answers, seconds = await poisson(load, share * best, options.seconds)
            result[f"poisson {share * best:.1f}/s"] = summary(answers, seconds)
        result["event loop"] = await lags(http)
        result["idle loop"] = json.loads(idle.communicate()[0])
        result["hang-ups"] = await hang_ups(load, http)
        if options.minutes:
            result["memory"] = await memory(load, pid, options.minutes)
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Load a server.")
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--repeats", type=int, default=3, help="of sixteen together and one after another")
    parser.add_argument("--minutes", type=float, default=0.0, help="of watching memory")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--idle", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.idle:
        return idle_lags()
    command = [sys.executable, "-m", "tintype", "serve", options.model, "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        address = None
        while address is None:
            line = server.stderr.readline()
            if not line:
                raise SystemExit("the server did not start")
            address = re.search(r"http://127\.0\.0\.1:\d+", line)
        # Its log is read all the time: a full pipe would stop it.
        reader = subprocess.Popen([sys.executable, "-c", "import sys\nfor _ in sys.stdin: pass"], stdin=server.stderr)
        result = asyncio.run(measure(address[0], server.pid, options))
        reader.terminate()
    finally:
        server.terminate()
        server.wait(60)
    if options.json:
        print(json.dumps(result))
        return
    for name, row in result.items():
        for each in row if isinstance(row, list) else [row]:
            print(f"{name:18}" + "  ".join(f"{key} {value}" for key, value in each.items()))


if __name__ == "__main__":
    main()
