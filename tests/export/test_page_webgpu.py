"""The page on a graphics card: SwiftShader, which computes WebGPU on the processor, draws what WebAssembly draws."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.export.javascript import drawer, in_browser
from tests.export.test_page_browser import Tab
from tests.export.test_page_engine import CAPTIONS, VARIANTS, make_model

from tintype.export.forms import export_model
from tintype.pipeline.image_file import read_receipt

pytestmark = pytest.mark.slow

SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
ADAPTER = "navigator.gpu ? navigator.gpu.requestAdapter().then((adapter) => adapter !== null) : false"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium with WebGPU; whoever wants it is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra browser")
    chromium = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    empty = tmp_path_factory.mktemp("webgpu") / "empty.html"
    empty.write_text("<!doctype html><title>empty</title>")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", *SOFTWARE_GPU])
        page = launched.new_page()
        page.goto(empty.as_uri())
        if not page.evaluate(ADAPTER):
            pytest.skip("this Chromium has no WebGPU")
        page.close()
        yield Empty(launched, empty)
        launched.close()


class Empty:
    """A browser whose new pages show an empty file, since WebGPU is for pages with an address."""

    def __init__(self, browser: Any, file: Path) -> None:
        self.browser, self.file = browser, file

    def new_page(self) -> Any:
        page = self.browser.new_page()
        page.goto(self.file.as_uri())
        return page


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_graphics_card_computes_what_webassembly_computes(
    variant: str, browser: Empty, models: Path, few_steps: None
) -> None:
    folder = make_model(models / "random", *VARIANTS[variant])
    request = json.dumps({"caption": CAPTIONS[1], "seed": "5", "numSteps": 4, "guidance": 3})
    predictions = in_browser(browser)(
        f"""{drawer(folder)}
        const drawn = async () => (await all(model.draw({request}))).map((step) => Array.from(step.denoised));
        const wasm = await drawn();
        Object.assign(model, {{ gpu: await networkOnGpu(model), isGpuUsed: true }});
        const found = await drawn();
        if (model.engine !== "webgpu") throw new Error("the graphics card was not used");
        return [wasm, found];"""
    )
    wasm, found = np.array(predictions, np.float32)
    assert np.abs(wasm - found).max() < 1e-4 * max(1.0, np.abs(wasm).max())


def test_a_card_that_computes_other_numbers_is_refused(browser: Empty, tiny_model: Path, few_steps: None) -> None:
    message = in_browser(browser)(
        f"""{drawer(tiny_model)}
        const gpu = await networkOnGpu(model);
        gpu.heap.device.queue.writeBuffer(gpu.heap.weights, 0, new Float32Array(64).fill(0.5));
        try {{ await timesOf(model, gpu); }} catch (error) {{ return error.message; }}"""
    )
    assert "other numbers" in message


def test_the_page_draws_on_the_card_when_told_to_and_goes_on_without_it(
    browser: Empty, tiny_model: Path, tmp_path: Path
) -> None:
    page = export_model(tiny_model, tmp_path / "tiny.html", to="page", precision="fp16")
    tab = Tab(browser.browser, page.as_uri())
    tab.page.wait_for_selector("body[data-gpu=yes]", timeout=120_000)
    tab.page.select_option("#engine", "processor")
    tab.page.click("#lock")
    pictures = []
    for engine in ("wasm", "webgpu", "wasm"):
        if engine == "webgpu":
            tab.page.select_option("#engine", "card")
        if len(pictures) == 2:  # the card was chosen, and is lost
            tab.page.workers[0].evaluate("drawer.gpu.heap.close()")
        tab.page.evaluate("document.querySelector('#status').textContent = ''")
        tab.draw("a red circle", seed="3")
        tab.status("done in")
        file = tab.saved(tmp_path)
        assert read_receipt(file).engine == engine
        pictures.append(np.asarray(Image.open(file), int))
    assert "the graphics card failed" in tab.page.inner_text("#status")
    assert tab.page.locator("#engines").is_hidden()
    assert max(np.abs(one - pictures[0]).max() for one in pictures) <= 1
    assert tab.complaints == []
    tab.context.close()
