"""From a zip of drawings to a model of one's own, in a real browser, with a server that is killed on the way."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.conftest import SIZES
from tests.serving.test_page import Tab

from tintype.shapes.write import write_shapes

pytestmark = pytest.mark.slow

NUM = 200
STEPS = ("pictures", "captions", "plan", "training", "models")
LENGTH = "8000 images"  # about 40 seconds on two quiet cores; a busy machine needs more, and nothing here depends on it
LINK = re.compile(r"http://127\.0\.0\.1:\d+/studio\?token=[\w-]+")


class Server:
    """`tintype studio` as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._command = [sys.executable, "-m", "tintype", "studio", "shapes", "--port", "0", "--device", "cpu"]
        self._command += ["--root", str(folder), "--studio-folder", str(folder / "studio")]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        lines = iter(self.process.stderr.readline, "")
        self.link = next(found.group() for line in lines if (found := LINK.search(line)) is not None)
        self._reader = threading.Thread(target=lambda: list(lines), daemon=True)  # so that its log never blocks it
        self._reader.start()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)
        self.close()

    def close(self) -> None:
        assert self.process.stderr is not None
        self._reader.join(20)
        self.process.stderr.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path)
    yield started
    started.process.terminate()
    started.process.wait(60)
    started.close()


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    """A zip of drawn pictures with their captions, one that is no picture, and one without a caption."""
    write_shapes(tmp_path / "drawn", num=NUM, size=32)
    Image.new("RGB", (40, 40), "teal").save(tmp_path / "drawn" / "no-words.png")
    (tmp_path / "drawn" / "broken.png").write_bytes(b"not a picture")
    (tmp_path / "drawn" / "broken.txt").write_text("a picture that cannot be read")
    path = tmp_path / "drawings.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((tmp_path / "drawn").rglob("*")):
            archive.write(file, file.relative_to(tmp_path / "drawn"))
    return path


def turn_to(tab: Tab, step: str) -> None:
    tab.page.evaluate("step => { location.hash = `#studio/${step}`; }", step)
    sees(tab, f"#studio-{step}")


def sees(tab: Tab, selector: str, seconds: float = 60.0) -> None:
    """Until an element is visible, looked for all the time: Playwright's own waiting asks ever more rarely."""
    end = time.monotonic() + seconds
    while not tab.page.is_visible(selector):
        assert time.monotonic() < end, f"{selector} did not appear"
        tab.page.wait_for_timeout(20)


def says(tab: Tab, selector: str, text: str, seconds: float = 120.0) -> None:
    tab.wait(f"document.querySelector({selector!r}).textContent.includes({text!r})", seconds)


def look_at_all_steps(tab: Tab, axe: Any, folder: Path | None) -> None:
    """Nothing that axe minds, and nothing wider than the window, on a phone and a desk, dark and light."""
    for size, (width, height) in SIZES.items():
        for scheme in ("dark", "light"):
            tab.page.set_viewport_size({"width": width, "height": height})
            tab.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            for step in STEPS:
                turn_to(tab, step)
                tab.page.wait_for_timeout(500)
                if folder is not None:
                    tab.page.screenshot(path=folder / f"studio-{step}-{size}-{scheme}.png")
                violations = axe.Axe().run(tab.page).response["violations"]
                assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in violations] == [], step
                assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (step, size)
    tab.page.set_viewport_size({"width": 1280, "height": 900})


def upload_and_see_the_verdict(tab: Tab, drawings: Path) -> None:
    assert tab.page.url.endswith("/#studio")  # without the token
    sees(tab, "#studio-open")
    tab.page.set_input_files("#studio-files", drawings)
    says(tab, "#verdict-line", f"{NUM + 1} pictures can be used")
    assert "1 picture has no caption yet" in tab.page.inner_text("#verdict-more")
    assert "broken.png" in tab.page.inner_text("#verdict-cases")
    tab.wait("[...document.querySelectorAll('#verdict-cases img')].some((image) => image.naturalWidth > 0)")


def edit_three_captions(tab: Tab) -> None:
    turn_to(tab, "captions")
    says(tab, "#captions-filters", f"All {NUM + 2}")
    tab.page.click("#captions-filters button[data-filter=empty]")
    says(tab, "#captions-target", "All 1 picture shown")
    cell = "#captions-grid [role=gridcell]:not([hidden])"
    tab.page.focus(cell)
    tab.page.keyboard.press("Enter")
    tab.wait("document.activeElement.tagName === 'TEXTAREA'")
    tab.page.keyboard.type("a teal picture")
    tab.page.keyboard.press("Enter")
    says(tab, "#captions-status", "Saved")
    tab.page.click("#captions-filters button[data-filter=all]")
    says(tab, "#captions-target", f"All {NUM + 2} pictures shown")
    tab.page.focus(cell)
    tab.page.keyboard.press("Enter")
    for text in ("the first", "the second"):
        tab.wait("document.activeElement.tagName === 'TEXTAREA'")
        tab.page.keyboard.press("Control+a")
        tab.page.keyboard.type(text)
        tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Escape")
    says(tab, "#captions-filters", "Edited 3")


