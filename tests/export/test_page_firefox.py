"""An exported page in Firefox, from a disk and without a network: the command line's picture, and no complaints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.export.firefox import Firefox, find_firefox, firefox

from tintype.export.forms import export_model
from tintype.pipeline.image_file import read_receipt
from tintype.pipeline.pipeline import Pipeline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_firefox() is None, reason="there is no Firefox on this machine"),
]
CAPTION = "東京 🍕: a red circle"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    with firefox(tmp_path_factory.mktemp("firefox")) as running:
        yield running


@pytest.fixture(scope="module")
def page(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model(tiny_model, tmp_path_factory.mktemp("page") / "tiny.html", to="page", precision="fp16")


def test_a_picture_is_that_of_the_command_line(started: Firefox, page: Path, tiny_model: Path) -> None:
    started.open(page.as_uri())
    assert started.run("return navigator.onLine") is False
    started.wait("!document.querySelector('#go').disabled")
    for field, value in (("caption", CAPTION), ("seed", "8000000000000000001"), ("steps", "5")):
        started.run(f"document.querySelector('#{field}').value = {json.dumps(value)};")
    started.run("document.querySelector('#go').click();")
    started.wait("document.querySelector('#status').textContent.startsWith('done in')")
    assert "this model cannot read" in started.run("return document.querySelector('#status').textContent")
    file = started.saved("#save")
    expected = Pipeline.load(tiny_model, "cpu").generate(CAPTION, seeds=8 * 10**18 + 1, steps=5)[0]
    assert np.abs(np.asarray(Image.open(file), int) - np.asarray(expected, int)).max() <= 1
    receipt = read_receipt(file)
    assert (receipt.caption, receipt.steps, receipt.engine) == (CAPTION, 5, "wasm")
    assert started.complaints(page.name) == []


def test_the_page_cannot_reach_a_server(started: Firefox, page: Path) -> None:
    started.open(page.as_uri())
    answer = started.send(
        "WebDriver:ExecuteAsyncScript",
        {"script": "fetch('http://127.0.0.1:9/').then(() => arguments[0]('sent'), () => arguments[0]('refused'))",
         "args": [], "sandbox": None},
    )  # fmt: skip
    assert answer == "refused"
    assert "Content-Security-Policy" in "".join(started.complaints(page.name))
