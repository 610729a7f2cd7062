"""An exported page in a real browser, from a disk and without a network: all it can do, and nothing that axe minds."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.conftest import SIZES

from tintype.cli.main import main
from tintype.export.forms import export_model
from tintype.pipeline.image_file import read_receipt
from tintype.pipeline.pipeline import Pipeline

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pages") / "tiny.html"
    return export_model(tiny_model, out, to="page", precision="fp16", license="MIT", examples=["a red circle"])


class Quiet(SimpleHTTPRequestHandler):
    """A static web server that prints nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Tab:
    """A page without a network, and everything it complained about."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        options = {"reduced_motion": "reduce", "accept_downloads": True, "offline": True, **options}
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(url)
        self.page.wait_for_selector("#go:enabled", timeout=60_000)

    def draw(self, caption: str, steps: int = 4, seed: str | None = None) -> None:
        self.page.fill("#caption", caption)
        self.page.fill("#steps", str(steps))
        if seed is not None:
            self.page.fill("#seed", seed)
        self.page.click("#go")

    def status(self, text: str) -> None:
        self.page.wait_for_selector(f"#status:has-text('{text}')", timeout=60_000)

    def saved(self, folder: Path) -> Path:
        with self.page.expect_download() as download:
            self.page.click("#save")
        path = folder / download.value.suggested_filename
        download.value.save_as(path)
        return path


@pytest.fixture
def tab(browser: Any, page: Path) -> Iterator[Tab]:
    opened = Tab(browser, page.as_uri())
    yield opened
    assert opened.complaints == []
    opened.context.close()


def test_a_picture_is_that_of_the_command_line_and_can_be_made_again(
    tab: Tab, tiny_model: Path, tmp_path: Path
) -> None:
    caption = "東京 🍕: a red circle"
    tab.draw(caption, steps=5, seed="8000000000000000001")
    tab.status("done in")
    assert "this model cannot read" in tab.page.inner_text("#status")
    file = tab.saved(tmp_path)
    assert file.name == "東京-a-red-circle-s8000000000000000001.png"
    receipt = read_receipt(file)
    assert (receipt.caption, receipt.steps, receipt.model) == (caption, 5, "tiny")
    pipeline = Pipeline.load(tiny_model, "cpu")
    picture = pipeline.generate(caption, seeds=8 * 10**18 + 1, steps=5)[0]
    assert np.abs(np.asarray(picture, int) - np.asarray(Image.open(file), int)).max() <= 1
    again = tmp_path / "again.png"
    assert main(["redo", str(file), "--model", str(tiny_model), "--output", str(again)]) == 0
    assert np.abs(np.asarray(Image.open(again), int) - np.asarray(Image.open(file), int)).max() <= 1


@pytest.mark.parametrize("seed", ["0", "9223372036854775807"])
@pytest.mark.parametrize(
    "caption",
    [
        "🍕",
        "中国菜",
        "مرحبا بالعالم",
        "e\u0301\u0302\u0323 a\u030a",
        "a red circle " * 400,
        "a\u202eb\u200d",
        "👩🏽‍🎤 sings",
    ],
)
def test_any_caption_and_seed_by_keyboard_alone(
    tab: Tab, caption: str, seed: str, tiny_model: Path, tmp_path: Path
) -> None:
    tab.page.focus("#caption")
    tab.page.keyboard.insert_text(caption)
    for field, value in (("#seed", seed), ("#steps", "2")):
        tab.page.focus(field)
        tab.page.keyboard.press("Control+A")
        tab.page.keyboard.type(value)
    tab.page.keyboard.press("Enter")
    tab.status("done in")
    assert tab.page.get_attribute("#guess", "aria-label") == f"The model's guess at step 2: {caption}"
    file = tab.saved(tmp_path)
    receipt = read_receipt(file)
    assert (receipt.caption, receipt.seed) == (caption, int(seed))
    picture = Pipeline.load(tiny_model, "cpu").generate(caption, seeds=int(seed), steps=2)[0]
    assert np.abs(np.asarray(picture, int) - np.asarray(Image.open(file), int)).max() <= 1


def test_steps_can_be_gone_back_to(tab: Tab) -> None:
    shown = "document.querySelector('#guess').toDataURL()"
    tab.draw("a red circle", steps=4)
    tab.status("done in")
    last = tab.page.evaluate(shown)
    assert tab.page.locator("#strip canvas").count() == 4
    tab.page.focus("#scrub")
    tab.page.keyboard.press("Home")
    assert tab.page.inner_text("#where").startswith("step 1 of 4")
    assert tab.page.evaluate(shown) != last
    tab.page.click("#play")
    tab.page.wait_for_selector("#where:has-text('step 4 of 4')")
    assert tab.page.evaluate(shown) == last


def test_escape_cancels_and_the_next_picture_is_whole(tab: Tab) -> None:
    tab.draw("a blue square left of a green star", steps=50)
    tab.page.wait_for_selector("#where:has-text('step')")
    tab.page.keyboard.press("Escape")
    tab.status("cancelled")
    assert tab.page.locator("#actions").is_hidden()
    tab.draw("a red circle", steps=2)
    tab.status("done in")
    tab.draw("a red circle", steps=50)
    tab.draw("a red circle", steps=3)  # takes the place of the one before
    tab.page.wait_for_selector("#where:has-text('step 3 of 3')")
    tab.status("done in")


def test_what_is_wrong_in_the_form_is_said(tab: Tab) -> None:
    for field, value, message in (
        ("#caption", " ", "Say what to draw"),
        ("#seed", "9223372036854775808", "Seed must be a whole number"),
        ("#seed", "-1", "Seed must be"),
        ("#steps", "0", "Steps must be a whole number from 1 to 50"),
        ("#steps", "2.5", "Steps must be"),
        ("#guidance", "", "Guidance must be a number from 0 to 100"),
    ):
        tab.page.fill("#caption", "a red circle")
        for name, usual in (("#seed", "7"), ("#steps", "2"), ("#guidance", "2")):
            tab.page.fill(name, usual)
        tab.page.fill(field, value)
        tab.page.keyboard.press("Enter") if field == "#caption" else tab.page.click("#go")
        tab.status(message)
        assert tab.page.evaluate("document.activeElement.id") == field[1:]


def test_an_example_is_drawn_with_a_new_seed_unless_it_is_kept(tab: Tab) -> None:
    seed = tab.page.input_value("#seed")
    tab.page.click("#examples button")
    tab.status("done in")
    tab.draw("a red circle", steps=1)
    tab.status("done in")
    other = tab.page.input_value("#seed")
    assert other != seed
    tab.page.click("#lock")
    tab.draw("a red circle", steps=1)
    tab.status("done in")
    assert tab.page.input_value("#seed") == other


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_nothing(browser: Any, page: Path, size: str, theme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra browser").Axe()
    width, height = SIZES[size]
    opened = Tab(browser, page.as_uri(), color_scheme=theme, viewport={"width": width, "height": height})
    assert all(opened.page.is_visible(field) for field in ("#caption", "#seed", "#steps", "#guidance"))
    for state in ("empty", "drawn"):
        if state == "drawn":
            opened.draw("a red circle")
            opened.status("done in")
            for summary in opened.page.locator("summary").all():
                summary.click()
        problems = axe.run(opened.page).response["violations"]
        assert [(problem["id"], problem["nodes"][0]["html"]) for problem in problems] == []
        assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert "Licensed under the Apache License" in opened.page.inner_text("#licenses")
    assert opened.complaints == []
    opened.context.close()


def test_a_site_draws_from_a_web_server_and_says_so_on_a_disk(browser: Any, tiny_model: Path, tmp_path: Path) -> None:
    folder = export_model(tiny_model, tmp_path / "site", to="site")
    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opened = Tab(browser, f"http://127.0.0.1:{server.server_port}/", offline=False)
        opened.draw("a red circle")
        opened.status("done in")
        assert opened.complaints == []
        opened.context.close()
        server.shutdown()
    context = browser.new_context()
    on_disk = context.new_page()
    on_disk.goto((folder / "index.html").as_uri())
    on_disk.wait_for_selector("#status:has-text('export with --to page')")
    context.close()


def test_the_page_cannot_reach_a_server(browser: Any, page: Path) -> None:
    opened = Tab(browser, page.as_uri(), offline=False)
    assert opened.page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
    assert re.search("Content Security Policy|Connecting to", "\n".join(opened.complaints))
    opened.context.close()
