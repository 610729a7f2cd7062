"""The page in a real browser, all it can do; nothing in the console, nothing that axe minds."""

from __future__ import annotations

import base64
import http.client
import io
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.conftest import SIZES
from tests.serving.conftest import Held, Live, held_pipeline, live, until
from torch import Tensor

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tiny_model: Path) -> Iterator[tuple[Live, Held]]:
    pipeline, denoiser = held_pipeline(tiny_model)
    with live(tiny_model, pipeline, max_batch=16) as server:
        yield server, denoiser


class Tab:
    """A page with everything it complained about."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.context = browser.new_context(reduced_motion="reduce", accept_downloads=True, **options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", self._failed)
        self.page.goto(url)
        self.wait("document.querySelector('#model').options.length > 0")

    def _failed(self, request: Any) -> None:
        if "/events" not in request.url:  # streams are closed by the page when they are over
            self.complaints.append(f"{request.url}: {request.failure}")

    def wait(self, condition: str, seconds: float = 60.0) -> None:
        """Until a JavaScript expression is true; Playwright's own way needs eval, which the page forbids."""
        for _ in range(int(seconds / 0.02)):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(f"{condition} did not come true")

    def status(self, text: str) -> None:
        self.wait(f"document.querySelector('#status').textContent.includes('{text}')")

    def develop(self, caption: str, steps: int = 6) -> None:
        self.page.fill("#caption", caption)
        if not self.page.locator("#settings").is_visible():  # folded on a phone
            self.page.click("#settings-toggle")
        self.page.fill("#steps", str(steps))
        self.page.click("#go")

    def pixels(self, selector: str) -> bytes:
        """What a canvas shows, as a PNG."""
        url: str = self.page.evaluate("s => document.querySelector(s).toDataURL()", selector)
        return base64.b64decode(url.partition(",")[2])

    def picture(self, selector: str) -> NDArray[np.uint8]:
        """What a canvas shows, [H, W, 3]."""
        return np.asarray(Image.open(io.BytesIO(self.pixels(selector))).convert("RGB"))


@pytest.fixture
def tab(browser: Any, served: tuple[Live, Held]) -> Iterator[Tab]:
    opened = Tab(browser, served[0].url)
    yield opened
    assert opened.complaints == []
    served[1].release()
    opened.context.close()


def test_steps_arrive_one_by_one_and_can_be_gone_back_to(tab: Tab, served: tuple[Live, Held]) -> None:
    _, denoiser = served
    denoiser.hold()
    tab.develop("a red circle", steps=6)
    denoiser.allow(2)
    tab.wait("document.querySelector('#where').textContent.startsWith('step 2 of 6')")
    early = tab.pixels("#guess")
    denoiser.release()
    tab.status("done")
    tab.page.wait_for_selector("#download:visible")
    assert tab.pixels("#guess") != early
    tab.page.focus("#scrub")
    for _ in range(4):
        tab.page.keyboard.press("ArrowLeft")
    assert "step 2 of 6" in tab.page.inner_text("#where")
    assert tab.pixels("#guess") == early
    assert tab.page.locator("#strip canvas").count() == 6
    with tab.page.expect_download() as download:
        tab.page.click("#film")
    assert re.fullmatch(r"a-red-circle-s\d+\.gif", download.value.suggested_filename)


def test_another_caption_from_a_step_in_the_middle(tab: Tab) -> None:
    tab.develop("a red circle", steps=6)
    tab.page.wait_for_selector("#download:visible")
    tab.page.locator("#strip canvas").nth(2).click()
    tab.page.fill("#caption", "a blue square")
    with tab.page.expect_request(lambda request: request.url.endswith("/api/jobs")) as sent:
        tab.page.click("#again")
    body = sent.value.post_data_json
    assert body["prompt"] == "a blue square"
    assert body["init_image"].startswith("data:image/png")
    assert 0.3 < body["strength"] < 0.9
    tab.wait("document.querySelectorAll('#gallery li').length === 2")


def test_escape_cancels(tab: Tab, served: tuple[Live, Held]) -> None:
    server, denoiser = served
    denoiser.hold()
    tab.develop("a red circle", steps=100)
    denoiser.allow(3)
    tab.wait("document.querySelector('#where').textContent.startsWith('step 3')")
    tab.page.keyboard.press("Escape")
    tab.status("cancelled")
    denoiser.allow(1)
    until(lambda: server.engine.num_running == 0)
    denoiser.release()
    tab.page.keyboard.press("Control+Enter")
    tab.page.wait_for_selector("#download:visible", timeout=60_000)


