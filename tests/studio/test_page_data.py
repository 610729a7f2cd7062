"""Pictures and captions on the page of a studio, in a real browser: drops, cut uploads, many captions at once."""

from __future__ import annotations

import hashlib
import random
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.serving.conftest import Live, live
from tests.serving.test_page import Tab
from tests.studio.conftest import CAPTIONS, TOKEN, picture
from tests.studio.cutting import CuttingProxy
from tests.studio.test_suggest import WORDS, write_captioner

from tintype.studio.dataset import DataSet
from tintype.studio.extension import StudioExtension
from tintype.studio.studio import Studio

pytestmark = pytest.mark.slow

CHUNK = 50_000
CELL = "#captions-grid [role=gridcell]:not([hidden])"


@pytest.fixture
def studio(studio_of: Callable[..., Studio]) -> Studio:
    return studio_of(chunk=CHUNK)


@pytest.fixture
def served(studio: Studio, tiny_model: Path) -> Iterator[Live]:
    with live(tiny_model, extension=StudioExtension(studio), max_chunk=CHUNK) as server:
        yield server


@pytest.fixture
def open_tab(browser: Any, served: Live) -> Iterator[Callable[..., Tab]]:
    """Opens the link of the studio, at another port if that is given."""
    opened: list[Tab] = []

    def open_at(port: int = 0) -> Tab:
        link = f"http://127.0.0.1:{port or served.port}/studio?token={TOKEN}"
        opened.append(Tab(browser, link, viewport={"width": 1280, "height": 900}))
        opened[-1].wait("document.querySelector('#studio-open').checkVisibility()")
        return opened[-1]

    yield open_at
    for tab in opened:
        assert tab.complaints == []
        tab.context.close()


def says(tab: Tab, selector: str, text: str, seconds: float = 60.0) -> None:
    tab.wait(f"document.querySelector({selector!r}).textContent.includes({text!r})", seconds)


def drop(tab: Tab, *paths: Path) -> None:
    """Drag files and folders of this machine into the page, as a file manager does."""
    session = tab.context.new_cdp_session(tab.page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 640, "y": 400, "data": data})
    session.detach()


def uploaded(studio: Studio, number: str) -> set[str]:
    folder = studio.dataset(number).uploaded
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in found if ".uploads" not in path.parts}


def test_pictures_a_folder_and_a_zip_are_dropped(
    open_tab: Callable[..., Tab], studio: Studio, root: Path, tmp_path: Path
) -> None:
    tab = open_tab()
    folder = root / "Pictures" / "squares"
    drop(tab, folder / "red.png", folder / "red.txt", folder / "blue.png")
    says(tab, "#verdict-line", "2 pictures can be used")
    assert uploaded(studio, "my-pictures") == {"red.png", "red.txt", "blue.png"}
    (folder / ".DS_Store").write_bytes(b"junk")
    (folder / "notes.pdf").write_bytes(b"%PDF")
    for number in range(150):  # a browser gives the names of a folder a hundred at a time
        (folder / "more" / f"{number}.txt").write_text("a yellow star")
    drop(tab, folder)
    says(tab, "#verdict-line", "4 pictures can be used")
    names = {f"squares/{color}.{suffix}" for color in CAPTIONS for suffix in ("png", "txt")}
    texts = {f"squares/more/{number}.txt" for number in range(150)}
    assert uploaded(studio, "squares") == names | texts | {"squares/more/yellow_star.png"}
    assert "1 file not sent" in tab.page.inner_text("#upload-left")
    path = tmp_path / "pack.zip"
    with zipfile.ZipFile(path, "w") as pack:
        for color in CAPTIONS:
            pack.write(folder / f"{color}.png", f"{color}.png")
    drop(tab, path)
    says(tab, "#verdict-line", "3 pictures can be used")
    assert uploaded(studio, "pack") == {"pack.zip"}


def test_an_upload_that_is_cut_twice_loses_nothing(
    open_tab: Callable[..., Tab], served: Live, studio: Studio, tmp_path: Path
) -> None:
    """Two million bytes in chunks: the connection is reset in the middle of a chunk at a third and at two thirds."""
    path = tmp_path / "large.zip"
    picture(tmp_path / "cat.png", "red")
    with zipfile.ZipFile(path, "w") as pack:
        pack.write(tmp_path / "cat.png", "cat.png")
        pack.writestr("noise.txt", random.Random(1).randbytes(2_000_000))
    with closing(CuttingProxy(served.port, (700_000, 1_400_000))) as proxy:
        tab = open_tab(proxy.port)
        tab.page.set_input_files("#studio-files", path)
        says(tab, "#verdict-line", "1 picture can be used")
        assert proxy.cuts == []
    arrived = studio.dataset("large").uploaded / "large.zip"
    assert hashlib.sha256(arrived.read_bytes()).digest() == hashlib.sha256(path.read_bytes()).digest()
    assert not list(arrived.parent.glob(".uploads/*"))
    assert all("ERR_" in text for text in tab.complaints)  # what the browser itself notes of the cuts
    tab.complaints.clear()


