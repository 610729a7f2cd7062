"""The studio under load: search in 20,000 captions, scrolling, a large upload that is cut twice, memory of the server.

    python bench/studio.py [--pictures 20000] [--upload-gib 2] [--parts search,pictures,scroll,upload]

A server of its own is started over folders in a temporary place, which needs as much disk as the upload has bytes.
Scrolling needs the extra `browser` and a Chromium, and is left out without them. Linux only: memory is read from /proc.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

COLORS = ("red", "green", "blue", "yellow", "orange", "purple", "gray", "brown")
SHAPES = ("circle", "square", "star", "triangle", "ring", "cross")
WORDS = ("drawing 199", "a red", "star", "nothing has these words", "07/")
SPEEDS = (6, 60, 600)  # pixels a frame
FRAMES = 180
OCTETS = {"Content-Type": "application/octet-stream"}
LINK = re.compile(r"http://127\.0\.0\.1:(\d+)/studio\?token=([\w-]+)")
SCROLL = """async ([speed, frames]) => {
  const box = document.querySelector('#captions-grid');
  box.scrollTop = 0;
  await new Promise((resolve) => setTimeout(resolve, 500));
  const times = [];
  await new Promise((resolve) => {
    const step = (now) => {
      times.push(now);
      box.scrollTop += speed;
      if (times.length > frames) resolve(); else requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  });
  return times.slice(1).map((time, i) => time - times[i]);
}"""


def write_pictures(folder: Path, num: int) -> None:
    """Small captioned pictures in folders of a thousand; their bytes differ, their sizes do not."""
    for number in range(num):
        place = folder / f"{number // 1000:02}"
        place.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (64, 48), (number % 256, number // 256 % 256, 128))
        image.save(place / f"{number:05}.jpg", quality=85)
        caption = f"a {COLORS[number % len(COLORS)]} {SHAPES[number % len(SHAPES)]}, drawing {number}"
        (place / f"{number:05}.txt").write_text(caption)


class Server:
    """`tintype studio` as a process, and requests to it."""

    def __init__(self, root: Path, studio: Path) -> None:
        command = [sys.executable, "-m", "tintype", "studio", "shapes", "--device", "cpu", "--port", "0"]
        command += ["--root", str(root), "--studio-folder", str(studio)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        lines = iter(self.process.stderr.readline, "")
        self.link, port, self._token = next((m[0], m[1], m[2]) for line in lines if (m := LINK.search(line)))
        self._port = int(port)
        threading.Thread(target=lambda: [None for _ in lines], daemon=True).start()
        self._local = threading.local()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> bytes:
        """The body of an answer. Raises RuntimeError for an error, ConnectionError where there is none."""
        if getattr(self._local, "connection", None) is None:
            self._local.connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=300)
        connection = self._local.connection
        connection.request(method, path, body, {"X-Tintype-Token": self._token, **(headers or {})})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:300]!r}")
        return bytes(content)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The same with JSON."""
        content = None if body is None else json.dumps(body).encode()
        return json.loads(self.request(method, path, content, {"Content-Type": "application/json"}))

    def cut(self, path: str, body: bytes) -> None:
        """Send half of a request and reset the connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=300)
        connection.putrequest("PUT", path)
        for name, value in {"X-Tintype-Token": self._token, "Content-Length": str(len(body)), **OCTETS}.items():
            connection.putheader(name, value)
        connection.endheaders(body[: len(body) // 2])
        connection.close()

    def memory(self) -> dict[str, float]:
        """Resident memory now and at its peak, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = {name: re.search(rf"{name}:\s+(\d+)", status) for name in ("VmRSS", "VmHWM")}
        return {name: round(int(match[1]) / 1024, 1) for name, match in found.items() if match}

    def cpu(self) -> float:
        """CPU time so far, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def scan(server: Server, folder: str) -> tuple[str, float]:
    """A data set of a folder: its identifier, and the seconds until it is listed and checked."""
    start = time.perf_counter()
    made = server.ask("POST", "/api/studio/datasets", {"name": "pictures", "folder": folder})
    while (task := server.ask("GET", f"/api/studio/tasks/{made['task']['id']}"))["state"] in ("waiting", "running"):
        time.sleep(0.2)
    assert task["state"] == "done", task
    return made["dataset"]["id"], time.perf_counter() - start


def search(server: Server, number: str) -> dict[str, Any]:
    """Seconds of searches, of windows and of edits of all captions."""
    url = f"/api/studio/datasets/{number}"

    def timed(method: str, path: str, body: Any = None, times: int = 5) -> float:
        seconds = []
        for _ in range(times):
            start = time.perf_counter()
            server.ask(method, f"{url}{path}", body)
            seconds.append(time.perf_counter() - start)
        return round(statistics.median(seconds), 4)

    searches = {words: timed("GET", f"/captions/rows?q={quote(words)}") for words in WORDS}
    replace = {"op": "replace", "find": "drawing", "with": "picture"}
    return {
        "seconds_of_searches": searches,
        "seconds_of_window": timed("GET", "/captions?offset=19000&limit=200"),
        "seconds_of_replacing_all": timed("POST", "/captions", replace, 1),
        "seconds_of_undo": timed("POST", "/undo", {}, 1),
    }


def look_at_all(server: Server, number: str, num: int) -> dict[str, Any]:
    """Memory of the server before and after each of two passes over all captions and thumbnails, four at a time."""
    url = f"/api/studio/datasets/{number}"
    before, start = server.memory(), time.perf_counter()
    rows = server.ask("GET", f"{url}/captions/rows")["rows"]
    passes = []
    for _ in range(2):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda row: len(server.request("GET", f"{url}/thumbnails/{row}?side=256")), rows))
            list(pool.map(lambda at: server.ask("GET", f"{url}/captions?offset={at}&limit=200"), range(0, num, 200)))
        passes.append(server.memory())
    return {"MiB_before": before, "MiB_after_each_pass": passes, "seconds": round(time.perf_counter() - start, 1)}


def pieces(size: int, chunk: int) -> Iterator[bytes]:
    """Bytes that are not all alike, of which none is kept."""
    for offset in range(0, size, chunk):
        block = hashlib.sha256(offset.to_bytes(8, "little")).digest() * (chunk // 32 + 1)
        yield block[: min(chunk, size - offset)]


def upload(server: Server, studio: Path, gib: float) -> dict[str, Any]:
    """A file in chunks; the connection is cut in the middle of a chunk at one and at two thirds."""
    number = server.ask("POST", "/api/studio/datasets", {"name": "large"})["dataset"]["id"]
    size, whole = int(gib * 2**30), hashlib.sha256()
    begun = server.ask("POST", f"/api/studio/datasets/{number}/uploads", {"path": "large.zip", "size": size})
    place, before, start, offset, cuts = (
        f"/api/studio/uploads/{begun['id']}",
        server.memory(),
        time.perf_counter(),
        0,
        0,
    )
    highest = 0.0
    for piece in pieces(size, begun["chunk_bytes"]):
        path = f"{place}?offset={offset}&sha256={hashlib.sha256(piece).hexdigest()}"
        if offset >= (cuts + 1) * size / 3:
            cuts += 1
            server.cut(path, piece)
            assert server.ask("GET", place)["offset"] == offset  # half a chunk is no chunk
        offset = json.loads(server.request("PUT", path, piece, OCTETS))["offset"]
        whole.update(piece)
        highest = max(highest, server.memory()["VmRSS"])
    seconds = time.perf_counter() - start
    done = server.ask("POST", f"{place}/finish", {"sha256": whole.hexdigest()})
    with (studio / "datasets" / number / "uploaded" / "large.zip").open("rb") as file:
        arrived = hashlib.file_digest(file, "sha256").hexdigest()
    assert arrived == whole.hexdigest() == done["sha256"]
    return {
        "GiB": gib,
        "cuts": cuts,
        "is_whole": True,
        "MB_per_second": round(size / seconds / 1e6, 1),
        "MiB_before": before,
        "MiB_highest": highest,
        "MiB_after": server.memory(),
    }


def scroll(server: Server, number: str) -> dict[str, Any] | str:
    """Milliseconds between frames of the page while the grid of captions scrolls."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return "left out: needs the extra browser"
    if chromium is None:
        return "left out: there is no Chromium"
    result: dict[str, Any] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(server.link)
        page.evaluate("id => localStorage.setItem('tintype-studio', JSON.stringify({ data: id, run: null }))", number)
        page.goto(server.link.split("/studio")[0] + "/#studio/captions")
        page.reload()
        while not page.evaluate("document.querySelector('#captions-grid p')?.textContent.startsWith('a ') ?? false"):
            page.wait_for_timeout(50)
        for speed in SPEEDS:
            times = page.evaluate(SCROLL, [speed, FRAMES])
            result[f"{speed} pixels a frame"] = {
                "ms_mean": round(statistics.mean(times), 2),
                "ms_median": round(statistics.median(times), 2),
                "late": sum(time > 25 for time in times),
                "of": len(times),
            }
        result["cells"] = page.locator("#captions-grid [role=gridcell]").count()
        browser.close()
    return result


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    server = Server(folder / "root", folder / "studio")
    try:
        yield server
    finally:
        server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="The studio under load.")
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--upload-gib", type=float, default=2.0)
    parser.add_argument("--parts", default="search,pictures,scroll,upload", help="of the whole, with commas")
    options = parser.parse_args()
    parts = options.parts.split(",")
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "root" / "pictures").mkdir(parents=True)
        write_pictures(folder / "root" / "pictures", options.pictures)
        with running(folder) as server:
            number, result["seconds_of_scan_and_check"] = scan(server, "pictures")
            result["MiB_at_the_start"] = server.memory()
            if "search" in parts:
                result["search"] = search(server, number)
            if "pictures" in parts:
                result["pictures"] = look_at_all(server, number, options.pictures)
            if "scroll" in parts:
                result["scroll"] = scroll(server, number)
            if "upload" in parts:
                result["upload"] = upload(server, folder / "studio", options.upload_gib)
            result["cpu_seconds"] = server.cpu()
        print(json.dumps(result, indent=1), flush=True)  # before the many files are deleted


if __name__ == "__main__":
    main()
