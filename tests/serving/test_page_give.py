"""A model is given away from the page, in a real browser: the form, its progress, what is wrong, and the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.conftest import SIZES
from tests.serving.conftest import live
from tests.serving.test_page import Tab

from tintype.export.target import is_page

pytestmark = pytest.mark.slow


def said(tab: Tab, text: str) -> None:
    tab.wait(f"document.querySelector('#give-status').textContent.includes('{text}')", 120)


def test_a_model_is_exported_and_saved(browser: Any, tiny_model: Path, tmp_path: Path) -> None:
    with live(tiny_model) as server:
        tab = Tab(browser, server.url)
        tab.page.wait_for_selector("#give:visible")
        tab.page.select_option("#give-as", "page")
        assert "opens from a disk" in tab.page.inner_text("#give-says")
        assert "no pictures, captions, paths, logs" in tab.page.inner_text("#give-says")
        assert tab.page.input_value("#give-name") == "tiny"
        tab.page.fill("#give-name", "Cats")
        tab.page.press("#give-name", "Enter")
        said(tab, "exporting")
        assert tab.page.is_visible("#give-progress")
        said(tab, "done")
        assert tab.page.inner_text("#give-file").startswith("Save Cats.html (")
        assert tab.page.evaluate("document.activeElement.id") == "give-file"
        with tab.page.expect_download() as download:
            tab.page.keyboard.press("Enter")
        download.value.save_as(tmp_path / "Cats.html")
        assert is_page(tmp_path / "Cats.html")
        tab.page.click("#give-go")
        said(tab, "exporting")
        tab.page.click("#give-cancel")
        said(tab, "cancelled")
        tab.wait("!document.querySelector('#give-go').disabled")
        assert tab.complaints == []
        tab.page.fill("#give-license", "ask me")
        tab.page.click("#give-go")
        said(tab, "License must be an SPDX identifier")
        assert tab.page.locator("#give-file").is_hidden()
        tab.context.close()


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_nothing(browser: Any, tiny_model: Path, size: str, theme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra browser").Axe()
    width, height = SIZES[size]
    with live(tiny_model) as server:
        tab = Tab(browser, server.url, color_scheme=theme, viewport={"width": width, "height": height})
        tab.page.wait_for_selector("#give:visible")
        tab.page.click("#give-go")
        said(tab, "exporting")
        for _ in range(2):  # while it is made, and then with its file
            problems = axe.run(tab.page).response["violations"]
            assert [(problem["id"], problem["nodes"][0]["html"]) for problem in problems] == []
            assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            said(tab, "done")
        assert tab.complaints == []
        tab.context.close()


def test_there_is_no_form_where_models_are_not_exported(browser: Any, tiny_model: Path) -> None:
    with live(tiny_model, allowed_hosts=("pictures.localhost",)) as server:
        tab = Tab(browser, server.url)
        tab.develop("a red circle", steps=2)
        tab.page.wait_for_selector("#download:visible")
        assert tab.page.locator("#give").is_hidden()
        tab.context.close()