def test_a_painted_part_is_made_again_and_the_rest_stays(tab: Tab) -> None:
    tab.develop("a red circle")
    tab.page.wait_for_selector("#download:visible")
    before = tab.picture("#guess")
    tab.page.fill("#caption", "a blue square left of a green star")
    tab.page.click("#mask")
    tab.page.locator("#brush").fill("30")
    box = tab.page.locator("#paint").bounding_box()
    x, y, side = box["x"], box["y"], box["width"]
    tab.page.mouse.move(x + 0.1 * side, y + 0.1 * side)
    tab.page.mouse.down()
    tab.page.mouse.move(x + 0.3 * side, y + 0.3 * side, steps=4)
    tab.page.mouse.up()
    tab.page.click("#paint-go")
    tab.page.wait_for_selector("#download:visible")
    tab.wait("document.querySelectorAll('#gallery li').length === 2")
    changed = np.argwhere((before != tab.picture("#guess")).any(axis=2))
    assert len(changed) > 0
    assert changed.max() < 9  # only in the corner that was painted


def test_painting_with_the_keyboard(tab: Tab) -> None:
    tab.develop("a red circle")
    tab.page.wait_for_selector("#download:visible")
    tab.page.click("#mask")
    for key in ("ArrowLeft", "ArrowUp", "Space"):
        tab.page.keyboard.press(key)
    with tab.page.expect_request(lambda request: request.url.endswith("/api/jobs")) as sent:
        tab.page.click("#paint-go")
    assert sent.value.post_data_json["mask"].startswith("data:image/png")
    tab.wait("document.querySelectorAll('#gallery li').length === 2")


def test_a_picture_tells_its_settings_and_is_made_again(tab: Tab, tmp_path: Path) -> None:
    tab.develop("ein Haus am See", steps=5)
    tab.page.wait_for_selector("#download:visible")
    with tab.page.expect_download() as download:
        tab.page.click("#download")
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name.startswith("ein-haus-am-see-s")
    pixels = tab.pixels("#guess")
    tab.page.reload()
    tab.wait("document.querySelector('#model').options.length > 0")
    tab.page.set_input_files("#open", path)
    tab.wait("document.querySelector('#caption').value === 'ein Haus am See'")
    assert tab.page.input_value("#steps") == "5"
    tab.page.click("#go")
    tab.page.wait_for_selector("#download:visible")
    assert tab.pixels("#guess") == pixels
    tab.page.locator("#gallery button", has_text="Redo").first.click()
    tab.wait("document.querySelectorAll('#gallery li').length === 3")
    assert tab.pixels("#guess") == pixels


def test_a_picture_without_a_receipt_is_a_start(tab: Tab, tmp_path: Path) -> None:
    path = tmp_path / "mine.jpg"
    Image.effect_noise((90, 60), 60).convert("RGB").save(path)
    tab.page.set_input_files("#open", path)
    tab.page.wait_for_selector("#start:visible")
    with tab.page.expect_request(lambda request: request.url.endswith("/api/jobs")) as sent:
        tab.develop("a red circle")
    assert sent.value.post_data_json["strength"] == 0.6
    tab.page.wait_for_selector("#download:visible")
    tab.page.click("#start-clear")
    assert tab.page.locator("#start").is_hidden()


def test_a_picture_is_led_back_and_developed_under_another_caption(tab: Tab) -> None:
    tab.develop("a red circle")
    tab.page.wait_for_selector("#download:visible")
    tab.page.click("#recaption")
    tab.wait("document.querySelector('#shows').value === 'a red circle'")
    assert tab.page.evaluate("getSelection().toString()") == "a red circle"  # ready to be written over
    tab.page.keyboard.type("a green star")
    with tab.page.expect_request(lambda request: request.url.endswith("/api/jobs")) as sent:
        tab.page.keyboard.press("Enter")
    body = sent.value.post_data_json
    assert (body["prompt"], body["source_caption"]) == ("a green star", "a red circle")
    assert "strength" not in body
    tab.wait("document.querySelector('#where').textContent.startsWith('step 48 of 48')", 120)
    tab.page.wait_for_selector("#download:visible", timeout=120_000)
    assert "step 48 of 48" in tab.page.inner_text("#where")
    tab.page.locator("#scrub").fill("9")
    assert tab.page.inner_text("#where").startswith("inversion, step 10 of 48")
    tab.page.click("#start-clear")
    assert tab.page.locator("#start").is_hidden()


