"""The captions of the studio in a real browser: 20,000 of them, edited with the keyboard, whatever the server does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import SIZES
from tests.serving.conftest import Live, live, until
from tests.serving.studio_stand_in import StandIn
from tests.serving.test_page import Tab

pytestmark = pytest.mark.slow

NUM = 20_000
CELL = "#captions-grid [role=gridcell]:not([hidden])"


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn(NUM)


@pytest.fixture
def served(tiny_model: Path, stand_in: StandIn) -> Iterator[Live]:
    with live(tiny_model, extension=stand_in) as server:
        yield server


@pytest.fixture
def tab(browser: Any, served: Live) -> Iterator[Tab]:
    opened = Tab(browser, f"{served.url}/#studio/captions")
    opened.wait("document.querySelector('#captions-grid p')?.textContent === 'no caption'")
    yield opened
    assert opened.complaints == []
    opened.context.close()


def current(tab: Tab) -> str:
    """The label of the cell or editor that has the focus."""
    label: str = tab.page.evaluate("document.activeElement.getAttribute('aria-label')")
    return label


def shows(tab: Tab, text: str) -> None:
    tab.wait(f"document.querySelector('#captions-grid').innerText.includes({text!r})")


def test_few_cells_exist_and_any_of_the_20000_can_be_reached(tab: Tab) -> None:
    assert tab.page.locator(CELL).count() < 100
    tab.page.focus(CELL)
    tab.page.keyboard.press("End")
    shows(tab, f"drawing {NUM - 1}")
    assert f"{NUM - 1:05}.png" in current(tab)
    assert tab.page.locator(CELL).count() < 150
    tab.page.keyboard.press("Home")
    shows(tab, "drawing 1")
    assert "00000.png" in current(tab)
    assert int(tab.page.get_attribute("#captions-grid", "aria-rowcount") or 0) > 1000


def test_captions_are_written_with_the_keyboard_alone(tab: Tab, stand_in: StandIn) -> None:
    press = tab.page.keyboard.press
    tab.page.focus(CELL)
    press("Enter")
    assert current(tab).startswith("Caption of")
    tab.page.keyboard.type("a  first caption ")
    press("Tab")
    press("Control+a")
    tab.page.keyboard.type("a second")
    press("Shift+Enter")
    tab.page.keyboard.type("and another of the same")
    press("Enter")
    until(lambda: stand_in.captions[1] == "a second\nand another of the same")
    assert stand_in.captions[0] == "a first caption"
    assert current(tab).startswith("00/00001.png: a second")
    press("ArrowRight")
    press("Enter")
    tab.page.keyboard.type(" nobody wants")
    press("Escape")
    assert current(tab).startswith("00/00002.png: a blue circle")
    assert stand_in.captions[2] == "a blue circle, drawing 2"
    tab.wait("document.querySelector('#captions-status').textContent === 'Saved'")
    press("Control+z")
    until(lambda: stand_in.captions[1] == "a green circle, drawing 1")
    shows(tab, "a green circle, drawing 1")


def test_a_list_stays_as_it_is_while_its_gaps_are_filled(tab: Tab, stand_in: StandIn) -> None:
    tab.page.click("#captions-filters button[data-filter=empty]")
    tab.wait("document.querySelector('#captions-target').textContent === 'All 200 pictures shown'")
    tab.page.focus(CELL)
    tab.page.keyboard.press("Enter")
    for number in range(30):
        tab.page.keyboard.type(f"number {number}")
        tab.page.keyboard.press("Tab")
        tab.wait("document.activeElement.tagName === 'TEXTAREA'")
    tab.page.keyboard.press("Escape")
    until(lambda: stand_in.captions[2900] == "number 29")
    assert [stand_in.captions[100 * number] for number in range(30)] == [f"number {number}" for number in range(30)]
    tab.wait("document.querySelector('#captions-filters').innerText.includes('No caption 170')")


def test_a_search_keeps_what_has_its_words_and_a_selection_is_counted(tab: Tab) -> None:
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("drawing 199")
    tab.wait("document.querySelector('#captions-target').textContent === 'All 110 pictures shown'")
    tab.page.keyboard.press("ArrowDown")
    tab.page.keyboard.press("Space")
    tab.page.keyboard.press("Shift+ArrowRight")
    tab.page.keyboard.press("Shift+ArrowRight")
    tab.wait("document.querySelector('#captions-target').textContent === '3 pictures selected'")
    assert tab.page.locator(f"{CELL}[aria-selected=true]").count() == 3
    tab.page.keyboard.press("Escape")
    tab.wait("document.querySelector('#captions-target').textContent === 'All 110 pictures shown'")


def test_a_caption_that_somebody_else_changed_meanwhile_is_not_overwritten(tab: Tab, stand_in: StandIn) -> None:
    stand_in.captions[0] = "written in another tab"
    tab.page.focus(CELL)
    tab.page.keyboard.press("Enter")
    tab.page.keyboard.type("mine")
    tab.page.keyboard.press("Enter")
    tab.wait("document.querySelector('#captions-status').textContent.includes('Another tab')")
    shows(tab, "written in another tab")
    assert stand_in.captions[0] == "written in another tab"
    assert [text for text in tab.complaints if "409" not in text] == []  # the browser itself notes the answer
    tab.complaints.clear()


def test_captions_that_cannot_be_saved_wait_until_they_can(tab: Tab, stand_in: StandIn) -> None:
    stand_in.down = True
    tab.page.focus(CELL)
    tab.page.keyboard.press("Enter")
    tab.page.keyboard.type("kept")
    tab.page.keyboard.press("Enter")
    tab.wait("document.querySelector('#captions-status').textContent.includes('1 caption not saved yet')")
    stand_in.down = False
    tab.wait("document.querySelector('#captions-status').textContent === 'Saved'")
    assert stand_in.captions[0] == "kept"
    assert [text for text in tab.complaints if "507" not in text] == []
    tab.complaints.clear()


@pytest.mark.parametrize("size", list(SIZES))
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_nothing_that_axe_minds_in_the_grid(size: str, scheme: str, browser: Any, served: Live) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra browser")
    width, height = SIZES[size]
    tab = Tab(
        browser, f"{served.url}/#studio/captions", color_scheme=scheme, viewport={"width": width, "height": height}
    )
    tab.wait("document.querySelector('#captions-grid p')?.textContent === 'no caption'")
    tab.page.click("#captions-many summary")
    tab.page.focus(CELL)
    tab.page.keyboard.press("Enter")
    violations = axe.Axe().run(tab.page).response["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in violations] == []
    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.complaints == []
    tab.context.close()


def test_without_a_studio_the_page_has_none(browser: Any, tiny_model: Path) -> None:
    with live(tiny_model) as server:
        tab = Tab(browser, f"{server.url}/#studio")
        assert tab.page.locator("#studio").count() == 0
        assert not tab.page.locator("#studio-tab").is_visible()
        assert tab.page.locator("#develop").is_visible()
        assert tab.complaints == []
        tab.context.close()
