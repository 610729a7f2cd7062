"""The command line, mostly in process: what is printed where, which files appear, and every exit code."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import tintype
from tintype.cli import options
from tintype.cli.main import main
from tintype.config import DataOptions
from tintype.model import checkpoint
from tintype.pipeline.image_file import encode, read_receipt
from tintype.shapes.write import write_shapes

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in an empty folder that has a link `tiny` to the model: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, tmp_path / "tiny")

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def pixels(path: Path) -> bytes:
    with Image.open(path) as picture:
        return picture.tobytes()


# --- generate -------------------------------------------------------------------------------------------------------


def test_a_picture_is_named_after_its_caption_and_never_replaced(run: Run) -> None:
    caption = "A red circle, left of a blue square!"
    for name in ("a-red-circle-left-of-a-blue-square-s0.png", "a-red-circle-left-of-a-blue-square-s0_2.png"):
        assert run("generate", caption, "--model", "tiny") == (0, f"{name}  seed 0\n", "")
    assert read_receipt(Path(name)).caption == caption


def test_several_images_sort_and_each_is_the_same_alone(run: Run) -> None:
    code, out, _ = run("generate", "a red circle", "a star", "--model", "tiny", "--num_images", "3", "--seed", "5")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [
        *(f"a-red-circle-s5-{index}.png" for index in range(3)),
        *(f"a-star-s5-{index}.png" for index in range(3)),
    ]
    assert [(receipt.seed, receipt.index) for receipt in map(read_receipt, sorted(Path().glob("a-star*")))] == [
        (5, 0),
        (5, 1),
        (5, 2),
    ]
    assert run("redo", "a-star-s5-2.png", "--model", "tiny", "--output", "again.png")[0] == 0
    assert pixels(Path("again.png")) == pixels(Path("a-star-s5-2.png"))
    assert run("generate", "a star", "--model", "tiny", "--seed", "5", "--output", "first.png")[0] == 0
    assert pixels(Path("first.png")) == pixels(Path("a-star-s5-0.png"))


def test_a_named_file_is_replaced_and_a_folder_is_made(run: Run) -> None:
    Path("x.png").write_text("old")
    assert run("generate", "a star", "--model", "tiny", "--output", "x.png")[:2] == (0, "x.png  seed 0\n")
    pixels(Path("x.png"))
    assert run("generate", "a star", "--model", "tiny", "--output", "new/deep")[1] == "new/deep/a-star-s0.png  seed 0\n"
    run("generate", "a star", "--model", "tiny", "--output", "x.png", "--num-images", "11", "--steps", "1")
    assert [path.name for path in sorted(Path().glob("x-*.png"))] == [f"x-{index:02d}.png" for index in range(11)]
    assert not list(Path().glob(".*"))


def test_every_option_reaches_the_receipt(run: Run) -> None:
    options_ = ["--steps=2", "--guidance=1.5", "--negative=blue", "--sampler=heun", "--width=24", "--height=12"]
    assert run("generate", "a star", "--model", "tiny", "--output", "x.png", *options_)[0] == 0
    receipt = read_receipt(Path("x.png"))
    assert (receipt.steps, receipt.guidance, receipt.negative, receipt.sampler) == (2, 1.5, "blue", "heun")
    assert (receipt.width, receipt.height, receipt.model) == (24, 12, "tiny")


@pytest.mark.parametrize(
    ("option", "older", "value"),
    [
        ("--schedule", "--grid", "karras"),
        ("--negative-prompt", "--negative", "blue"),
        ("--source-caption", "--invert", "a red circle"),
    ],
)
def test_an_older_option_means_the_same_and_both_are_refused(option: str, older: str, value: str, run: Run) -> None:
    Image.new("RGB", (16, 16), "red").save("red.png")
    arguments = ["generate", "a star", "--model", "tiny", "--steps", "2", "--init-image", "red.png"]
    assert run(*arguments, option, value, "--output", "x.png")[0] == 0
    assert run(*arguments, older, value, "--output", "y.png")[0] == 0
    assert Path("x.png").read_bytes() == Path("y.png").read_bytes()
    assert run(*arguments, "--output", "z.png")[0] == 0
    assert Path("x.png").read_bytes() != Path("z.png").read_bytes()
    code, _, err = run(*arguments, option, value, older, value)
    assert (code, "is the older name of" in err) == (2, True)
    assert older not in run("generate", "--help")[1].replace(option, "")


@pytest.mark.parametrize("suffix", [".webp", ".jpg", ".JPEG"])
def test_a_picture_of_another_format_carries_its_receipt(suffix: str, run: Run) -> None:
    name = f"x{suffix}"
    assert run("generate", "a star", "--model", "tiny", "--output", name) == (0, f"{name}  seed 0\n", "")
    assert run("generate", "a star", "--model", "tiny", "--output", "x.png")[0] == 0
    assert read_receipt(Path(name)) == read_receipt(Path("x.png"))
    assert run("redo", name, "--output", "again.png") == (0, "again.png\n", "")
    assert pixels(Path("again.png")) == pixels(Path("x.png"))
    assert "a star" in run("info", name)[1]
    several = run("generate", "a star", "--model", "tiny", "--output", name, "--num-images", "2")[1].splitlines()
    assert [line.split()[0] for line in several] == [f"x-0{suffix}", f"x-1{suffix}"]


def test_a_picture_can_be_changed_and_that_done_again(run: Run) -> None:
    Image.new("RGB", (40, 40), "red").save("red.png")
    Image.new("L", (40, 40), 255).save("mask.png")
    edit = ["--model", "tiny", "--init-image", "red.png", "--mask", "mask.png"]
    assert run("generate", "a star", *edit, "--strength", "0.5", "--output", "x.png")[0] == 0
    assert run("redo", "x.png", *edit, "--output", "y.png") == (0, "y.png\n", "")
    assert pixels(Path("x.png")) == pixels(Path("y.png"))
    code, _, err = run("redo", "x.png", "--model", "tiny")
    assert (code, err) == (2, "tintype: this picture was made with --init-image and --mask; give the same again\n")
    Image.new("RGB", (40, 40), "blue").save("red.png")
    assert "not the init image" in run("redo", "x.png", *edit)[2]


EDITS: dict[str, list[str]] = {
    "outpaint": ["--init-image", "red.png", "--outpaint", "4,0,0,8"],
    "outpaint under a mask": ["--init-image", "red.png", "--outpaint", "4", "--mask", "mask.png"],
    "invert": ["--init-image", "red.png", "--invert", "a red circle", "--steps", "3"],
    "a weaker model as the guide": ["--guide", "tiny", "--guidance", "2"],
    "vary": ["--num-images", "2", "--vary", "0.3"],
    "vary what is inverted": ["--init-image", "red.png", "--invert", "x", "--steps", "2", "--vary", "0.2"],
    "the first of a series": ["--num-images", "1", "--vary", "0.3"],
    "to a caption": ["--num-images", "3", "--to-caption", "a blue square"],
    "to a seed": ["--num-images", "3", "--to-seed", "4", "--seed", "2"],
    "settings": ["--grid", "karras", "--guidance-interval", "0.5,20", "--sampler", "dpmpp_2m_sde"],
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.slow
def test_every_kind_of_picture_can_be_made_again(edit: str, run: Run) -> None:
    Image.new("RGB", (40, 40), "red").save("red.png")
    Image.new("L", (40, 40), 255).save("mask.png")
    code, out, err = run("generate", "a star", "--model", "tiny", *EDITS[edit])
    assert (code, err) == (0, "")
    last = out.splitlines()[-1].split()[0]
    pairs = [pair for pair in pairwise(EDITS[edit]) if pair[0] in ("--init-image", "--mask")]
    given = [word for pair in pairs for word in pair]
    assert run("redo", last, "--model", "tiny", "--output", "again.png", *given) == (0, "again.png\n", "")
    assert pixels(Path("again.png")) == pixels(Path(last))
    assert run("info", last)[0] == 0


def test_a_caption_too_long_for_a_receipt_in_a_jpeg_is_said(run: Run) -> None:
    for name, noted in (("x.jpg", True), ("x.webp", False), ("x.png", False)):
        code, _, err = run("generate", "é" * 12_000, "--model", "tiny", "--steps", "1", "--output", name)
        assert (code, f"too long for a receipt in {name}" in err) == (0, noted)
        assert run("redo", name, "--output", "y.png")[0] == (1 if noted else 0)


def test_images_on_the_way_to_another_make_a_strip(run: Run) -> None:
    way = ["a red circle", "--model", "tiny", "--to-caption", "a star", "--to-seed", "3", "--steps", "2"]
    for name in ("strip.png", "strip.gif", "strip.webp"):
        out = run("generate", *way, "--strip", name, "--output", "frames")[1].splitlines()
        assert len(out) == 8 + 1
        assert out[-1] == name
    with Image.open("strip.png") as sheet:
        assert sheet.width > 8 * 90
    for name in ("strip.gif", "strip.webp"):
        with Image.open(name) as animation:
            assert animation.n_frames == 14  # type: ignore[attr-defined]  # there and back


def test_captions_may_come_from_a_file(run: Run) -> None:
    Path("captions.txt").write_bytes("\ufeffa red circle\r\n\n  東京 の 家  \n".encode())
    out = run("generate", "--prompts-file", "captions.txt", "--model", "tiny", "--steps", "1", "--num-images", "2")[1]
    names = [line.split()[0] for line in out.splitlines()]
    assert names == ["a-red-circle-s0-0.png", "a-red-circle-s0-1.png", "東京-の-家-s0-0.png", "東京-の-家-s0-1.png"]
    assert read_receipt(Path(names[2])).caption == "東京 の 家"
    Path("captions.txt").write_bytes(b"caf\xe9\n")
    code, _, err = run("generate", "--prompts-file", "captions.txt", "--model", "tiny")
    assert (code, err) == (1, "tintype: captions.txt is not UTF-8 text: save it as UTF-8\n")


def test_a_finished_picture_can_be_refined_without_saying_its_caption_again(run: Run) -> None:
    run("generate", "a red circle", "--model", "tiny", "--output", "x.png")
    more = ["--model", "tiny", "--init-image", "x.png", "--strength", "0.2"]
    assert run("generate", *more, "--output", "y.png")[0] == 0
    assert read_receipt(Path("y.png")).caption == "a red circle"
    Image.new("RGB", (16, 16)).save("plain.png")
    code, _, err = run("generate", "--model", "tiny", "--init-image", "plain.png")
    assert code == 2
    assert "give a CAPTION: plain.png carries no Tintype receipt" in err


def test_the_steps_can_be_saved_as_sheet_and_as_animation(run: Run) -> None:
    for name in ("steps.png", "steps.gif", "steps.webp"):
        out = run("generate", "a star", "--model", "tiny", "--save-steps", name, "--num-images", "2")[1]
        assert out.splitlines()[-1] == name
    with Image.open("steps.png") as sheet:
        assert sheet.width > 4 * 96
        assert sheet.height > 6 * 96  # two pictures, three rows each
    for name in ("steps.gif", "steps.webp"):
        with Image.open(name) as animation:
            assert animation.n_frames == 4  # type: ignore[attr-defined]
    for name, num in (("s.gif", 4), ("s.png", 16)):
        several = ["--num-images", "20", "--steps", "1", "--save-steps", name]
        assert f"{name} shows the first {num} of 20 pictures" in run("generate", "a", "--model", "tiny", *several)[2]


def test_a_caption_that_is_too_long_is_told(run: Run) -> None:
    code, _, err = run("generate", "red circle " * 40, "--model", "tiny")
    assert code == 0
    assert "1 of the texts longer than the 16 tokens" in err


def test_a_caption_may_be_anything(run: Run) -> None:
    out = run(
        "generate", "--model", "tiny", "--steps", "1", "--", "-rot", "../../etc/passwd", "東京 の 家", "...", "a\udc80"
    )[1]
    assert [line.split()[0] for line in out.splitlines()] == [
        "rot-s0.png",
        "etc-passwd-s0.png",
        "東京-の-家-s0.png",
        "picture-s0.png",
        "a-s0.png",
    ]


# --- redo and info --------------------------------------------------------------------------------------------------


def test_redo_warns_about_another_model_and_names_a_missing_one(run: Run) -> None:
    run("generate", "a star", "--model", "tiny", "--output", "x.png")
    assert run("redo", "x.png") == (0, "x-redo.png\n", "")  # a folder of that name is here
    Path("tiny").rename("other")
    code, _, err = run("redo", "x.png")
    assert (code, err) == (1, "tintype: the model of this picture, 'tiny', is not here: give --model FOLDER\n")
    weights = Path("other/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1  # the lowest bits of one weight
    weights.write_bytes(content)
    code, out, err = run("redo", "x.png", "--model", "other")
    assert (code, out) == (0, "x-redo_2.png\n")
    assert "warning: model other has other weights" in err


def test_redo_refuses_a_picture_made_with_a_function(run: Run) -> None:
    pipeline = tintype.Pipeline.load("tiny", "cpu")
    request = pipeline.request("a star", sampler=lambda x, sigmas, randn: (yield tintype.Query(x, sigmas)), steps=1)
    (receipt,) = pipeline.receipts(request)
    Path("x.png").write_bytes(encode(Image.new("RGB", (16, 16)), receipt, ".png"))
    code, out, err = run("redo", "x.png")
    assert (code, out) == (2, "")
    assert f"the sampler of this picture is the Python function {__name__}.test_redo_refuses" in err


def test_info_tells_of_a_picture_and_of_a_model(run: Run) -> None:
    run("generate", "a star", "--model", "tiny", "--output", "x.png", "--seed", "7")
    out = run("info", "x.png")[1]
    assert "a star" in out
    assert "7, index 0" in out
    out = run("info", "tiny")[1]
    assert "16x16" in out
    assert "nano" in out
    assert "learned" in out
    Image.new("RGB", (4, 4)).save("plain.png")
    assert run("info", "plain.png")[0] == 1
    assert run("info", "nothing")[0] == 1


@pytest.fixture
def damaged_run(tmp_path: Path, tiny_model: Path) -> Path:
    """A run with two checkpoints, the newer one damaged."""
    folder = tmp_path / "my-run"
    folder.mkdir()
    shutil.copy(tiny_model / "config.json", folder)
    (folder / "data.json").write_text("{}")
    weights = {name: tensor.float() for name, tensor in load_file(tiny_model / "model.safetensors").items()}
    texts = {name: (tiny_model / name).read_text() for name in ("config.json", "tokenizer.json")}
    for step in (1, 2):
        state = {"state.json": json.dumps({"images_seen": 10 * step})}
        checkpoint.save_parts(checkpoint.step_folder(folder, step), {"model": weights}, texts | state)
    (checkpoint.step_folder(folder, 2) / "model.safetensors").write_bytes(b"damaged")
    return folder


def test_a_damaged_newer_checkpoint_is_named_and_the_older_used(run: Run, damaged_run: Path) -> None:
    message = "my-run/checkpoints/step-00000002/model.safetensors is damaged: it does not match the manifest; the older"
    code, out, err = run("generate", "a star", "--model", "my-run", "--steps", "2")
    assert (code, out) == (0, "a-star-s0.png  seed 0\n")
    assert err == f"tintype: warning: {message} step-00000001 of my-run is used instead\n"
    for arguments in (["info", "my-run"], ["info", "my-run", "--verify"]):
        code, out, err = run(*arguments)
        assert (code, err) == (0, "")
        assert message in out
    (checkpoint.step_folder(damaged_run, 1) / "state.json").unlink()
    code, out, err = run("generate", "a star", "--model", "my-run")
    assert (code, out) == (1, "")
    assert "every checkpoint in my-run is damaged" in err
    code, out, _ = run("info", "my-run")
    assert code == 0
    assert "every checkpoint in my-run is damaged" in out
    assert "wait" not in out + err


def test_info_tells_of_a_run_before_its_first_checkpoint(run: Run) -> None:
    Path("begun/checkpoints").mkdir(parents=True)
    shutil.copy("tiny/config.json", "begun")
    assert run("info", "begun")[0] == 1
    Path("begun/data.json").write_text("{}")
    Path("begun/log.jsonl").write_text('{"images_seen": 64}\n')
    assert "64 of 500,000 images seen" in run("info", "begun")[1]
    assert "data.json: captions and pictures of your data" in run("info", "begun")[1]


def test_info_tells_which_files_of_a_run_are_private(run: Run) -> None:
    shutil.copytree("tiny", "my run")
    assert "private" not in run("info", "my run")[1]
    Path("my run/pack").mkdir()
    Path("my run/data.json").write_text("{}")
    output = run("info", "my run")[1]
    files = "config.json, model.safetensors, tokenizer.json"
    assert f"tintype export --out FOLDER 'my run' (writes the model alone: {files})" in output
    assert "data.json, pack: captions and pictures of your data; do not upload this folder" in output


def test_info_shows_no_control_characters(run: Run) -> None:
    run("generate", "a \x1b[31mred star", "--model", "tiny", "--output", "x.png")
    assert "\x1b" not in run("info", "x.png")[1]


# --- data -----------------------------------------------------------------------------------------------------------


def test_shapes_are_data_that_passes_the_check(run: Run) -> None:
    assert run("shapes", "data", "--num", "12", "--size", "16") == (0, "data: 12 captioned pictures\n", "")
    code, out, _ = run("check", "data", "--strict", "--report", "report.json")
    assert code == 0
    assert "12 pictures with 12 captions" in out
    assert json.loads(Path("report.json").read_text())["usable"] == 12
    assert run("shapes", "data", "--num", "12")[0] == 1  # not an empty folder


def test_check_prints_json_and_writes_a_page(run: Run) -> None:
    write_shapes("data", 3, size=16)
    Path("data/images/000001.png").write_bytes(b"")
    code, out, _ = run("check", "data", "--json", "--text", "learned", "--report", "deep/report.html")
    assert code == 0
    assert json.loads(out)["left_out"] == 1
    page = Path("deep/report.html").read_text()
    assert page.count("<img ") >= 2
    assert "Left out: the file is empty" in page
    code, _, err = run("check", "data", "--alpha-color", "sky")
    assert code == 2
    assert "'sky'" in err


def test_check_takes_data_in_as_asked(run: Run) -> None:
    write_shapes("data", 3, size=16)
    Path("data/metadata.jsonl").unlink()
    assert run("check", "data", "--strict")[0] == 1
    code, out, _ = run("check", "data", "--strict", "--no-caption", "name", "--min-size", "4")
    assert (code, "3 pictures with 3 captions" in out) == (0, True)


def test_strict_fails_on_anything_left_out(run: Run) -> None:
    write_shapes("data", 3, size=16)
    Path("data/images/000001.png").write_bytes(b"")
    assert run("check", "data")[0] == 0
    assert run("check", "data", "--strict", "--report", "report.txt")[0] == 1
    assert "images/000001.png: the file is empty" in Path("report.txt").read_text()
    code, out, err = run("check", "nothing")
    assert (code, out) == (1, "")
    assert err.startswith("tintype: ")


# --- train ----------------------------------------------------------------------------------------------------------


def test_every_train_option_reaches_the_request(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("tintype.training.run.train", lambda request, console: asked.append(request) or request.out)
    code, out, _ = run(
        *("train", "data", "--out", "run", "--time", "1h30m", "--preset", "auto", "--resolution", "16"),
        *("--batch_size", "8", "--lr", "1e-3", "--seed", "0", "--from", "tiny", "--resume", "never"),
        *("--text", "learned", "--device", "cpu"),
    )
    assert (code, out) == (0, "run\n")
    (request,) = asked
    run(
        *("train", "data", "--out", "run", "--micro-batch", "2", "--save-every", "90s", "--sample-every", "2m"),
        *("--keep", "5", "--keep-every", "1000", "--tensorboard"),
    )
    own = asked.pop()
    assert (own.micro_batch, own.save_minutes, own.sample_minutes) == (2, 1.5, 2.0)
    assert (own.keep_last, own.keep_every, own.tensorboard) == (5, 1000, True)
    assert (request.data, request.out, request.minutes, request.preset) == ("data", Path("run"), 90.0, None)
    assert (request.resolution, request.batch_size, request.lr, request.seed) == (16, 8, 1e-3, 0)
    assert (request.from_model, request.resume, request.text, request.device) == ("tiny", "never", "learned", "cpu")
    run("train", "data", "--out", "run", "--steps", "3", "--preset", "small", "--dry-run")
    assert (asked[1].steps, asked[1].preset, asked[1].dry_run, asked[1].minutes) == (3, "small", True, None)
    assert asked[1].data_options == DataOptions()
    assert (asked[1].exclude, asked[1].cache, asked[1].stream) == (None, None, False)
    monkeypatch.setenv("TINTYPE_CACHE", "kept")
    run(
        *("train", "s3://bucket/a.tar", "--out", "run", "--crop", "square", "--min-size", "9", "--max-aspect", "2"),
        *("--alpha-color", "black", "--animations", "skip", "--caption-encoding", "latin-1", "--no-caption", "name"),
        *("--dedupe", "--exclude", "not.txt", "--stream", "--repeats", "ignore"),
        *("--caption-from", "folder"),
    )
    assert (asked[2].data, asked[2].exclude, asked[2].cache) == ("s3://bucket/a.tar", Path("not.txt"), Path("kept"))
    assert asked[2].stream
    assert asked[2].data_options == DataOptions(
        crop="square",
        min_size=9,
        max_aspect=2.0,
        alpha_color="black",
        animations="skip",
        caption_encoding="latin-1",
        no_caption="name",
        dedupe=True,
        caption_from="folder",
        repeats="ignore",
    )


# --- what is refused ------------------------------------------------------------------------------------------------

GENERATE = ["generate", "a star", "--model", "tiny"]
TRAIN = ["train", "data", "--out", "run"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "COMMAND"),
        (["develop"], "invalid choice: 'develop'"),
        (["generate"], "give a CAPTION, or a file of them with --prompts-file"),
        (["generate", "", "--model", "tiny"], "a CAPTION is empty; say what to make"),
        (["generate", "a star", " ", "--model", "tiny"], "a CAPTION is empty"),
        (["generate", "x" * 50_000, "--model", "tiny"], "at most 32,000 characters, not 50,000"),
        ([*GENERATE, "--negative", "x" * 50_000], "at most 32,000 characters"),
        ([*GENERATE, "--grid", "even"], "invalid choice: 'even'"),
        ([*GENERATE, "--guidance-interval", "3"], "--guidance-interval: must be two numbers such as 0.3,10"),
        ([*GENERATE, "--guidance-interval", "nan,3"], "--guidance-interval"),
        ([*GENERATE, "--guidance-interval", "3,1"], "interval must not end below its start"),
        ([*GENERATE, "--outpaint", "8"], "--init-image"),
        ([*GENERATE, "--invert", "x"], "--init-image"),
        ([*GENERATE, "--outpaint", "1,2,3"], "--outpaint: must be N or LEFT,TOP,RIGHT,BOTTOM"),
        ([*GENERATE, "--vary", "2"], "--vary: must be a number from 0 to 1"),
        (["generate", "a circle", *GENERATE[1:], "--to-seed", "3"], "need a single caption"),
        ([*GENERATE, "--vary", "0.1", "--to-seed", "3"], "either variation"),
        ([*GENERATE, "--strip", "x.jpg"], "--strip: must end in .png"),
        ([*GENERATE, "--steps", "0"], "--steps: must be a whole number from 1 to 1000, not '0'"),
        ([*GENERATE, "--steps", "many"], "--steps"),
        ([*GENERATE, "--guidance", "nan"], "--guidance: must be a number from 0 to 100, not 'nan'"),
        ([*GENERATE, "--guidance=-inf"], "--guidance"),
        ([*GENERATE, "--seed", "-1"], "--seed: must be a whole number from 0"),
        ([*GENERATE, "--seed", str(2**63)], "--seed"),
        ([*GENERATE, "--seed", "9" * 10_000], "--seed"),
        ([*GENERATE, "--num-images", "0"], "--num-images"),
        ([*GENERATE, "--sampler", "plms"], "invalid choice: 'plms'"),
        ([*GENERATE, "--width", "18"], "width must be a multiple of 4 for this model, not 18"),
        ([*GENERATE, "--strength", "0.5"], "--init-image"),
        ([*GENERATE, "--strength", "2"], "--strength"),
        ([*GENERATE, "--output", "x.bmp"], "--output/--out: must be a folder or end in .png"),
        ([*GENERATE, "--save-steps", "x.mp4"], "--save-steps: must end in .png"),
        ([*GENERATE, "--device", "toaster"], "device must be cpu"),
        ([*GENERATE, "--step", "3"], "there is no option --step; the nearest is --steps; see tintype generate --help"),
        (["train", "data"], "--out"),
        ([*TRAIN, "--lr", "-1"], "--lr: must be a number from 1e-08 to 1, not '-1'"),
        ([*TRAIN, "--batch-size", "0"], "--batch-size"),
        ([*TRAIN, "--resolution", "7"], "--resolution: must be a whole number from 8 to 2048, not '7'"),
        ([*TRAIN, "--time", "0"], "--time: must be a time such as 90s, 30m, 2h or 1h30m, not '0'"),
        ([*TRAIN, "--time", "banana"], "--time"),
        ([*TRAIN, "--steps", "1.5"], "--steps"),
        ([*TRAIN, "--steps", "3", "--images", "3"], "not allowed with argument"),
        ([*TRAIN, "--text", "hf:"], "--text: must be auto, minilm, learned or hf:NAME"),
        ([*TRAIN, "--preset", "huge"], "invalid choice: 'huge'"),
        (["shapes", "data"], "--num"),
        (["shapes", "data", "--num", "0"], "--num"),
    ],
)
def test_wrong_use_is_exit_code_2_and_one_line(arguments: list[str], says: str, run: Run) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("tintype: ")
    assert err.count("\n") == 1
    assert says in err
    assert sorted(path.name for path in Path().iterdir()) == ["tiny"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate", "a star", "--model", "nothing"], "no model 'nothing'"),
        ([*GENERATE, "--init-image", "missing.png"], "missing.png: there is no such file"),
        ([*GENERATE, "--output", "tiny/config.json/x.png"], "tiny/config.json"),
        (["redo", "missing.png"], "missing.png"),
        (["info", "tiny/config.json"], "tiny/config.json"),
    ],
)
def test_failure_is_exit_code_1_and_one_line(arguments: list[str], says: str, run: Run) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("tintype: ")
    assert err.count("\n") == 1
    assert says in err


def test_a_mask_of_another_size_is_one_line(run: Run) -> None:
    Image.new("RGB", (40, 40), "red").save("red.png")
    Image.new("L", (20, 40), 255).save("mask.png")
    code, out, err = run(*GENERATE, "--init-image", "red.png", "--mask", "mask.png")
    assert (code, out) == (2, "")
    assert err == "tintype: the mask is 20x40 and the init_image 40x40: they must have the same size\n"


def test_debug_shows_where_an_error_comes_from(run: Run) -> None:
    for arguments in (("--debug", "redo", "missing.png"), ("redo", "missing.png", "--debug")):
        assert "Traceback" in run(*arguments)[2]


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit(143), 143, "terminated"),
        (SystemExit(75), 75, "preempted; run the same command again"),
        (RuntimeError("two\nlines"), 1, "unexpected RuntimeError: two lines"),
        (MemoryError(), 1, "not enough memory"),
        (RuntimeError("could not create a primitive"), 1, "not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), 1, "not enough memory"),
        (OSError(28, "No space left on device", "x.png"), 1, "x.png: No space left on device"),
    ],
)
def test_however_a_command_ends_there_is_one_line(
    raised: BaseException, code: int, says: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr("tintype.shapes.write.write_shapes", fail)
    exit_code, out, err = run("shapes", "data", "--num", "1")
    assert (exit_code, out, err.count("\n")) == (code, "", 1)
    assert says in err


def test_help_and_version_succeed(run: Run) -> None:
    assert run("--version")[:2] == (0, f"tintype {tintype.__version__}\n")
    for command in ("check", "train", "generate", "evaluate", "shapes", "info", "redo", "doctor"):
        assert command in run("--help")[1]
        code, out, _ = run(command, "--help")
        assert code == 0
        assert f"usage: tintype {command}" in out


# --- small parts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", 1.5),
        ("30m", 30),
        ("2h", 120),
        ("1h30m", 90),
        ("1.5h", 90),
        ("1H30M", 90),
        ("45min", 45),
    ],
)
def test_times(text: str, expected: float) -> None:
    assert options.minutes(text) == expected


def test_underscores_count_as_dashes_in_names_of_options_only() -> None:
    typed = ["--num_images", "3", "--negative=a_b", "snake_case", "--", "--not_an_option"]
    assert options.normalized(typed) == ["--num-images", "3", "--negative=a_b", "snake_case", "--", "--not_an_option"]


@pytest.mark.parametrize("caption", ["x" * 500, "word " * 100, "東" * 500, "🎨", "...", "CON", "a/b\\c:d*e?"])
def test_a_slug_is_a_short_plain_file_name(caption: str) -> None:
    name = options.slug(caption)
    assert 0 < len(name.encode()) <= options.MAX_SLUG_BYTES
    assert not set(name) & set('/\\:*?"<>| .')


# --- real processes -------------------------------------------------------------------------------------------------


def start_tintype(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tintype", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(tintype.__file__).parent.parent), "OMP_NUM_THREADS": "1"},
        **more,
    )


def test_help_does_not_import_torch() -> None:
    code = "import sys; from tintype.cli.main import main; main(['generate', '--help']); print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "False"


def test_a_process_makes_a_picture(tiny_model: Path, tmp_path: Path) -> None:
    process = start_tintype("generate", "a star", "--model", str(tiny_model), cwd=tmp_path)
    assert process.communicate(timeout=120) == ("a-star-s0.png  seed 0\n", "")
    assert process.returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to handle")
@pytest.mark.parametrize(
    ("number", "code", "says"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_signal_ends_it_with_one_line(number: int, code: int, says: str, tmp_path: Path) -> None:
    process = start_tintype("shapes", "data", "--num", "1000000", cwd=tmp_path)
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "data" / "images" / "000000.png").exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err.count("\n")) == (code, 1)
    assert says in err


@pytest.mark.skipif(os.name == "nt", reason="pipes break otherwise on Windows")
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    write_shapes(tmp_path / "data", 2, size=16)
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [sys.executable, "-m", "tintype", "check", "data"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(tintype.__file__).parent.parent)},
        check=False,
    )
    os.close(writing)
    assert ran.stderr == ""


def test_signs_that_the_model_cannot_read_are_told(run: Run) -> None:
    code, _, err = run("generate", "東京 🍕", "--model", "tiny", "--steps", "1", "--to-caption", "a 猫")
    assert code == 0
    assert "tintype: warning: this model cannot read '🍕', '猫': to it they are like any other unknown sign" in err
    assert "cannot read" not in run("generate", "a red circle", "東京", "--model", "tiny", "--steps", "1")[2]


def test_check_chooses_the_text_encoder_by_the_captions(run: Run) -> None:
    for number, caption in enumerate("🍎🐱"):
        Path("signs").mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(f"signs/{number}.png")
        Path(f"signs/{number}.txt").write_text(caption, encoding="utf-8")
    code, out, _ = run("check", "signs", "--json")
    report = json.loads(out)
    assert code == 0
    assert any("does not know signs or words in 2 ('🍎', '🐱')" in note for note in report["notes"])
    assert any("tokens of learned" in title for title in report["histograms"])