def train_until_a_sample(tab: Tab, length: str) -> None:
    turn_to(tab, "plan")
    sees(tab, "#plan-times input")
    tab.page.click("#plan-times label:has(input[value=other])")
    tab.page.fill("#plan-other", length)
    tab.page.click("#plan-sizes label:has(input[value='32'])")
    tab.page.fill("#plan-name", "My drawings")
    tab.page.click("#plan-form summary")
    for name in ("sample_every", "save_every"):
        tab.page.fill(f"#plan-advanced [data-setting={name}]", "5s")
    tab.page.click("#plan-go")
    sees(tab, "#studio-training")
    tab.wait("document.querySelector('#train-samples').checkVisibility()", 240)
    tab.wait("document.querySelector('#train-grid').naturalWidth > 0")


def click_if_there(tab: Tab, selector: str) -> None:
    tab.page.evaluate(
        f"(button => {{ if (button.checkVisibility()) button.click(); }})(document.querySelector('{selector}'))"
    )


def wait_until_it_is(tab: Tab, *words: str) -> None:
    tab.wait(f"{list(words)}.some((word) => document.querySelector('#train-status').textContent.endsWith(word))", 120)


def pause(tab: Tab) -> str:
    """Pause the run. Returns the button that it goes on with, another one where its time was up before."""
    click_if_there(tab, "#train-pause")
    wait_until_it_is(tab, "paused", "finished")
    return "#train-resume" if tab.page.is_visible("#train-resume") else "#train-extend"


def no_complaints(tab: Tab) -> None:
    """Nothing in the console; Playwright itself notes what a reload cut off."""
    assert [text for text in tab.complaints if "ERR_ABORTED" not in text] == []


def seen(tab: Tab) -> int:
    return int(re.match(r"[\d,]+", tab.page.inner_text("#train-status"))[0].replace(",", ""))  # type: ignore[index]


def draw(tab: Tab) -> None:
    tab.wait("document.querySelector('#train-draw-box').checkVisibility()", 120)
    tab.page.fill("#train-caption", "a red circle")
    tab.page.click("#train-draw button.main")
    says(tab, "#train-draw-says", "the same static each time")
    assert tab.page.evaluate("document.querySelector('#train-picture').width") == 32


def give_it_away(tab: Tab) -> None:
    turn_to(tab, "models")
    tab.page.click("#models-list button:has-text('Give it away')")
    sees(tab, "#give")
    assert tab.page.input_value("#model") == "my-drawings"
    tab.page.select_option("#give-as", "folder")
    tab.page.click("#give-go")
    sees(tab, "#give-file", 240)
    with tab.page.expect_download() as download:
        tab.page.click("#give-file")
    assert zipfile.is_zipfile(download.value.path())


def throw_away_and_bring_back(tab: Tab) -> None:
    turn_to(tab, "models")
    tab.page.click("#models-list button:has-text('Move to the trash')")
    sees(tab, "#trash-list li", 60)
    assert tab.page.locator("#models-list li").count() == 0
    tab.page.click("#trash-list button:has-text('Bring back')")
    sees(tab, "#models-list li", 60)


def test_from_a_zip_to_a_model_and_the_server_dies_on_the_way(
    browser: Any, server: Server, drawings: Path, tmp_path: Path
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra browser")
    pictures = os.environ.get("TINTYPE_STUDIO_PICTURES")  # a folder for screenshots
    tab = Tab(browser, server.link, viewport={"width": 1280, "height": 900})
    upload_and_see_the_verdict(tab, drawings)
    edit_three_captions(tab)
    train_until_a_sample(tab, LENGTH)
    goes_on = pause(tab)
    before = seen(tab)
    look_at_all_steps(tab, axe, Path(pictures) if pictures else None)
    turn_to(tab, "training")
    tab.page.reload()
    sees(tab, goes_on)
    says(tab, "#train-status", "images seen")
    assert seen(tab) == before
    no_complaints(tab)

    server.kill()
    says(tab, "#studio-problem", "The server does not answer")
    server.start()
    tab.page.goto(server.link)
    sees(tab, "#studio-open", 120)
    tab.complaints.clear()  # the browser itself noted that nobody answered
    turn_to(tab, "captions")
    says(tab, "#captions-filters", "Edited 3")
    turn_to(tab, "training")
    sees(tab, goes_on)
    tab.page.click(goes_on)
    tab.wait(f"!document.querySelector('{goes_on}').checkVisibility()")
    end = time.monotonic() + 300
    while not tab.page.is_visible("#train-view") or seen(tab) <= before:
        assert time.monotonic() < end, tab.page.inner_text("#studio-training")
        tab.page.wait_for_timeout(200)
    draw(tab)
    click_if_there(tab, "#train-stop")  # not where it is finished by now
    wait_until_it_is(tab, "stopped", "finished")
    give_it_away(tab)
    throw_away_and_bring_back(tab)
    no_complaints(tab)
    tab.context.close()
