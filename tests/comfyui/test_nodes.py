"""The nodes for ComfyUI, run by a stand-in of its server."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.comfyui.stand_in import (
    PACKAGE,
    ComfyUI,
    InterruptProcessingException,
    PreviewImage,
    load_package,
    run_prompt,
)
from tests.comfyui.workflow import prompt_of

from tintype._version import __version__
from tintype.errors import CheckpointError, ConfigError
from tintype.pipeline.image_file import read_receipt
from tintype.pipeline.pipeline import Pipeline

WORKFLOW = PACKAGE / "example_workflows" / "tintype.json"


@pytest.fixture
def comfy(tmp_path: Path) -> ComfyUI:
    return ComfyUI(tmp_path)


@pytest.fixture
def package(comfy: ComfyUI, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The package, with the tiny model in ComfyUI's folder of models."""
    shutil.copytree(tiny_model, comfy.models / "tintype" / "tiny")
    (comfy.models / "tintype" / "notes").mkdir()
    return load_package(comfy, monkeypatch)


@pytest.fixture
def classes(package: ModuleType) -> dict[str, Any]:
    return {**package.NODE_CLASS_MAPPINGS, "PreviewImage": PreviewImage}


@pytest.fixture
def model(tiny_model: Path) -> Pipeline:
    return Pipeline.load(tiny_model, "cpu")


def sampler_inputs(classes: dict[str, Any]) -> dict[str, Any]:
    """The values that the sampler has when it is put on the canvas."""
    inputs: dict[str, Any] = {}
    for name, (kind, *settings) in classes["TintypeSample"].INPUT_TYPES()["required"].items():
        if name != "model":
            inputs[name] = kind[0] if isinstance(kind, list) else settings[0]["default"]
    return {**inputs, "model": ["1", 0], "caption": "a red circle", "seed": 7}


