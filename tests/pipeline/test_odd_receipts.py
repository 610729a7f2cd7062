"""Receipts that strangers wrote: any value in any entry ends in a plain error, or in a request."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from starlette.responses import JSONResponse
from tests.pipeline.test_receipt import RECEIPT

from tintype.cli.main import main
from tintype.cli.run.info import picture_lines
from tintype.config import Config, NetConfig
from tintype.errors import ConfigError, DataError, TintypeError
from tintype.pipeline.receipt import Receipt, options_of
from tintype.pipeline.request import make_request
from tintype.serving.api.images import read_receipt
from tintype.serving.api.job_state import receipt_json

FIELDS = [entry.name for entry in dataclasses.fields(Receipt)]
CONFIG = Config(net=NetConfig(resolution=32, patch=4, width=16, heads=1))
NESTED: list[Any] = []
for _ in range(50):
    NESTED = [NESTED]
ODD: list[Any] = [
    *(None, True, False, 0, -1, 7, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 10**400),
    *(0.5, -0.0, 1e-320, 1e308, math.nan, math.inf, -math.inf),
    *("", " ", "x", "x y", "1 2 3 x", "1 2", "0 0 0 0", "1e5 2 3 4", "-1 0 0 0", "9 9 9 9 9", "\u0661 \u0662 3 4"),
    *("nan 1 0", "inf 0", "2 1 0", "1 " * 2000, "9" * 5000, "9" * 5000 + " 1", "x" * 70_000, "a.b", "a. b", ". ."),
    *("\ud800", "\udfff 1", "a\0b", "\x1b[2J", "\u202e", "../../etc", "/", "C:\\x", "..", "shapes"),
    *([], {}, [[]], [1, 2, 3, 4], {"a": {"b": [None]}}, NESTED),
]


def text_of(name: str, value: object) -> str:
    return json.dumps({**json.loads(RECEIPT.to_json()), name: value})


@pytest.mark.parametrize("name", FIELDS)
def test_every_odd_value_is_a_request_or_a_plain_error(name: str) -> None:
    image = Image.new("RGB", (32, 32))
    for value in ODD:
        try:
            receipt = Receipt.from_json(text_of(name, value))
        except DataError:
            continue
        for entry in dataclasses.asdict(receipt).values():
            assert not isinstance(entry, float) or math.isfinite(entry)
        JSONResponse(receipt_json(receipt))  # the answer of /api/receipt
        with contextlib.suppress(ConfigError):
            options = options_of(receipt, image if receipt.init_image else None)
            make_request(CONFIG, receipt.caption, options)


def test_odd_outpaint_grid_and_sampler_are_named() -> None:
    for name, value, words in [
        ("outpaint", "1 2 3 x", "outpaint of this picture is not numbers"),
        ("grid", "1 x", "schedule of this picture is not numbers"),
        ("sampler", "my.sampler", "Python function my.sampler"),
    ]:
        with pytest.raises(ConfigError, match=words):
            options_of(Receipt.from_json(text_of(name, value)))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{}", "[" * 100_000, '{"format": NaN}', '{"format": 1' + "0" * 5000 + "}", '{"format": []}'],
)
def test_what_is_no_receipt(text: str) -> None:
    with pytest.raises(DataError):
        Receipt.from_json(text)


def test_redo_and_info_of_odd_receipts_end_in_one_plain_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = {"seed": 10**30, "guidance": math.nan, "outpaint": "x", "grid": "1 x", "width": 2**62, "steps": -1,
           "sampler": "x" * 900, "model": "", "guide": "..", "caption": NESTED}  # fmt: skip
    for name, value in {**odd, "model_hash": [], "negative": "x" * 40_000}.items():
        info = PngInfo()
        info.add_text("tintype", text_of(name, value))
        Image.new("RGB", (4, 4)).save("odd.png", pnginfo=info)
        assert main(["redo", "odd.png"]) in (1, 2), name
        message = capsys.readouterr().err
        assert message.count("\n") == 1, message
        assert "unexpected" not in message
        assert "Traceback" not in message
        receipt = read_receipt(Path("odd.png").read_bytes())
        try:
            picture_lines(Path("odd.png"))
        except TintypeError:
            assert receipt is None
        else:
            assert receipt is not None


def test_models_with_odd_names_are_not_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for value in (value for value in ODD if isinstance(value, str) and value != "shapes"):
        info = PngInfo()
        info.add_text("tintype", text_of("model", value))
        path = tmp_path / "odd.png"
        Image.new("RGB", (4, 4)).save(path, pnginfo=info)
        assert main(["redo", str(path)]) in (1, 2)
        message = capsys.readouterr().err
        assert "unexpected" not in message, (value, message)
        assert "Traceback" not in message