def test_nine_seeds_and_a_comparison_of_guidance(tab: Tab) -> None:
    tab.page.fill("#caption", "a red circle")
    tab.page.click("#seeds")
    tab.page.wait_for_selector("#download:visible")
    assert tab.page.locator("#others button").count() == 9
    first = tab.pixels("#guess")
    tab.page.locator("#others button").nth(4).click()
    assert tab.pixels("#guess") != first
    tab.page.click("#scales")
    tab.wait("document.querySelectorAll('#gallery li').length === 13")
    assert tab.page.locator("#others span").all_inner_texts() == [f"guidance {scale}" for scale in (1, 2, 4, 8)]


def test_markup_in_a_caption_is_only_text(tab: Tab) -> None:
    evil = '<img src=x onerror="document.title=1"><b>bold</b>'
    tab.develop(evil)
    tab.page.wait_for_selector("#download:visible")
    assert tab.page.inner_text("#gallery p") == evil
    assert tab.page.title() == "Tintype"


def test_a_refused_request_leaves_the_picture_on_display(tab: Tab) -> None:
    tab.develop("a red circle")
    tab.page.wait_for_selector("#download:visible")
    picture = tab.pixels("#guess")
    tab.page.evaluate("document.querySelector('#steps').value = 500")
    tab.page.click("#go")
    tab.status("Steps must be from 1 to 200 here")
    tab.page.evaluate("document.querySelector('#steps').value = 0")
    tab.page.click("#go")
    tab.status("Steps should be greater than or equal to 1")
    assert tab.pixels("#guess") == picture
    assert tab.page.locator("#download").is_visible()
    tab.page.wait_for_timeout(300)
    tab.complaints.clear()  # the browser itself notes the answer


def test_a_request_that_ends_before_its_first_step_leaves_the_picture_on_display(
    tab: Tab, served: tuple[Live, Held]
) -> None:
    _, denoiser = served
    tab.develop("a red circle")
    tab.page.wait_for_selector("#download:visible")
    picture = tab.pixels("#guess")

    def fail(x: Tensor, sigma: Tensor) -> Tensor:
        raise RuntimeError

    denoiser.fault = fail
    tab.develop("a blue square")
    tab.status("unexpected RuntimeError")
    denoiser.fault = None
    assert tab.pixels("#guess") == picture
    assert tab.page.locator("#download").is_visible()
    denoiser.hold()
    tab.develop("a blue square")
    tab.status("developing")
    assert tab.pixels("#guess") != picture
    tab.page.keyboard.press("Escape")
    tab.status("cancelled")
    assert tab.pixels("#guess") == picture
    assert tab.page.locator("#download").is_visible()
    denoiser.release()


def test_a_field_without_a_number_is_named_and_nothing_is_sent(tab: Tab) -> None:
    tab.page.focus("#steps")
    tab.page.keyboard.press("Control+a")
    tab.page.keyboard.type("--")
    tab.page.click("#go")
    tab.status("Steps must be a number")
    assert tab.page.evaluate("document.activeElement.id") == "steps"
    assert tab.page.locator("#examples").is_hidden() == (tab.page.locator("#examples button").count() == 0)


def test_a_server_that_starts_is_waited_for(tab: Tab) -> None:
    answers = []

    def refuse_once(route: Any) -> None:
        answers.append(route)
        if len(answers) > 1:
            return route.continue_()
        message = {"message": "the server is still warming up", "code": "server_is_overloaded", "param": None}
        return route.fulfill(status=503, headers={"Retry-After": "1"}, json={"error": message})

    tab.page.route("**/api/jobs", refuse_once)
    tab.develop("a red circle")
    tab.wait("document.querySelector('#toast').textContent.startsWith('The server is still warming up')")
    tab.page.wait_for_selector("#download:visible")
    assert len(answers) == 2
    assert [text for text in tab.complaints if "503" not in text] == []
    tab.complaints.clear()


def test_the_picture_on_display_is_the_one_that_is_saved(tab: Tab) -> None:
    tab.develop("a red circle")
    tab.page.wait_for_selector("#download:visible")
    tab.page.click("#recaption")
    tab.wait("document.querySelector('#shows').value === 'a red circle'")
    tab.page.fill("#caption", "a green star")
    tab.page.click("#go")
    tab.wait("document.querySelector('#where').textContent.startsWith('step 48 of 48')", 120)
    tab.wait("document.querySelectorAll('#gallery li').length === 2", 120)
    with tab.page.expect_download() as download:
        tab.page.click("#download")
    saved = np.asarray(Image.open(download.value.path()).convert("RGB"))
    assert np.array_equal(tab.picture("#guess")[..., :3], saved)


