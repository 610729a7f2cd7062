"""`tintype export --to page` and `--to site`: files that hold all they need, and nothing that they should not."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.export.javascript import Run

from tintype.cli.main import main
from tintype.export.description import describe
from tintype.export.forms import export_model
from tintype.export.options import ExportOptions
from tintype.export.page import WORKER, read_page_file
from tintype.export.payload import PART
from tintype.export.record import read_record
from tintype.export.target import is_page
from tintype.model import store
from tintype.pipeline.image_file import encode, read_receipt, read_texts
from tintype.pipeline.pipeline import Pipeline

ROOT = Path(__file__).parent.parent.parent
PARTS = re.compile(r'<script type="text/plain" class="part">([^<]*)</script>')
CAPTION = 'a "red" circle {seed} at 東京 🍕'


@pytest.fixture
def page(tiny_model: Path, tmp_path: Path, few_steps: None) -> Path:
    return export_model(tiny_model, tmp_path / "page.html", to="page", precision="fp16", name="Ein <b>Modell</b>")


def between(text: str, start: str, end: str) -> str:
    return text.partition(start)[2].partition(end)[0]


def unpacked(page: Path) -> str:
    """Statements that unpack the model of a page as its worker does."""
    content = page.read_text("utf-8")
    message = {
        "parts": PARTS.findall(content),
        "page": json.loads(between(content, '<script type="application/json" id="page">', "</script>")),
    }
    return f"await unpack({json.dumps(message)});"


def test_a_page_holds_the_whole_model_and_draws_it(page: Path, tiny_model: Path, javascript: Run) -> None:
    assert is_page(page)
    pipeline = Pipeline.load(tiny_model, "cpu")
    picture = np.asarray(pipeline.generate(CAPTION, seeds=9, steps=3, guidance=2.5)[0], int)
    request = json.dumps({"caption": CAPTION, "seed": "9", "numSteps": 3, "guidance": 2.5})
    pixels = javascript(
        f"{unpacked(page)} return Array.from(pixelsOf((await all(drawer.draw({request}))).at(-1).denoised));"
    )
    assert np.abs(np.array(pixels).reshape(16, 16, 4)[..., :3] - picture).max() <= 1


def test_a_saved_picture_carries_the_receipt_of_python(
    page: Path, tiny_model: Path, javascript: Run, tmp_path: Path
) -> None:
    pipeline = Pipeline.load(tiny_model, "cpu")
    pipeline.name = "Ein <b>Modell</b>"
    seed = 2**63 - 1
    request = pipeline.request(CAPTION, seeds=seed, steps=3, guidance=2.5)
    rows = np.arange(16 * 16 * 4).reshape(16, 16, 4) % 251
    asked = json.dumps({"caption": CAPTION, "seed": str(seed), "numSteps": 3, "guidance": 2.5})
    content = javascript(
        f"""{unpacked(page)} const pixels = Uint8ClampedArray.from({rows.flatten().tolist()});
        const png = await pngOf(pixels, 16, 16, receiptTexts(drawer.model, {{ ...{asked}, engine: "wasm" }}));
        return Array.from(new Uint8Array(await png.arrayBuffer()));"""
    )
    file = tmp_path / "saved.png"
    file.write_bytes(bytes(content))
    expected = dataclasses.replace(pipeline.receipts(request)[0], engine="wasm")  # its weights are halves already
    assert read_receipt(file) == expected
    assert read_texts(file)["parameters"] == expected.parameters()
    assert np.array_equal(np.asarray(Image.open(file)), rows[..., :3])


def test_nothing_can_be_fetched_or_sent(page: Path) -> None:
    content = page.read_text("utf-8")
    policy = dict(
        rule.split(" ", 1) for rule in between(content, 'Content-Security-Policy" content="', '"').split("; ")
    )
    script, style = between(content, "<script>", "</script>"), between(content, "<style>", "</style>")
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    assert policy == {
        "default-src": "'none'",
        "script-src": f"'sha256-{digests[0]}' 'wasm-unsafe-eval'",
        "style-src": f"'sha256-{digests[1]}'",
        "worker-src": "blob:",
        "img-src": "data:",
        "connect-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert not re.search(r"""(src|href)="?(https?:)?//""", content)
    assert " style=" not in content


def test_names_and_cards_of_strangers_are_text(tiny_model: Path, tmp_path: Path, few_steps: None) -> None:
    card = "# X\n\n<script>alert(1)</script> ![p](http://a/b.png) [l](javascript:alert)\n\n| a |\n| ---: |\n| 1 |\n"
    card += "\n## Use\n\nhf:OWNER/NAME\n\n## End\n\n<!-- unseen --></script>"
    name = 'A & "B" <img src=x>{script}'
    content = export_model(tiny_model, tmp_path / "x.html", to="page", name=name, card=card).read_text("utf-8")
    assert "<script>alert" not in content
    assert "&lt;script&gt;alert(1)" in content
    assert "<title>A &amp; &quot;B&quot; &lt;img src=x&gt;{script}</title>" in content
    for left_out in ("<img src=x", '<img src="http', 'href="javascript', "OWNER", "unseen", " style="):
        assert left_out not in content
    assert content.count("</script>") == content.count("<script")