def prompt(classes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Load, draw, save, and show the steps."""
    return {
        "1": {"class_type": "TintypeLoadModel", "inputs": {"name": "tiny"}},
        "2": {"class_type": "TintypeSample", "inputs": {**sampler_inputs(classes), **changes}},
        "3": {
            "class_type": "TintypeSavePicture",
            "inputs": {"images": ["2", 0], "receipt": ["2", 2], "filename_prefix": "sub/cat"},
        },
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["2", 1]}},
    }


def draw(classes: dict[str, Any], model: Pipeline, **inputs: Any) -> tuple[list[Image.Image], torch.Tensor, str]:
    """The pictures, steps and receipt of the sampler."""
    values = {**sampler_inputs(classes), **inputs, "model": model}
    images, steps, receipt = classes["TintypeSample"]().sample(**values)
    return [Image.fromarray((image * 255).round().byte().numpy()) for image in images], steps, receipt


def read(file: Path) -> Image.Image:
    with Image.open(file) as picture:
        return picture.copy()


def same(one: list[Image.Image], other: list[Image.Image]) -> bool:
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(one, other, strict=True))


def test_saved_pictures_are_those_of_generate_with_their_receipts(
    classes: dict[str, Any], comfy: ComfyUI, model: Pipeline
) -> None:
    workflow = {"workflow": {"nodes": []}}
    shown = run_prompt(prompt(classes, batch_size=3), classes, workflow)
    files = [comfy.output / entry["subfolder"] / entry["filename"] for entry in shown["3"]["images"]]
    assert [file.name for file in files] == ["cat_00001_.png", "cat_00002_.png", "cat_00003_.png"]
    assert same([read(file) for file in files], model.generate(["a red circle"] * 3, seeds=7))
    for index, file in enumerate(files):
        receipt = read_receipt(file)
        assert (receipt.caption, receipt.seed, receipt.index, receipt.model) == ("a red circle", 7, index, "tiny")
        texts = read(file).info
        assert json.loads(texts["workflow"]) == {"nodes": []}
        assert json.loads(texts["prompt"])["1"]["class_type"] == "TintypeLoadModel"
        assert texts["parameters"].startswith("a red circle\nSteps: 4")
    assert len(shown["4"]["images"]) == 4  # steps
    again = run_prompt(prompt(classes), classes)
    assert again["3"]["images"][0]["filename"] == "cat_00004_.png"


def test_metadata_can_be_switched_off(classes: dict[str, Any], comfy: ComfyUI) -> None:
    comfy.args.disable_metadata = True
    shown = run_prompt(prompt(classes), classes, {"workflow": {}})
    file = comfy.output / "sub" / shown["3"]["images"][0]["filename"]
    assert not {"tintype", "parameters", "prompt", "workflow"} & set(read(file).info)


@pytest.mark.parametrize(
    ("inputs", "options"),
    [
        ({}, {}),
        ({"steps": 3, "guidance": 4.5, "sampler": "euler"}, {"steps": 3, "guidance": 4.5, "sampler": "euler"}),
        ({"guidance": 0.0, "schedule": "karras"}, {"guidance": 0.0, "schedule": "karras"}),
        ({"width": 24, "height": 12, "negative": "a  blue\nstar"}, {"width": 24, "height": 12, "negative_prompt": "a blue star"}),  # noqa: E501
        ({"caption": " a\n red   circle "}, {}),
    ],
)  # fmt: skip
def test_inputs_are_options(
    inputs: dict[str, Any], options: dict[str, Any], classes: dict[str, Any], model: Pipeline
) -> None:
    pictures, _, receipt = draw(classes, model, **inputs)
    request = model.request(["a red circle"], seeds=7, **options)
    assert same(pictures, model.generate(["a red circle"], seeds=7, **options))
    assert receipt == model.receipts(request)[0].to_json()


def test_each_step_is_shown_while_it_is_made(classes: dict[str, Any], comfy: ComfyUI, model: Pipeline) -> None:
    made = list(model.stream("a red circle", seeds=7))
    for show in ("denoised", "noisy"):
        comfy.progress.clear()
        _, steps, _ = draw(classes, model, batch_size=2, show=show)
        expected = [model.pictures((step.denoised if show == "denoised" else step.x)[:1])[0] for step in made]
        assert [(value, total) for value, total, _ in comfy.progress] == [(1, 4), (2, 4), (3, 4), (4, 4)]
        assert same([preview[1] for _, _, preview in comfy.progress], expected)
        assert {preview[0] for _, _, preview in comfy.progress} == {"PNG"}
        assert same([Image.fromarray((step * 255).round().byte().numpy()) for step in steps], expected)


def test_a_batch_is_made_in_parts_that_fit_and_its_bar_counts_all(
    classes: dict[str, Any], comfy: ComfyUI, model: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pipeline, "batch_limit", lambda *_: 2)
    pictures, steps, receipt = draw(classes, model, batch_size=5)
    assert same(pictures, model.generate(["a red circle"] * 5, seeds=7))
    assert [value for value, _, _ in comfy.progress] == list(range(1, 13))
    assert {total for _, total, _ in comfy.progress} == {12}
    assert len(receipt.splitlines()) == 5
    assert len(steps) == 4


def test_an_interruption_stops_within_a_step(classes: dict[str, Any], comfy: ComfyUI, model: Pipeline) -> None:
    def stop() -> None:
        comfy.interrupted = len(comfy.progress) == 2

    comfy.on_progress = stop
    with pytest.raises(InterruptProcessingException):
        draw(classes, model, steps=50)
    assert len(comfy.progress) == 2
    comfy.on_progress = lambda: None
    draw(classes, model)  # the next prompt is not interrupted


def test_a_picture_is_changed(classes: dict[str, Any], model: Pipeline) -> None:
    start = Image.new("RGB", (16, 16), "orange")
    image = torch.from_numpy(np.asarray(start).copy())[None].float() / 255
    pictures, _, _ = draw(classes, model, init_image=image, strength=0.4)
    assert same(pictures, model.generate(["a red circle"], seeds=7, init_image=start, strength=0.4))

    mask = torch.zeros(1, 16, 16)
    mask[:, :, 8:] = 1  # ComfyUI: 1 is repainted
    (picture,), _, _ = draw(classes, model, init_image=image, mask=mask, strength=1.0)
    kept, repainted = np.asarray(picture)[:, :8], np.asarray(picture)[:, 8:]
    assert (kept == np.array([255, 165, 0])).all()
    assert (repainted != np.array([255, 165, 0])).any()

    other_size = torch.zeros(1, 64, 64)  # as LoadImage makes it for a picture without transparency
    (picture,), _, _ = draw(classes, model, init_image=image, mask=other_size)
    assert (np.asarray(picture) == np.array([255, 165, 0])).all()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"mask": torch.zeros(1, 8, 8)}, "a mask needs an init_image"),
        ({"init_image": torch.zeros(3, 16, 16, 3)}, "init_image must be one picture, not 3"),
        ({"init_image": torch.zeros(1, 16, 16, 3), "mask": torch.zeros(2, 8, 8)}, "one mask, not 2"),
        ({"width": 17}, "width must be a multiple of 4"),
    ],
)
def test_a_wrong_input_is_named(inputs: dict[str, Any], message: str, classes: dict[str, Any], model: Pipeline) -> None:
    with pytest.raises(ConfigError, match=message):
        draw(classes, model, **inputs)


def test_other_pictures_than_those_of_the_receipt_are_not_saved(
    classes: dict[str, Any], comfy: ComfyUI, model: Pipeline
) -> None:
    _, steps, receipt = draw(classes, model)
    save = classes["TintypeSavePicture"]().save
    for images in (steps, torch.zeros(1, 32, 32, 3)):
        with pytest.raises(ConfigError, match="not those of the receipt"):
            save(images, receipt, "cat")
    assert list(comfy.output.iterdir()) == []


def test_models_are_the_shipped_ones_those_in_the_folder_and_any_by_path(
    classes: dict[str, Any], tiny_model: Path
) -> None:
    node = classes["TintypeLoadModel"]
    assert set(node.INPUT_TYPES()["required"]["name"][0]) == {"shapes", "emoji", "tiny"}
    (by_path,) = node().load("shapes", f" {tiny_model} ")
    assert by_path.name == tiny_model.name
    with pytest.raises(CheckpointError, match="no model '/no/such'"):
        node().load("shapes", "/no/such")


def test_a_model_that_changed_on_disk_is_loaded_again(classes: dict[str, Any], comfy: ComfyUI) -> None:
    changed = classes["TintypeLoadModel"].IS_CHANGED
    before = changed("tiny")
    assert changed("tiny") == before
    weights = comfy.models / "tintype" / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert changed("tiny") != before


def test_the_example_workflow_runs(classes: dict[str, Any], comfy: ComfyUI) -> None:
    example = prompt_of(WORKFLOW, {name: node.INPUT_TYPES() for name, node in classes.items()})
    assert example["1"]["inputs"]["name"] == "shapes"
    example["1"]["inputs"]["name"] = "tiny"
    shown = run_prompt(example, classes)
    assert len(shown["3"]["images"]) == 4
    assert len(list(comfy.output.iterdir())) == 4


def test_the_example_workflow_has_whole_links(classes: dict[str, Any]) -> None:
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for link, start, slot, end, socket, kind in workflow["links"]:
        assert nodes[start]["outputs"][slot]["type"] == nodes[end]["inputs"][socket]["type"] == kind
        assert link in nodes[start]["outputs"][slot]["links"]
        assert nodes[end]["inputs"][socket]["link"] == link
    for node in nodes.values():
        returned = zip(classes[node["type"]].RETURN_TYPES, node["outputs"], strict=True)
        assert all(kind == output["type"] for kind, output in returned)


def test_every_node_has_a_name_a_category_and_a_description(package: ModuleType) -> None:
    assert set(package.NODE_CLASS_MAPPINGS) == set(package.NODE_DISPLAY_NAME_MAPPINGS)
    for node in package.NODE_CLASS_MAPPINGS.values():
        assert node.CATEGORY == "tintype"
        assert node.DESCRIPTION
        assert callable(getattr(node, node.FUNCTION))


def test_the_package_is_one_that_the_registry_takes() -> None:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))
    assert {"PublisherId", "DisplayName"} <= set(project["tool"]["comfy"])
    assert project["project"]["version"] == __version__
    assert project["project"]["dependencies"] == (PACKAGE / "requirements.txt").read_text().split()
    assert (PACKAGE / project["project"]["readme"]).is_file()
