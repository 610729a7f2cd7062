"""`tintype import`: a model comes back as it was, and nothing of a strange file does."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.export.javascript import Run
from tests.export.test_page import unpacked

from tintype.cli.main import main
from tintype.cli.run.info import info
from tintype.errors import CheckpointError, ConfigError, TintypeWarning
from tintype.export.description import describe
from tintype.export.forms import export_model
from tintype.export.importing import import_model as importing
from tintype.export.importing.import_model import import_model
from tintype.export.importing.packed import read_packed
from tintype.export.options import ExportOptions
from tintype.export.page import with_head
from tintype.export.payload import text_parts
from tintype.export.record import read_record
from tintype.export.target import GENERATOR
from tintype.model import hub, store
from tintype.pipeline.pipeline import Pipeline

CAPTION = "a red circle"
Page = Callable[..., Path]


def picture(model: Path) -> np.ndarray[Any, Any]:
    return np.asarray(Pipeline.load(model, "cpu").generate(CAPTION, seeds=9, steps=3, guidance=2.5)[0], int)


def drawn(page: Path, javascript: Run) -> np.ndarray[Any, Any]:
    """The picture that the page itself draws."""
    request = json.dumps({"caption": CAPTION, "seed": "9", "numSteps": 3, "guidance": 2.5})
    pixels = javascript(
        f"{unpacked(page)} return Array.from(pixelsOf((await all(drawer.draw({request}))).at(-1).denoised));"
    )
    return np.array(pixels).reshape(16, 16, 4)[..., :3]


@pytest.mark.filterwarnings("ignore:its weights were rounded")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.slow
def test_an_imported_page_draws_what_the_page_draws(
    precision: str, tiny_model: Path, tmp_path: Path, javascript: Run, few_steps: None
) -> None:
    page = export_model(tiny_model, tmp_path / "tiny.html", to="page", precision=precision, license="CC-BY-4.0")
    model = import_model(page, tmp_path / "model")
    assert np.abs(drawn(page, javascript) - picture(model)).max() <= 1
    record = read_record(model)
    assert record is not None
    assert (record.form, record.name, record.license) == ("folder", "tiny", "CC-BY-4.0")
    assert store.verify(store.find(model)) == ["config.json", "model.safetensors", "tokenizer.json"]
    if precision != "int8":  # of a model that is stored in half precision
        original, found = (store.read_weights(store.find(folder)) for folder in (tiny_model, model))
        assert all(torch.equal(original[name], weight) for name, weight in found.items())
        assert original.keys() == found.keys()


def test_weights_of_int8_are_those_of_the_page_and_a_warning_says_so(
    tiny_model: Path, tmp_path: Path, few_steps: None
) -> None:
    page = export_model(tiny_model, tmp_path / "tiny.html", to="page")
    with pytest.warns(TintypeWarning, match="rounded to int8"):
        model = import_model(page, tmp_path / "model")
    original, found = (store.read_weights(store.find(folder)) for folder in (tiny_model, model))
    name = "net.blocks.0.feed.gate.weight"
    scale = original[name].abs().amax(dim=1, keepdim=True) / 90
    assert 0 < ((original[name] - found[name]).abs() / scale).max() <= 0.5001


def test_a_site_and_its_page_are_the_same_model(tiny_model: Path, tmp_path: Path, few_steps: None) -> None:
    for form, out in (("page", "tiny.html"), ("site", "site")):
        export_model(tiny_model, tmp_path / out, to=form, precision="fp16", examples=[CAPTION])
        import_model(tmp_path / out, tmp_path / f"of-{form}")
    weights = [(tmp_path / f"of-{form}" / "model.safetensors").read_bytes() for form in ("page", "site")]
    assert weights[0] == weights[1]
    assert (tmp_path / "of-site" / "samples" / "captions.txt").read_text() == f"{CAPTION}\n"


def test_an_exported_folder_comes_back_byte_by_byte(tiny_model: Path, tmp_path: Path) -> None:
    folder = export_model(tiny_model, tmp_path / "folder", license="MIT")
    (folder / "model_index.json").write_text('{"_class_name": ["pipeline", "TintypePipeline"]}')
    (folder / "pipeline.py").write_text("raise SystemExit('it ran')")  # what diffusers would run
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04it ran")
    model = import_model(folder, tmp_path / "model")
    for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md"):
        assert (model / name).read_bytes() == (folder / name).read_bytes()
    assert not {"pipeline.py", "model_index.json", "pytorch_model.bin"} & {file.name for file in model.iterdir()}
    assert np.array_equal(picture(model), picture(folder))
    record = read_record(model)
    assert record is not None
    assert record.license == "MIT"


def test_an_export_for_diffusers_is_a_model_folder(tiny_model: Path, tmp_path: Path) -> None:
    exported = export_model(tiny_model, tmp_path / "diffusers", to="diffusers")
    model = import_model(exported, tmp_path / "model")
    assert (model / "model.safetensors").read_bytes() == (exported / "model.safetensors").read_bytes()
    assert not [file for file in model.rglob("*") if file.suffix == ".py"]
    assert np.array_equal(picture(model), picture(exported))


def test_a_page_of_halves_has_the_matrices_of_the_folder(tiny_model: Path, tmp_path: Path, few_steps: None) -> None:
    page = export_model(tiny_model, tmp_path / "tiny.html", to="page", precision="fp16")
    folder = export_model(tiny_model, tmp_path / "folder")
    of_page, of_folder = (load_file(import_model(path, tmp_path / f"of-{path.name}") / "model.safetensors")
                          for path in (page, folder))  # fmt: skip
    assert all(torch.equal(weight.float(), of_page[name].float()) for name, weight in of_folder.items())
    assert of_page["net.blocks.0.feed.gate.weight"].dtype == torch.float16


def test_a_model_of_the_hub_lies_behind_links(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "abc", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    shutil.copytree(tiny_model, blobs)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(file)
    monkeypatch.setattr(hub, "fetched", lambda name: snapshot)
    model = import_model("hf:ann/tiny", tmp_path / "model")
    assert not any(file.is_symlink() for file in model.iterdir())
    assert np.array_equal(picture(model), picture(tiny_model))
    with pytest.raises(CheckpointError, match="leads out of its folder"):
        import_model(snapshot, tmp_path / "again")


def test_the_command_says_the_license_and_the_path(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], few_steps: None
) -> None:
    page, out = tmp_path / "tiny.html", tmp_path / "model"
    export_model(tiny_model, page, to="page", precision="fp16", license="CC-BY-4.0")
    assert main(["import", str(page), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}\n"
    assert said.err == "license: CC-BY-4.0\n"
    assert main(["import", str(page), "--out", str(out)]) == 1
    assert "is an earlier export; add --overwrite" in capsys.readouterr().err
    assert main(["import", str(page), "--out", str(out), "--overwrite"]) == 0
    assert main(["generate", CAPTION, "--model", str(out), "--out", str(tmp_path / "a.png"), "--steps", "1"]) == 0


def test_a_page_and_a_site_are_described(tiny_model: Path, tmp_path: Path, few_steps: None) -> None:
    sha256 = store.weights_hash(store.find(tiny_model))
    for form, out in (("page", "tiny.html"), ("site", "site")):
        export_model(tiny_model, tmp_path / out, to=form, license="MIT", name="Tiny")
        lines = "\n".join(info(str(tmp_path / out)))
        for part in (f"exported as {form}", "Tiny", "MIT", "int8", "16x16", sha256, "Tintype 0.1.0", "tintype import"):
            assert part in lines
    assert main(["info", "--verify", str(tmp_path / "tiny.html")]) == 1


# --- Strange files ---------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[Path, str], str]:
    """Import something that must be refused: in one line, with nothing left and little memory taken."""
    out = tmp_path / "places" / "out"
    out.parent.mkdir()

    def check(source: Path, reason: str) -> str:
        tracemalloc.start()
        try:
            with pytest.raises((CheckpointError, ConfigError), match=reason) as raised:
                import_model(source, out)
            assert tracemalloc.get_traced_memory()[1] < 48 * 2**20  # with the modules that a first import brings
        finally:
            tracemalloc.stop()
        message = str(raised.value)
        assert "\n" not in message
        assert message.isprintable()
        assert len(message) < 600
        assert list(out.parent.iterdir()) == []
        return message

    return check


Packed = tuple[dict[str, Any], bytes]  # a description and the entries behind it


@pytest.fixture(scope="module")
def packed_as(tiny_model: Path) -> dict[str, Packed]:
    """The tiny model as a page has it, by precision."""
    packed = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tintype.export.plans.MAX_STEPS", 4)
        for precision in ("fp32", "fp16", "int8"):
            description, payload = describe(store.find(tiny_model), ExportOptions(name="tiny", precision=precision))
            packed[precision] = description, payload.content()
    return packed


@pytest.fixture
def page_of(packed_as: dict[str, Packed], tmp_path: Path) -> Page:
    """Makes a page with a changed description, head or payload."""
    description, entries = packed_as["fp16"]

    def make(
        change: Callable[[dict[str, Any]], Any] = lambda described: None,
        *,
        head: bytes | None = None,
        content: Callable[[bytes], bytes] = lambda content: content,
        packed: Callable[[bytes], bytes] = lambda packed: packed,
    ) -> Path:
        described = json.loads(json.dumps(description))
        change(described)
        whole = (with_head(described) if head is None else head) + content(entries)
        return write(tmp_path / "strange.html", packed(gzip.compress(whole)))

    return make


def write(path: Path, packed: bytes) -> Path:
    parts = "".join(f'<script type="text/plain" class="part">{part}</script>' for part in text_parts(packed))
    path.write_text(f'<!doctype html>{GENERATOR} 1">{parts}', "utf-8")
    return path


def test_the_page_of_these_tests_is_taken_if_nothing_is_changed(page_of: Page, tmp_path: Path) -> None:
    assert import_model(page_of(), tmp_path / "model").is_dir()


def entry(name: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda described: described["payload"][name].update(values)


def setting(section: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda described: described["config"][section].update(values)


WEIGHT = "net.blocks.0.feed.gate.weight"
LIES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another shape": (entry(WEIGHT, shape=[1, 1]), "does not fit its configuration"),
    "transposed": (lambda d: d["payload"][WEIGHT]["shape"].reverse(), "does not fit its configuration"),
    "a text": (entry(WEIGHT, kind="text"), "does not fit its configuration"),
    "another kind": (entry(WEIGHT, kind="pickle"), "is damaged"),
    "wider numbers": (entry(WEIGHT, kind="f32", at=2**30), "is damaged"),
    "behind the end": (entry(WEIGHT, at=2**32), "is damaged"),
    "before the start": (entry(WEIGHT, at=-4), "is damaged"),
    "at an odd place": (entry(WEIGHT, at=2), "is damaged"),
    "a fraction": (entry(WEIGHT, at=4.0), "is damaged"),
    "true": (entry(WEIGHT, shape=[True, 4]), "is damaged"),
    "a huge side": (entry(WEIGHT, shape=[2**62, 2**62]), "is damaged"),
    "many sides": (entry(WEIGHT, shape=[1] * 100), "is damaged"),
    "int8 without scales": (entry(WEIGHT, kind="i8"), "is damaged"),
    "no weights": (lambda d: d.update(payload={}), "is damaged"),
    "a list of weights": (lambda d: d.update(payload=[]), "is damaged"),
    "many weights": (lambda d: d.update(payload={str(i): {} for i in range(2**16 + 1)}), "is damaged"),
    "a weight less": (lambda d: d["payload"].pop(WEIGHT), "does not fit its configuration"),
    "another size": (lambda d: d.update(unpacked=d["unpacked"] + 4), "is damaged"),
    "a size that is none": (lambda d: d.update(unpacked="1"), "is damaged"),
    "no configuration": (lambda d: d.pop("config"), "config"),
    "a configuration of text": (lambda d: d.update(config="x"), "strange.html: "),
    "an unknown setting": (setting("net", command="rm"), "command"),
    "a wider network": (setting("net", width=4096), "does not fit its configuration"),
    "a deeper network": (setting("net", depth=200), "does not fit its configuration"),
    "an impossible network": (setting("net", depth=10**9), "depth"),
    "a network that is no number": (setting("net", width="1e999"), "width"),
    "another encoder": (setting("text", encoder="hf:/etc"), "must be learned or minilm"),
    "a name of two lines": (lambda d: d.update(name="a" * 97), "name must be"),
    "a license of markup": (lambda d: d.update(license="<b>"), "license must be"),
    "no tokenizer": (lambda d: d.update(tokenizer=None), "tokenizer.json cannot be read"),
    "a tokenizer that pads": (lambda d: d["tokenizer"].update(padding={"strategy": {"Fixed": 2**40}}), "tokenizer"),
    "a tokenizer of patterns": (lambda d: d["tokenizer"].update(normalizer={"type": "Replace"}), "tokenizer"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_head_that_lies_is_refused(lie: str, page_of: Page, refused: Callable[[Path, str], str]) -> None:
    change, reason = LIES[lie]
    refused(page_of(change), reason)


@pytest.mark.parametrize(
    ("head", "reason"),
    [(b"", "damaged"), (struct.pack("<I", 2**32 - 1), "damaged"), (struct.pack("<I", 2**25 + 4), "damaged"),
     (struct.pack("<I", 0), "damaged"), (struct.pack("<I", 3) + b"{} ", "damaged"),
     (struct.pack("<I", 8) + b"[1,2,3] ", "damaged"), (struct.pack("<I", 4) + b"\xff\xff\xff\xff", "damaged"),
     (struct.pack("<I", 4) + b"NaN ", "damaged"), (struct.pack("<I", 200_000) + b"[" * 200_000, "damaged"),
     (struct.pack("<I", 200_012) + b'{"a":' * 40_000 + b" " * 12, "damaged")],
    ids=str,
)  # fmt: skip
def test_a_head_that_is_none_is_refused(
    head: bytes, reason: str, page_of: Page, refused: Callable[[Path, str], str]
) -> None:
    refused(page_of(head=head), reason)


def test_a_head_that_promises_a_tebibyte_takes_none_of_it(page_of: Page, refused: Callable[[Path, str], str]) -> None:
    def promise(described: dict[str, Any]) -> None:
        described["payload"]["more"] = {"kind": "f32", "shape": [2**38 - described["unpacked"] // 4], "at": 0}
        described["payload"]["more"]["at"] = described["unpacked"]
        described["unpacked"] = 2**40

    refused(page_of(promise), "would grow to 1,048,576.0 MiB")


def test_gzip_that_grows_without_end_is_not_unpacked(page_of: Page, refused: Callable[[Path, str], str]) -> None:
    bomb = zlib.compressobj(1, zlib.DEFLATED, 31)
    whole = b"".join(bomb.compress(bytes(2**20)) for _ in range(128)) + bomb.flush()
    assert len(whole) < 2**20
    refused(page_of(packed=lambda packed: whole), "damaged")  # 128 MiB of zeros
    refused(page_of(content=lambda content: content + bytes(48 * 2**20)), "damaged")  # behind a whole model


@pytest.mark.parametrize(
    "change",
    [lambda packed: packed[:-1], lambda packed: packed[: len(packed) // 2], lambda packed: packed[:3],
     lambda packed: packed[:-8] + b"\0\0\0\0" + packed[-4:], lambda packed: packed + packed,
     lambda packed: packed + b"more", lambda packed: packed[:40] + b"\xff" * 40 + packed[80:],
     lambda packed: zlib.compress(gzip.decompress(packed)), lambda packed: b"PK\3\4" + packed,
     lambda packed: b"\x28\xb5\x2f\xfd" + packed, gzip.compress],
    ids=["a byte less", "half", "three bytes", "another sum", "twice", "more", "other bytes", "zlib", "zip", "zstd",
         "gzip twice"],
)  # fmt: skip
def test_packed_bytes_that_are_not_those_of_a_model(
    change: Callable[[bytes], bytes], page_of: Page, refused: Callable[[Path, str], str]
) -> None:
    refused(page_of(packed=change), "damaged")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_values_that_are_no_numbers(
    value: float, precision: str, packed_as: dict[str, Packed], tmp_path: Path, refused: Callable[[Path, str], str]
) -> None:
    description, entries = packed_as[precision]
    content = bytearray(entries)
    name = f"{WEIGHT}.scales" if precision == "int8" else WEIGHT
    at, num = description["payload"][name]["at"], int(np.prod(description["payload"][name]["shape"]))
    if precision == "fp16":  # the lower bytes of all numbers, then the higher ones
        content[at], content[at + num] = np.array([value], "<f2").tobytes()
    else:
        content[at : at + 4] = np.array([value], "<f4").tobytes()
    page = write(tmp_path / "strange.html", gzip.compress(with_head(description) + bytes(content)))
    refused(page, f"{WEIGHT} has values that are no numbers")


@pytest.mark.parametrize("sign", ["\u0280", "\uffff", "\x80", "\U0001f355"])
def test_signs_that_no_page_has(sign: str, page_of: Page, refused: Callable[[Path, str], str]) -> None:
    page = page_of()
    text = page.read_text("utf-8")
    place = text.index('class="part">') + 100
    page.write_text(text[:place] + sign + text[place + 1 :], "utf-8")
    refused(page, "damaged")
    page.write_bytes(page.read_bytes().replace(sign.encode(), b"\xff\xfe"))
    refused(page, "damaged")


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
def test_other_ends_of_lines_are_read_as_browsers_read_them(end: bytes, page_of: Page, tmp_path: Path) -> None:
    page = page_of()
    models = [import_model(page, tmp_path / "first")]
    page.write_bytes(page.read_bytes().replace(b"\n", end))
    models.append(import_model(page, tmp_path / "second"))
    weights = [(model / "model.safetensors").read_bytes() for model in models]
    assert weights[0] == weights[1]


def test_a_page_without_its_model_is_refused(page_of: Page, refused: Callable[[Path, str], str]) -> None:
    page = page_of()
    page.write_text(page.read_text("utf-8").partition("<script")[0])
    assert "save the file itself" in refused(page, "without its model")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [("a.zip", b"PK\3\4rest", "zip archive"), ("a.pt", b"PK\3\4rest", "can run code"),
     ("a.ckpt", b"\x80\x04\x95rest", "pickle"), ("a.html.gz", b"\x1f\x8brest", "unpack it first"),
     ("a.html.zst", b"\x28\xb5\x2f\xfdrest", "unpack it first"), ("a.html.br", b"\x0b\x01\x80rest", "no page"),
     ("a.safetensors", struct.pack("<Q", 2**60) + b"{", "weights alone"), ("a.onnx", b"\x08\x0a", "folder"),
     ("a.html", b"<!doctype html><p>hello", "no page"), ("a.html", b"", "no page"),
     ("a.gguf", b"GGUF", "GGUF"), ("a.h5", b"\x89HDF", "HDF5")],
)  # fmt: skip
def test_other_files_are_refused_by_their_head(
    name: str, content: bytes, reason: str, tmp_path: Path, refused: Callable[[Path, str], str]
) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, reason)


def test_places_that_are_no_files_are_refused(tmp_path: Path, refused: Callable[[Path, str], str]) -> None:
    os.mkfifo(tmp_path / "pipe.html")
    refused(tmp_path / "pipe.html", "not a regular file")
    refused(tmp_path / "nothing.html", "no ")
    refused(Path("/dev/zero"), "not a regular file")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no model and no export")


def test_a_file_that_is_too_large_is_not_read(
    page_of: Page, monkeypatch: pytest.MonkeyPatch, refused: Callable[[Path, str], str]
) -> None:
    monkeypatch.setattr("tintype.export.importing.packed.MAX_PAGE_BYTES", 1000)
    refused(page_of(), "larger than")


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return export_model(tiny_model, tmp_path / "folder")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "README.md", "evaluation.json"])
def test_links_out_of_a_folder_are_refused(
    name: str, folder: Path, tmp_path: Path, refused: Callable[[Path, str], str]
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a secret")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(secret)
    (folder / "model.manifest.json").unlink()
    assert "secret" not in refused(folder, "leads out of its folder|not a model|JSON|damaged").replace("'secret'", "")


def test_a_site_is_read_from_its_folder_alone(
    tiny_model: Path, tmp_path: Path, few_steps: None, refused: Callable[[Path, str], str]
) -> None:
    site = export_model(tiny_model, tmp_path / "site", to="site")
    shutil.move(site / "model.bin", tmp_path / "elsewhere.bin")
    (site / "model.bin").symlink_to(tmp_path / "elsewhere.bin")
    refused(site, "leads out of its folder")
    (site / "model.bin").unlink()
    os.mkfifo(site / "model.bin")
    refused(site, "not a regular file")


def test_damaged_folders_are_refused(folder: Path, refused: Callable[[Path, str], str]) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-1] + b"?")
    refused(folder, "damaged or was changed")
    (folder / "model.manifest.json").unlink()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + weights[8:])
    refused(folder, "is damaged")
    (folder / "model.safetensors").write_bytes(weights[:-100])
    refused(folder, "is damaged")
    tensors = load_file_of(weights)
    tensors[WEIGHT][0, 0] = float("nan")
    save_file(tensors, folder / "model.safetensors")
    refused(folder, "is not finite")
    save_file({**load_file_of(weights), "more": torch.zeros(1)}, folder / "model.safetensors")
    refused(folder, "do not fit")
    (folder / "config.json").write_bytes(b" " * (2**20 + 1))
    refused(folder, "larger than 1 MB")
    (folder / "config.json").write_text("[" * 100_000)
    refused(folder, "config.json")


def load_file_of(content: bytes) -> dict[str, torch.Tensor]:
    from safetensors.torch import load

    return load(content)


def test_a_run_and_an_onnx_export_are_refused_with_the_way(
    folder: Path, tmp_path: Path, refused: Callable[[Path, str], str]
) -> None:
    (folder / "data.json").write_text("{}")
    refused(folder, "tintype export makes a model folder")
    onnx = tmp_path / "onnx"
    onnx.mkdir()
    record = json.loads((folder / "tintype.json").read_text())
    (onnx / "tintype.json").write_text(json.dumps({**record, "form": "onnx"}))
    (onnx / "net.onnx").write_bytes(b"\x08\x0a")
    assert "model folder or a page" in refused(onnx, "ONNX export")


def test_a_page_that_is_named_as_a_model_names_the_way(page_of: Page) -> None:
    with pytest.raises(CheckpointError, match="tintype import makes a model folder of it"):
        store.find(page_of())


def test_names_lead_nowhere(page_of: Page, tmp_path: Path) -> None:
    def name(described: dict[str, Any]) -> None:
        described["name"] = "../../../etc/passwd"
        described["examples"] = ["../up", "two\nlines", 3, "x" * 2000, "\x1b[31m"]
        described["payload"]["../../evil"] = {"kind": "f32", "shape": [0], "at": 0}

    before = set(tmp_path.rglob("*"))
    model = import_model(page_of(name), tmp_path / "model")
    new = set(tmp_path.rglob("*")) - before - {tmp_path / "strange.html"}
    assert all(path == model or path.is_relative_to(model) for path in new)
    assert (model / "samples" / "captions.txt").read_text() == "../up\n"
    record = read_record(model)
    assert record is not None
    assert record.name == "../../../etc/passwd"


def test_an_interrupted_import_leaves_nothing(page_of: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importing, "write_record", interrupt)
    (tmp_path / "places").mkdir()
    with pytest.raises(KeyboardInterrupt):
        import_model(page_of(), tmp_path / "places" / "out")
    assert list((tmp_path / "places").iterdir()) == []


def test_a_description_is_read_without_its_weights(page_of: Page) -> None:
    page = page_of(content=lambda content: os.urandom(len(content)))
    assert read_packed(page).description["name"] == "tiny"


def test_what_is_there_is_not_replaced(page_of: Page, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    with pytest.raises(CheckpointError, match="no earlier export"):
        import_model(page_of(), tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "file").read_text() == "x"
