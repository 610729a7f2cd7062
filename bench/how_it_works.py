"""CPU time of a step of each chapter of How it works, in the server and in the page, and the time to the first chapter.

    python bench/how_it_works.py [MODEL ...] [--steps 20]

A step is one move of the chapter's main control, or one network call where the chapter runs by itself. Server: user and
system time of the process per step. Page: time of the browser's main thread per step. Needs Linux and Chromium.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from screenshots import ready

# chapter: what begins its work, how many steps that is, and when it is over
RUNS = {
    "noise": ("#noise-reveal", 12, "document.querySelectorAll('#noise-plots svg').length === 2"),
    "layers": ("#layers-dice", 12, "document.querySelector('#layers-where').textContent === 'step 12 of 12'"),
    "gradient": ("#plane-go", 40, "document.querySelector('#gradient-seen').textContent.includes('have arrived')"),
    "caption": ("#caption-dice", 12, "document.querySelector('#caption-seen').textContent.startsWith('Step 12')"),
    "ways": ("#ways-ask [type=submit]", 16, "document.querySelector('#ways-seen').textContent.includes('for good')"),
    "yours": ("#yours-go", 60, "document.querySelector('#yours-seen').textContent.startsWith('Step 1500')"),
}
# The chapter's first run is over once what it says no longer changes.
QUIET = """(() => { const told = [...document.querySelectorAll('.seen')].map((each) => each.textContent).join();
    const same = told === window.told; window.told = told; return same; })()"""
SLIDERS = {"static": "#static-level", "layers": "#layers-scrub", "gradient": "#plane-level", "ways": "#ways-time"}


def server_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Clock:
    """CPU seconds of the server and of the page's main thread."""

    def __init__(self, page: Any, pid: int) -> None:
        self._session = page.context.new_cdp_session(page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})
        self._pid = pid

    def read(self) -> tuple[float, float]:
        metrics = {m["name"]: m["value"] for m in self._session.send("Performance.getMetrics")["metrics"]}
        return server_seconds(self._pid), metrics["TaskDuration"]

    def spent(self, work: Callable[[], None]) -> tuple[float, float]:
        before = self.read()
        work()
        return tuple(b - a for a, b in zip(before, self.read(), strict=True))  # type: ignore[return-value]


def wait(page: Any, condition: str, seconds: float = 120) -> None:
    """Until a condition is true three times in a row."""
    row = 0
    for _ in range(int(seconds / 0.1)):
        row = row + 1 if page.evaluate(condition) else 0
        if row == 3:
            return
        page.wait_for_timeout(100)
    raise SystemExit(f"{condition} did not come true")


def measure(page: Any, url: str, pid: int, steps: int) -> None:
    page.goto(f"{url}/version")  # in the process that the page will have
    clock = Clock(page, pid)
    start = time.monotonic()
    server, script = clock.spent(partial(first_chapter, page, url))
    wall = time.monotonic() - start
    print(f"first chapter interactive {wall:.2f} s after the server was ready (wall clock); CPU time of the server")
    print(f"{server:.2f} s, of the page's main thread {script:.2f} s")
    wait(page, "document.querySelector('#static-source').textContent.startsWith('drawn by')")
    page.wait_for_timeout(2000)
    print("| chapter | step | server, ms | page, ms |\n| --- | --- | ---: | ---: |")

    def row(chapter: str, what: str, num: int, work: Callable[[], None]) -> None:
        server, script = clock.spent(work)
        print(f"| {chapter} | {what} | {1000 * server / num:.0f} | {1000 * script / num:.0f} |", flush=True)

    for chapter in ("static", *RUNS):
        page.evaluate(f"location.hash = '#how/{chapter}'")
        page.wait_for_timeout(1000)
        if chapter in RUNS:
            button, num, over = RUNS[chapter]
            wait(page, "document.querySelector('.chapter:not([hidden]) .seen').textContent.length > 0")
            wait(page, QUIET)
            row(chapter, "one of a run", num, partial(run, page, button, over))
        if chapter in SLIDERS:
            row(chapter, "slider", steps, partial(slide, page, SLIDERS[chapter], steps))


def first_chapter(page: Any, url: str) -> None:
    page.goto(f"{url}/#how/static")
    while not page.evaluate("document.querySelector('#static-seen')?.textContent.length > 0"):
        page.wait_for_timeout(20)


def run(page: Any, button: str, over: str) -> None:
    page.click(button)
    page.wait_for_timeout(100)
    wait(page, over)


def slide(page: Any, slider: str, steps: int) -> None:
    for i in range(steps):
        page.evaluate(
            "([selector, share]) => { const slider = document.querySelector(selector);"
            " slider.value = slider.max * share; slider.dispatchEvent(new Event('input')); }",
            [slider, (i + 1) / steps],
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the steps of How it works.")
    parser.add_argument(
        "models", nargs="*", default=["shapes"], help="as for tintype serve; the page begins with the first"
    )
    parser.add_argument("--steps", type=int, default=20, help="moves of a slider")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w") as stderr:
        command = [sys.executable, "-m", "tintype", "serve", *options.models, "--port", "0"]
        server = subprocess.Popen(command, stderr=stderr)
        try:
            url = ready(server, Path(folder) / "log")
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
                measure(page, url, server.pid, options.steps)
                browser.close()
        finally:
            server.terminate()
            server.wait(60)


if __name__ == "__main__":
    main()