def test_a_site_is_a_folder_with_the_packed_model_beside_the_page(
    tiny_model: Path, tmp_path: Path, few_steps: None
) -> None:
    assert main(["export", str(tiny_model), "--to", "site", "--out", str(tmp_path / "site"), "--license", "MIT"]) == 0
    files = {file.name for file in (tmp_path / "site").iterdir()}
    assert files == {"index.html", "model.bin", "tintype.json"}
    record = read_record(tmp_path / "site")
    assert record is not None
    assert (record.form, record.license) == ("site", "MIT")
    content = (tmp_path / "site" / "index.html").read_text("utf-8")
    assert "connect-src 'self'" in content
    assert "Its license is MIT." in content
    assert not PARTS.findall(content)


def test_captions_are_published_only_when_asked(page: Path, tiny_model: Path, tmp_path: Path, few_steps: None) -> None:
    def examples(file: Path) -> list[str]:
        text = between(file.read_text("utf-8"), '<script type="application/json" id="page">', "</script>")
        return list(json.loads(text)["examples"])

    shown = export_model(tiny_model, tmp_path / "shown.html", to="page", examples=["a </script> circle"])
    assert examples(page) == []
    assert examples(shown) == ["a </script> circle"]


def test_the_text_of_the_license_is_that_of_tintype() -> None:
    assert read_page_file("apache-2.0.txt") == (ROOT / "LICENSE").read_text("utf-8")


def test_scripts_hold_nothing_that_ends_them() -> None:
    for name in (*WORKER, "ui"):
        text = read_page_file(f"{name}.js")
        assert "</script" not in text
        assert "<!--" not in text


def test_a_damaged_page_says_so(page: Path, javascript: Run) -> None:
    damaged = unpacked(page).replace('"size": ', '"size": 1')
    assert "damaged" in javascript(f"try {{ {damaged} }} catch (error) {{ return error.message; }}")


def test_several_parts(javascript: Run) -> None:
    statements = f"""
    const content = Uint8Array.from({{ length: {3 * PART} }}, (_, i) => (i * 2654435761) >>> 24);
    const stream = new Blob([content]).stream().pipeThrough(new CompressionStream("gzip"));
    const packed = new Uint8Array(await new Response(stream).arrayBuffer());
    const parts = [[0, 1000], [1000, 5000], [5000, packed.length]].map(([a, b]) => () => packed.subarray(a, b));
    const shares = [];
    const out = await unzipped(parts, content.length, (share) => shares.push(share));
    return [out.every((value, i) => value === content[i]), shares.at(-1), shares.length > 1];"""
    assert javascript(statements) == [True, 1, True]


def test_a_receipt_says_how_weights_were_rounded(tmp_path: Path, tiny_model: Path, few_steps: None) -> None:
    exact = tmp_path / "exact"
    shutil.copytree(tiny_model, exact)
    weights = {name: weight.float() + 1e-5 for name, weight in load_file(exact / "model.safetensors").items()}
    save_file(weights, exact / "model.safetensors")
    for folder, precision, expected in (
        (tiny_model, "fp16", ""),
        (tiny_model, "int8", "int8"),
        (exact, "fp16", "fp16"),
        (exact, "fp32", ""),
    ):
        description, _ = describe(store.find(folder), ExportOptions(name="x", precision=precision))
        assert description["receipt"].get("precision", "") == expected
        assert (f"Precision: {precision}" in description["parameters"]) is (expected != "")


def test_redo_says_that_its_weights_are_not_rounded(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = Pipeline.load(tiny_model, "cpu")
    request = pipeline.request("a red circle", seeds=1, steps=2)
    receipt = dataclasses.replace(pipeline.receipts(request)[0], precision="int8", engine="webgpu")
    file = tmp_path / "drawn.png"
    file.write_bytes(encode(pipeline.generate("a red circle", seeds=1, steps=2)[0], receipt, ".png"))
    assert main(["redo", str(file), "--model", str(tiny_model), "--output", str(tmp_path / "again.png")]) == 0
    assert "a page drew the picture with weights rounded to int8, and here they are not" in capsys.readouterr().err
    assert read_receipt(tmp_path / "again.png").precision == ""
    assert main(["info", str(file)]) == 0
    said = capsys.readouterr().out
    assert "rounded to int8" in said
    assert "a page, with WebGPU" in said
