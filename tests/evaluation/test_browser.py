"""The report in a real browser: on a phone and a desk, dark and light, on paper, and with nothing that axe minds.

With TINTYPE_SCREENSHOTS=FOLDER and TINTYPE_SCREENSHOT_REPORT=report.html it also takes the pictures for docs/.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import SIZES

from tintype.evaluation.report.html import to_html
from tintype.evaluation.results import EvalResult, ReportData

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reports(evaluated: tuple[EvalResult, ReportData], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    pages = {"one": to_html([evaluated]), "two": to_html([evaluated, evaluated])}
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in pages}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["one", "two"])
def test_it_fits_asks_for_nothing_and_can_be_read(
    browser: Any, reports: dict[str, Path], name: str, size: str, scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    complaints, requests = list[str](), list[str]()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(reports[name].as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert all(url.startswith(("file:", "data:")) for url in requests)
    assert complaints == []
    violations = Axe().run(page).response["violations"]
    assert [(violation["id"], violation["nodes"][0]["html"][:80]) for violation in violations] == []
    context.close()


def test_it_prints(browser: Any, reports: dict[str, Path]) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(reports["one"].as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()


def test_pictures_for_the_documentation(browser: Any) -> None:
    folder, report = os.environ.get("TINTYPE_SCREENSHOTS"), os.environ.get("TINTYPE_SCREENSHOT_REPORT")
    if not folder or not report:
        pytest.skip("no TINTYPE_SCREENSHOTS and TINTYPE_SCREENSHOT_REPORT")
    for scheme, (width, height) in {"light": (1180, 1560), "dark": (390, 844)}.items():
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.goto(Path(report).resolve().as_uri())
        page.screenshot(path=Path(folder) / f"evaluate-{scheme}.png")
        page.close()
