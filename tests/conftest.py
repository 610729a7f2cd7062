"""Every test runs without a network and with the same examples each time."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before anything imports transformers, and for every process that a test starts.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# A fixed number of threads: training would take fewer on a busy machine, and end in other last bits. One is fastest for
# networks as small as those of the tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings
from safetensors.torch import save_file

from tintype.config import Config, NetConfig, SampleConfig, TextConfig
from tintype.model.denoiser import Denoiser
from tintype.model.nets.tokens import learn_tokenizer

# A shell starts background jobs with SIGINT ignored; tintype would rightly go on ignoring it, here and in processes.
signal.signal(signal.SIGINT, signal.default_int_handler)

SIZES = {"phone": (390, 844), "desktop": (1280, 900)}  # of windows, pixels
LOOPBACK = ("127.", "::1", "localhost")


def _refuse_network(method: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(LOOPBACK):
            raise RuntimeError(f"a test tried to reach {address[0]}: tests use no network")
        return method(self, address)

    return guarded


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--gpu-device", default="cuda", metavar="NAME", help="device of tests marked gpu (cuda)")


def pytest_configure() -> None:
    socket.socket.connect = _refuse_network(socket.socket.connect)  # type: ignore[method-assign]
    socket.socket.connect_ex = _refuse_network(socket.socket.connect_ex)  # type: ignore[method-assign]
    settings.register_profile("tintype", deadline=None, derandomize=True, database=None)
    settings.load_profile("tintype")


@pytest.fixture(scope="session")
def data_sets() -> Path:
    """The folder of data sets for tests marked needs_data; they are skipped where there is none."""
    folder = os.environ.get("TINTYPE_TEST_DATA")
    if not folder:
        pytest.skip("TINTYPE_TEST_DATA names no folder of data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def gpu(pytestconfig: pytest.Config) -> torch.device:
    """The device of tests marked gpu; they are skipped where it is not there."""
    device = torch.device(pytestconfig.getoption("--gpu-device"))
    if device.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no GPU")
    return device


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The CPU, and with `-m gpu` the GPU: for what must hold on both."""
    return torch.device("cpu") if request.param == "cpu" else request.getfixturevalue("gpu")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of 16x16 pixels with random weights, stored as float16, and a vocabulary of its own."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    captions = ["a red circle", "a blue square left of a green star", "ein Haus am See", "東京"]
    tokenizer, vocabulary = learn_tokenizer(captions, 300)
    config = Config(
        preset="nano",
        net=NetConfig(resolution=16, patch=4, width=32, depth=1, heads=2, stem_width=16, text_depth=1),
        text=TextConfig(encoder="learned", vocabulary=vocabulary, embedding_dim=32, max_tokens=16),
        sample=SampleConfig(steps=4),
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        denoiser = Denoiser(config, tokenizer)
        for weight in denoiser.parameters():  # a fresh network says 0 whatever the caption
            weight.add_(0.1 * torch.randn_like(weight))
    save_file({name: tensor.half() for name, tensor in denoiser.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(config.to_json(), encoding="utf-8")
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window; whoever wants it is skipped where it, or the extra `browser`, is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra browser")
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next((path for name in names if (path := shutil.which(name)) is not None), None)
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()
