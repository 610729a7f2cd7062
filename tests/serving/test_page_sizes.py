"""Sizes of pictures on the page: the model's own, those of a starting picture, and enlargements."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.serving.conftest import Live, live
from tests.serving.test_page import Tab

pytestmark = pytest.mark.slow

WIDE = (20, 12)  # the usual size of the training pictures


@pytest.fixture(scope="module")
def wide_server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("models") / "wide"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    config["sample"]["sizes"] = f"{WIDE[0]}x{WIDE[1]}"
    (folder / "config.json").write_text(json.dumps(config))
    with live(folder, max_batch=16) as server:
        yield server


@pytest.fixture
def tab(browser: Any, wide_server: Live) -> Iterator[Tab]:
    opened = Tab(browser, wide_server.url)
    yield opened
    assert opened.complaints == []
    opened.context.close()


def fields(tab: Tab) -> tuple[str, str, bool]:
    return tab.page.input_value("#width"), tab.page.input_value("#height"), tab.page.is_checked("#enlarge")


def sent(tab: Tab, click: str = "#go") -> dict[str, Any]:
    """What the page asks for; waits for the picture."""
    with tab.page.expect_request(lambda request: request.url.endswith("/api/jobs")) as request:
        tab.page.click(click)
    tab.status("done")
    tab.page.wait_for_selector("#download:visible")
    body: dict[str, Any] = request.value.post_data_json
    return body


def size_of(tab: Tab, selector: str) -> tuple[int, int]:
    height, width, _ = tab.picture(selector).shape
    return width, height


def saved_size(tab: Tab) -> tuple[int, int]:
    with tab.page.expect_download() as download:
        tab.page.click("#download")
    with Image.open(download.value.path()) as picture:
        return picture.size


def fill_size(tab: Tab, width: int, height: int) -> None:
    tab.page.evaluate("document.querySelector('details').open = true")
    tab.page.fill("#width", str(width))
    tab.page.fill("#height", str(height))


def test_pictures_have_the_usual_size_of_the_training_pictures(tab: Tab) -> None:
    assert fields(tab) == ("20", "12", False)
    width, height = size_of(tab, "#guess")
    assert width / height == pytest.approx(20 / 12, rel=0.1)  # of the noise, too
    tab.page.fill("#caption", "a red circle")
    sent(tab)
    assert size_of(tab, "#guess") == WIDE
    assert size_of(tab, "#strip canvas") == WIDE
    assert saved_size(tab) == WIDE


def test_a_starting_picture_keeps_its_shape(tab: Tab, tmp_path: Path) -> None:
    Image.effect_noise((60, 100), 60).convert("RGB").save(tmp_path / "tall.png")
    tab.page.set_input_files("#open", tmp_path / "tall.png")
    tab.page.wait_for_selector("#start:visible")
    assert fields(tab) == ("", "", False)
    assert size_of(tab, "#start-picture") == (60, 100)
    box = tab.page.locator("#start-picture").bounding_box()
    assert box["height"] / box["width"] == pytest.approx(100 / 60, rel=0.05)
    body = sent(tab)
    assert not {"width", "height", "enlarge"} & {name for name, value in body.items() if value is not None}
    assert size_of(tab, "#guess") == (12, 20)
    assert "cut off" not in tab.page.inner_text("#status")
    tab.page.click("#start-clear")
    assert fields(tab) == ("20", "12", False)


def test_a_large_size_is_enlarged_unless_one_prefers_otherwise(tab: Tab) -> None:
    fill_size(tab, 32, 32)
    assert not tab.page.is_checked("#enlarge")
    fill_size(tab, 100, 61)
    assert tab.page.is_checked("#enlarge")
    tab.page.fill("#caption", "a red circle")
    body = sent(tab)
    assert (body["width"], body["height"], body["enlarge"]) == (100, 61, True)
    tab.status("enlarged to 100 × 61")
    assert size_of(tab, "#guess") == WIDE
    assert saved_size(tab) == (100, 61)
    tab.page.locator("#strip canvas").nth(2).click()
    body = sent(tab, "#again")
    assert (body["width"], body["height"], body["enlarge"]) == (100, 61, True)
    assert saved_size(tab) == (100, 61)
    fill_size(tab, 64, 40)
    tab.page.uncheck("#enlarge")
    assert sent(tab)["enlarge"] is None
    assert saved_size(tab) == (64, 40)
    assert "more than 2 times" in tab.page.inner_text("#status")


def test_the_settings_of_an_enlarged_picture_are_used_again(tab: Tab) -> None:
    fill_size(tab, 100, 60)
    tab.page.fill("#caption", "a red circle")
    sent(tab)
    fill_size(tab, 16, 16)
    tab.page.locator("#gallery button", has_text="Use").first.click()
    assert fields(tab) == ("100", "60", True)
    tab.page.click("#recaption")
    tab.wait("document.querySelector('#shows').value === 'a red circle'")
    assert fields(tab) == ("100", "60", True)


def test_a_painted_part_of_an_enlarged_picture(tab: Tab) -> None:
    fill_size(tab, 100, 60)
    tab.page.fill("#caption", "a red circle")
    sent(tab)
    tab.page.click("#mask")
    outer, inner = (tab.page.locator(name).bounding_box() for name in ("#guess", "#paint"))
    assert [inner[key] for key in inner] == pytest.approx([outer[key] for key in inner], abs=1)
    tab.page.click("#paint")
    body = sent(tab, "#paint-go")
    assert (body["width"], body["height"], body["enlarge"]) == (100, 60, True)
    assert saved_size(tab) == (100, 60)


def test_enlarging_without_a_size_is_refused_by_name(tab: Tab) -> None:
    fill_size(tab, 32, 32)
    tab.page.fill("#width", "")
    tab.page.fill("#height", "")
    tab.page.check("#enlarge")
    tab.page.click("#go")
    tab.status("Enlarge needs a width or a height")
    assert [text for text in tab.complaints if "400" not in text] == []
    tab.complaints.clear()


def test_a_narrow_picture_fits_into_the_window(tab: Tab) -> None:
    fill_size(tab, 8, 32)
    tab.page.fill("#caption", "a red circle")
    sent(tab)
    box = tab.page.locator("#guess").bounding_box()
    assert box["height"] / box["width"] == pytest.approx(4, rel=0.02)
    assert box["height"] <= tab.page.viewport_size["height"]


def test_how_it_works_keeps_the_shape_of_a_picture(tab: Tab, tmp_path: Path) -> None:
    Image.new("RGB", (100, 60), "orange").save(tmp_path / "wide.png")
    tab.page.click("nav a[data-view=how]")
    tab.wait("document.querySelector('#static-seen').textContent")
    tab.page.set_input_files("#how-open", tmp_path / "wide.png")
    tab.wait("document.querySelector('#static-source').textContent === 'yours'")
    assert size_of(tab, "#static-noisy") == WIDE
