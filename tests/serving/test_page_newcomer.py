"""What somebody meets who opens the page for the first time, on a desk and on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import SIZES
from tests.serving.conftest import Live, live, save
from tests.serving.test_page import Tab

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tiny_model: Path) -> Iterator[Live]:
    with live(tiny_model, max_batch=16) as server:
        yield server


def opened(browser: Any, served: Live, size: str) -> Tab:
    width, height = SIZES[size]
    return Tab(browser, served.url, viewport={"width": width, "height": height})


def top(tab: Tab, selector: str) -> float:
    return float(tab.page.locator(selector).bounding_box()["y"])


def test_before_the_first_picture_the_page_says_what_it_is(browser: Any, served: Live) -> None:
    tab = opened(browser, served, "desktop")
    assert "come out of static" in tab.page.inner_text("#intro")
    assert tab.page.locator("#bench figure:visible").count() == 1  # static, and nothing subtracted from it
    assert tab.page.locator("#bench .sign:visible").count() == 0
    settings = tab.page.locator("#settings label:has(input, select)")
    assert all(settings.nth(i).get_attribute("title") for i in range(4))
    tab.develop("a red circle")
    tab.page.wait_for_selector("#download:visible")
    assert tab.page.locator("#intro").is_hidden()
    assert tab.page.locator("#bench figure:visible").count() == 3
    tab.page.click("nav a[data-view=how]")
    tab.page.go_back()
    assert tab.complaints == []
    tab.context.close()


def test_the_noise_says_how_much_stronger_than_it_is_it_is_shown(browser: Any, served: Live) -> None:
    tab = opened(browser, served, "desktop")
    tab.develop("a red circle", steps=8)
    tab.page.wait_for_selector("#download:visible")
    sigma = float(tab.page.inner_text("#where").split()[-1])
    times = re.fullmatch(r"shown ([\d.]+) times as strong as it is", tab.page.inner_text("#noise-scale"))
    assert times is not None
    assert float(times[1]) == pytest.approx(0.5 * (1 + sigma**2) ** 0.5 / sigma, rel=0.06)
    tab.page.focus("#scrub")
    tab.page.keyboard.press("Home")  # nearly all is noise
    assert tab.page.inner_text("#noise-scale") == "what it takes away"
    assert tab.complaints == []
    tab.context.close()


def test_nine_seeds_are_a_square_of_nine(browser: Any, served: Live) -> None:
    tab = opened(browser, served, "desktop")
    tab.page.fill("#caption", "a red circle")
    tab.page.click("#seeds")
    tab.wait("document.querySelectorAll('#gallery li').length === 9")
    boxes = [tab.page.locator("#others button").nth(i).bounding_box() for i in range(9)]
    assert len({round(box["x"]) for box in boxes}) == 3
    assert len({round(box["y"]) for box in boxes}) == 3
    assert min(box["width"] for box in boxes) > 120
    assert top(tab, "#others") < top(tab, "#bench")
    assert tab.complaints == []
    tab.context.close()


def test_a_phone_shows_the_picture_before_the_settings_and_the_whole_equation(browser: Any, served: Live) -> None:
    tab = opened(browser, served, "phone")
    assert tab.page.locator("#settings").is_hidden()
    height = SIZES["phone"][1]
    assert top(tab, "#bench") < 0.6 * height
    tab.page.fill("#caption", "a red circle")
    tab.page.click("#go")
    tab.page.wait_for_selector("#download:visible")
    signs = [sign.inner_text() for sign in tab.page.locator("#bench .sign:visible").all()]
    assert signs == ["−", "="]
    assert top(tab, "#guess") < top(tab, ".noisy canvas")
    tab.page.click("#settings-toggle")
    assert tab.page.locator("#steps").is_visible()
    assert tab.page.get_attribute("#settings-toggle", "aria-expanded") == "true"
    assert tab.complaints == []
    tab.context.close()


def test_a_run_without_a_checkpoint_is_waited_for(browser: Any, run: Path, tiny_model: Path) -> None:
    with live(run) as server:
        page = browser.new_page(reduced_motion="reduce")
        page.goto(server.url)
        page.wait_for_selector("#status a[href='#training']")
        assert "has not saved a checkpoint" in page.inner_text("#status")
        assert page.is_disabled("#go")
        page.goto(f"{server.url}/#how/static")  # needs no model
        page.wait_for_selector("#static-seen:not(:empty)")
        page.evaluate("location.hash = '#how/layers'")
        page.wait_for_selector("#how-status:not(:empty)")
        assert "needs a model" in page.inner_text("#how-status")
        page.goto(f"{server.url}/#develop")
        save(run, tiny_model, 100)
        page.wait_for_selector("#go:not([disabled])", timeout=40_000)
        page.fill("#caption", "a red circle")
        page.click("#go")
        page.wait_for_selector("#download:visible", timeout=60_000)
        page.close()