def test_a_seed_that_is_no_number_is_not_taken_for_zero(tab: Tab) -> None:
    tab.page.fill("#seed", "abc")
    tab.develop("a red circle")
    assert re.fullmatch(r"\d+", tab.page.input_value("#seed"))
    assert "whole number" in tab.page.inner_text("#toast")
    tab.page.wait_for_selector("#download:visible")


def test_what_goes_wrong_is_said(tab: Tab) -> None:
    tab.page.fill("#caption", "a")
    tab.page.evaluate("document.querySelector('#width').value = 17")
    tab.page.click("#go")
    tab.status("multiple of 4")
    assert [text for text in tab.complaints if "400" not in text] == []  # the browser itself notes the answer
    tab.complaints.clear()


@pytest.mark.parametrize("size", list(SIZES))
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_nothing_that_axe_minds_and_no_sideways_scrolling(
    size: str, scheme: str, browser: Any, served: tuple[Live, Held]
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra browser")
    width, height = SIZES[size]
    tab = Tab(browser, served[0].url, color_scheme=scheme, viewport={"width": width, "height": height})
    tab.develop("a red circle")
    tab.page.wait_for_selector("#download:visible")
    tab.page.click("details summary")
    violations = axe.Axe().run(tab.page).response["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in violations] == []
    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.complaints == []
    tab.context.close()


def test_with_a_key_the_browser_asks_for_it_once(browser: Any, tiny_model: Path) -> None:
    with live(tiny_model, api_keys=("a-long-key",)) as server:
        tab = Tab(browser, server.url, http_credentials={"username": "me", "password": "a-long-key"})
        tab.develop("a red circle")
        tab.page.wait_for_selector("#download:visible")
        assert [text for text in tab.complaints if "401" not in text] == []
        tab.context.close()


def test_the_page_says_when_its_script_does_not_run(browser: Any, served: tuple[Live, Held]) -> None:
    page = browser.new_page(reduced_motion="reduce")
    page.route("**/app.js", lambda route: route.fulfill(status=403, body="refused by a proxy"))
    page.goto(served[0].url)
    page.wait_for_selector("#broken:visible")
    assert "--allow-host NAME" in page.inner_text("#broken")
    page.unroute("**/app.js")
    page.reload()
    page.wait_for_selector("#model option", state="attached")
    assert page.locator("#broken").count() == 0
    page.close()


class Proxy:
    """A proxy as it comes: sends its own Host, removes the path /pics, and hands on everything else."""

    def __init__(self, port: int) -> None:
        target = port

        class Handler(BaseHTTPRequestHandler):
            def forward(self) -> None:
                if not self.path.startswith("/pics/"):
                    return self.send_error(404)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                connection = http.client.HTTPConnection("127.0.0.1", target, timeout=30)
                headers = {**dict(self.headers.items()), "Host": f"127.0.0.1:{target}", "Connection": "close"}
                connection.request(self.command, self.path.removeprefix("/pics"), body, headers)
                answer = connection.getresponse()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("connection", "transfer-encoding", "date"):
                        self.send_header(name, value)
                self.send_header("Connection", "close")
                self.end_headers()
                while piece := answer.read1():
                    self.wfile.write(piece)

            do_GET = do_POST = do_DELETE = forward

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def test_the_page_works_behind_a_proxy_that_sends_another_host_and_removes_a_path(
    browser: Any, tiny_model: Path
) -> None:
    with live(tiny_model, allowed_hosts=("pics.localhost",)) as server:
        proxy = Proxy(server.port)
        tab = Tab(browser, f"http://pics.localhost:{proxy.port}/pics/")
        tab.develop("a red circle")
        tab.page.wait_for_selector("#download:visible")
        with tab.page.expect_download() as download:
            tab.page.click("#film")
        assert download.value.failure() is None
        tab.page.click("nav a[data-view=how]")
        tab.page.click(".chapters a[href='#how/noise']")
        tab.wait("document.querySelector('#noise-seen').textContent.startsWith('Compare')")
        tab.page.click("#noise-reveal")
        tab.page.wait_for_selector("#noise-plot svg")
        assert tab.complaints == []
        tab.context.close()
        proxy.server.shutdown()
        proxy.server.server_close()
