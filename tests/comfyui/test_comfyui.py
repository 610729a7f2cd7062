"""The nodes in ComfyUI itself: a workflow over its API, without a window.

TINTYPE_COMFYUI names a folder with its source, and TINTYPE_COMFYUI_PYTHON a Python that has what it needs and Tintype;
without the second, the Python of the tests is taken.
"""

from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from tests.comfyui.stand_in import PACKAGE, ComfyUI
from tests.comfyui.workflow import prompt_of

from tintype.pipeline.image_file import read_receipt
from tintype.pipeline.pipeline import Pipeline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("TINTYPE_COMFYUI"), reason="TINTYPE_COMFYUI names no folder of ComfyUI"),
]
SOURCE = Path(os.environ.get("TINTYPE_COMFYUI", "."))
PYTHON = os.environ.get("TINTYPE_COMFYUI_PYTHON", sys.executable)
SRC = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ComfyUI's folder for models, nodes and output, with these nodes in it."""
    folder = tmp_path_factory.mktemp("comfyui")
    for name in ("models", "input", "output", "custom_nodes", "user", "temp"):
        (folder / name).mkdir()
    (folder / "custom_nodes" / "comfyui-tintype").symlink_to(PACKAGE)
    return folder


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[httpx.Client]:
    """ComfyUI, started for these tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PYTHON, "main.py", "--cpu", "--port", str(port), "--base-directory", str(base), "--disable-api-nodes"]
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    log = (base / "log.txt").open("w")
    process = subprocess.Popen(command, cwd=SOURCE, env=environment, stdout=log, stderr=subprocess.STDOUT)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        try:
            _wait(lambda: process.poll() is not None or _answers(client), 180)
            assert process.poll() is None, (base / "log.txt").read_text()[-3000:]
            yield client
        finally:
            process.terminate()
            process.wait(30)
            log.close()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/queue").status_code == 200
    except httpx.TransportError:
        return False


def _wait(until: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := until():
            return value
        time.sleep(0.2)
    raise AssertionError("waited in vain")


def started(server: httpx.Client, **changes: Any) -> str:
    """Queue the example workflow with other inputs of the sampler; returns its number."""
    nodes = server.get("/object_info").json()
    inputs = {name: node["input"] for name, node in nodes.items()}
    prompt = prompt_of(PACKAGE / "example_workflows" / "tintype.json", inputs)
    prompt["2"]["inputs"].update(changes)
    answer = server.post("/prompt", json={"prompt": prompt}).json()
    assert answer["node_errors"] == {}
    return str(answer["prompt_id"])


def finished(server: httpx.Client, number: str) -> dict[str, Any]:
    answer: dict[str, Any] = _wait(lambda: server.get(f"/history/{number}").json().get(number), 300)
    return answer


def test_the_example_workflow_draws_the_pictures_of_generate(server: httpx.Client, base: Path) -> None:
    ended = finished(server, started(server, seed=11, batch_size=2))
    assert ended["status"]["status_str"] == "success"
    files = [base / "output" / entry["filename"] for entry in ended["outputs"]["3"]["images"]]
    own = Pipeline.load("shapes", "cpu").generate(["a red circle left of a blue square"] * 2, seeds=11)
    for file, picture in zip(files, own, strict=True):
        with Image.open(file) as saved:
            assert np.abs(np.asarray(saved, int) - np.asarray(picture, int)).max() <= 1
            assert "prompt" in saved.info
        assert read_receipt(file).seed == 11
    assert len(ended["outputs"]["4"]["images"]) == 12


def test_an_interruption_stops_it(server: httpx.Client) -> None:
    number = started(server, steps=1000, batch_size=16, seed=12)
    _wait(lambda: server.get("/queue").json()["queue_running"], 60)
    time.sleep(2)
    server.post("/interrupt")
    ended = finished(server, number)
    assert "execution_interrupted" in json.dumps(ended["status"]["messages"])
    assert finished(server, started(server, seed=13))["status"]["status_str"] == "success"


def test_an_error_is_one_line(server: httpx.Client) -> None:
    ended = finished(server, started(server, width=33))
    messages = dict(ended["status"]["messages"])
    assert messages["execution_error"]["exception_message"].strip() == (
        "width must be a multiple of 8 for this model, not 33"
    )


def test_the_stand_in_has_the_signatures_of_comfyui(tmp_path: Path) -> None:
    """The arguments of what the nodes call, read from the source."""
    stand_in = ComfyUI(tmp_path).modules()
    for module, names in {
        "comfy.utils": ("ProgressBar.__init__", "ProgressBar.update_absolute"),
        "comfy.model_management": ("get_torch_device", "throw_exception_if_processing_interrupted"),
        "folder_paths": ("add_model_folder_path", "get_folder_paths", "get_output_directory", "get_save_image_path"),
    }.items():
        tree = ast.parse((SOURCE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        for name in names:
            ours: Any = stand_in[module]
            theirs: Any = tree
            for part in name.split("."):
                ours = getattr(ours, part)
                theirs = next(node for node in theirs.body if getattr(node, "name", "") == part)
            code = getattr(ours, "__func__", ours).__code__
            arguments = [argument for argument in code.co_varnames[: code.co_argcount] if argument != "self"]
            assert arguments == [argument.arg for argument in theirs.args.args if argument.arg != "self"], name