def captions_of(studio: Studio) -> dict[str, str]:
    dataset = studio.dataset("squares")
    with dataset.table.reading() as connection:
        return dict(connection.execute("select key, caption from pictures").fetchall())


@pytest.fixture
def captions(open_tab: Callable[..., Tab], dataset: DataSet) -> Tab:
    """The page with the captions of the squares."""
    tab = open_tab()
    tab.page.evaluate("location.hash = '#studio/captions'")
    says(tab, "#captions-target", "All 4 pictures shown")
    tab.page.click("#captions-many summary")
    return tab


def test_many_captions_are_changed_and_changed_back(captions: Tab, studio: Studio) -> None:
    before = captions_of(studio)
    page = captions.page
    page.fill("#captions-find", "square")
    page.fill("#captions-by", "box")
    says(captions, "#captions-preview", "3 captions: “a blue square” becomes “a blue box”")
    page.click("#captions-replace button")
    says(captions, "#captions-grid", "a blue box")
    assert sorted(captions_of(studio).values()) == ["", "a blue box", "a green box", "a red box"]
    page.locator(CELL).first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    says(captions, "#captions-target", "2 pictures selected")
    page.fill("#captions-words", "drawn by hand")
    page.click("#captions-add button")
    says(captions, "#captions-grid", "a blue box, drawn by hand")
    now = captions_of(studio)
    assert now["blue.png"] == "a blue box, drawn by hand"
    assert now["green.png"] == "a green box, drawn by hand"
    assert now["red.png"] == "a red box"
    page.locator(CELL).first.focus()
    page.keyboard.press("Control+z")
    says(captions, "#captions-undo", "Undo")
    captions.wait("!document.querySelector('#captions-grid').textContent.includes('by hand')")
    page.click("#captions-undo")
    captions.wait("document.querySelector('#captions-undo').disabled")
    assert captions_of(studio) == before
    page.keyboard.press("Control+y")
    says(captions, "#captions-grid", "a blue box")


def test_a_filter_stays_while_captions_are_written(captions: Tab, studio: Studio) -> None:
    """The overview that is asked for every few seconds makes no new list of captions that changed."""
    captions.page.click("#captions-filters button[data-filter=empty]")
    says(captions, "#captions-target", "All 1 picture shown")
    captions.page.focus(CELL)
    captions.page.keyboard.press("Enter")
    captions.page.keyboard.type("a yellow star")
    with captions.page.expect_response(lambda response: "/api/studio?" in response.url):
        captions.page.keyboard.press("Enter")
    captions.page.wait_for_timeout(300)
    pressed = "#captions-filters button[data-filter=empty]"
    assert captions.page.get_attribute(pressed, "aria-pressed") == "true"
    says(captions, "#captions-grid", "a yellow star")


def test_captions_are_downloaded_as_text_files(captions: Tab, studio: Studio) -> None:
    with captions.page.expect_download() as download:
        captions.page.click("#captions-files")
    with zipfile.ZipFile(download.value.path()) as archive:
        assert {name: archive.read(name).decode() for name in archive.namelist()} == {
            f"{color}.txt": f"{caption}\n" for color, caption in CAPTIONS.items()
        }


def test_a_model_suggests_captions(
    open_tab: Callable[..., Tab], studio: Studio, dataset: DataSet, tmp_path: Path
) -> None:
    studio.captioners["tiny-blip"] = write_captioner(tmp_path / "tiny-blip")
    tab = open_tab()
    tab.page.evaluate("location.hash = '#studio/captions'")
    says(tab, "#captions-target", "All 4 pictures shown")
    tab.page.click("#captions-many summary")
    tab.page.click("#captions-suggest button")
    tab.wait("document.querySelector('#captions-busy').checkVisibility()")
    tab.wait("!document.querySelector('#captions-busy').checkVisibility()", 120)
    suggested = captions_of(studio)["more/yellow_star.png"]
    assert suggested
    assert set(suggested.split()) <= set(WORDS)
    says(tab, "#captions-grid", suggested)
    tab.wait("document.querySelector('#captions-undo').title.includes('captions by tiny-blip')")
    tab.page.click("#captions-undo")
    says(tab, "#captions-grid", "no caption")


def test_without_a_model_there_is_no_button(captions: Tab) -> None:
    assert not captions.page.is_visible("#captions-suggest")
