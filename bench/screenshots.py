"""Pictures of the page for docs/, taken in a headless Chromium.

    python bench/screenshots.py FOLDER [--model shapes] [--run RUN]

Starts `tintype serve` on a free port of this machine with the model, and with a run folder if one is given.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

SIZES = {"phone": (390, 844), "desktop": (1280, 900)}
CAPTION = "a red circle left of a blue square"
OTHER = "a red circle left of a green star"
DONE = "!document.querySelector('#download').hidden && document.querySelector('#status').textContent.includes('done')"


class Camera:
    """A page of one size and scheme."""

    def __init__(self, browser: Any, url: str, folder: Path, size: str, scheme: str) -> None:
        width, height = SIZES[size]
        viewport = {"width": width, "height": height}
        self._context = browser.new_context(color_scheme=scheme, viewport=viewport, reduced_motion="reduce")
        self.page = self._context.new_page()
        self._folder = folder
        self._name = f"{size}-{scheme}"
        self.page.goto(url)
        self.wait("document.querySelector('#model').options.length > 0")

    def wait(self, condition: str, seconds: float = 300) -> None:
        """Until a JavaScript expression is true; Playwright's own way needs eval, which the page forbids."""
        for _ in range(int(seconds / 0.1)):
            self.page.wait_for_timeout(100)
            if self.page.evaluate(condition):
                return
        raise SystemExit(f"{condition} did not come true")

    def develop(self, button: str, seed: int = 3) -> None:
        if not self.page.locator("#settings").is_visible():  # folded on a phone
            self.page.click("#settings-toggle")
        self.page.fill("#seed", str(seed))
        self.page.click(button)
        self.wait(DONE)

    def shoot(self, name: str, full_page: bool = True) -> None:
        self.page.evaluate("document.querySelector('#toast').textContent = ''")
        self.page.wait_for_timeout(400)
        shot = Image.open(io.BytesIO(self.page.screenshot(full_page=full_page, timeout=120_000))).convert("RGB")
        path = self._folder / f"{name}-{self._name}.png"
        shot.save(path, optimize=True)
        print(f"{path}: {path.stat().st_size // 1024} KB")

    def turn_to(self, chapter: str) -> None:
        self.page.evaluate(f"location.hash = '#how/{chapter}'")
        self.page.wait_for_timeout(1500)

    def shoot_chapter(self, name: str) -> None:
        """The chapter alone, as docs/how-it-works.md shows it."""
        self.page.wait_for_timeout(600)
        shot = Image.open(io.BytesIO(self.page.locator(".chapter:visible").screenshot(timeout=120_000))).convert("RGB")
        path = self._folder / f"{name}.png"
        shot.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size // 1024} KB")

    def close(self) -> None:
        self._context.close()


def take(browser: Any, url: str, folder: Path) -> None:
    desktop = Camera(browser, url, folder, "desktop", "dark")
    desktop.page.fill("#caption", CAPTION)
    desktop.develop("#go")
    middle = desktop.page.locator("#strip canvas").count() // 2
    desktop.page.locator("#scrub").fill(str(middle))
    desktop.shoot("develop", full_page=False)
    desktop.page.click("#recaption")
    desktop.page.fill("#caption", OTHER)
    desktop.develop("#go")
    desktop.shoot("recaption", full_page=False)
    if desktop.page.locator("#training-tab").is_visible():
        desktop.page.click("#training-tab")
        desktop.page.wait_for_selector("#run-loss svg")
        desktop.wait("document.querySelector('#run-grid').complete")
        desktop.shoot("training", full_page=False)
    desktop.close()
    light = Camera(browser, url, folder, "desktop", "light")
    light.page.fill("#caption", CAPTION)
    light.develop("#seeds", seed=4)
    light.shoot("seeds", full_page=False)
    take_chapters(light)
    light.close()
    phone = Camera(browser, url, folder, "phone", "dark")
    phone.page.fill("#caption", CAPTION)
    phone.develop("#go")
    phone.page.locator("#scrub").fill(str(middle))
    phone.page.click("#settings-toggle")
    phone.shoot("develop")
    phone.close()


def take_chapters(camera: Camera) -> None:
    """The seven chapters of How it works, each in a moment that shows something."""
    page = camera.page

    def seen(chapter: str, text: str) -> None:
        camera.wait(f"document.querySelector('#{chapter} .seen').textContent.includes('{text}')")

    camera.turn_to("static")
    camera.wait("document.querySelector('#static-source').textContent.startsWith('drawn by')")
    page.locator("#static-level").fill("38")
    seen("how-static", "random numbers")
    camera.turn_to("noise")
    page.locator("#noise-slider").fill("5")
    page.click("#noise-reveal")
    camera.wait("document.querySelectorAll('#noise-plots svg').length === 2")
    camera.shoot_chapter("how-2-noise")
    camera.turn_to("static")  # once the model has drawn its picture
    camera.shoot_chapter("how-1-static")
    camera.turn_to("layers")
    seen("how-layers", "Step 12")
    page.locator("#layers-scrub").fill("6")
    camera.shoot_chapter("how-3-layers")
    camera.turn_to("gradient")
    page.click("#plane-go")
    camera.wait("document.querySelector('#gradient-seen').textContent.includes('have arrived')")
    page.locator("#arrow-step").fill("5")
    camera.shoot_chapter("how-4-gradient")
    camera.turn_to("caption")
    seen("how-caption-chapter", "Step 12")
    camera.shoot_chapter("how-5-caption")
    camera.turn_to("ways")
    camera.wait("document.querySelector('#ways-time').value === '64'")
    page.click("#ways-half")
    camera.shoot_chapter("how-6-ways")
    camera.turn_to("yours")
    page.click("#yours-go")
    seen("how-yours", "Step 1500")
    camera.shoot_chapter("how-7-yours")


def ready(server: subprocess.Popen[bytes], log: Path) -> str:
    """The address of the server, once it has warmed up."""
    while True:
        if server.poll() is not None:
            raise SystemExit(log.read_text())
        address = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        try:
            if address is not None and urllib.request.urlopen(f"{address[0]}/health").status == 200:
                return address[0]
        except urllib.error.URLError:  # 503 while it warms up
            time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description="Take pictures of the page.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--run", help="a run folder, for the view of training")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    models = [options.model, *([options.run] if options.run else [])]
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    log = options.folder / "server.log"
    with log.open("w") as stderr:
        command = [sys.executable, "-m", "tintype", "serve", *models, "--port", "0"]
        server = subprocess.Popen(command, stderr=stderr)
        try:
            url = ready(server, log)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                take(browser, url, options.folder)
                browser.close()
        finally:
            server.terminate()
            server.wait(60)
    log.unlink()


if __name__ == "__main__":
    main()
