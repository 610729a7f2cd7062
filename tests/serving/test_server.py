"""`tintype serve` as a process: it listens here only, answers, and stops in order."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.serving.conftest import until

from tintype.cli.main import main
from tintype.errors import ConfigError
from tintype.serving.api.keys import read_keys
from tintype.serving.server import warnings_of
from tintype.serving.settings import Settings


class Process:
    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "tintype", "serve", *arguments, "--port", "0", "--max-batch", "4"]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert self.process.stderr is not None
        self.lines: list[str] = []
        for line in self.process.stderr:
            self.lines.append(line)
            address = re.search(r"http://\S+:(\d+)", line)
            if address:
                self.url = f"http://127.0.0.1:{address[1]}"
                break

    def healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture
def process(tiny_model: Path) -> Iterator[Process]:
    started = Process(str(tiny_model), "--device", "cpu")
    yield started
    started.process.kill()
    started.process.communicate()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals as on Unix")
def test_it_answers_and_finishes_what_runs_when_it_is_terminated(
    process: Process, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    until(process.healthy, 60)
    process.process.send_signal(signal.SIGHUP)  # looks for changes, and goes on
    assert main(["serve", str(tiny_model), "--port", process.url.rpartition(":")[2]]) == 1  # the port is taken
    message = capsys.readouterr().err
    assert "cannot listen" in message
    assert message.count("\n") == 1
    with httpx.Client(base_url=process.url, trust_env=False, timeout=30) as http:
        assert "<title>Tintype</title>" in http.get("/").text
        assert http.post("/v1/images/generations", json={"prompt": "a", "steps": 2}).status_code == 200
        with http.stream(
            "POST", "/v1/images/generations", json={"prompt": "a", "steps": 150, "stream": True, "preview_every": 1}
        ) as answer:
            lines = answer.iter_lines()
            assert any(line.startswith("event: image_generation.partial") for line in lines)
            process.process.send_signal(signal.SIGTERM)
            assert any(line.startswith("event: image_generation.completed") for line in lines)
    assert process.process.wait(30) == 143
    assert process.process.stderr is not None
    assert "Traceback" not in process.process.stderr.read()


def test_a_model_that_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "no-such-model", "--port", "0"]) == 1
    assert "no model" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "tintype.serving.server")
    assert main(["serve"]) == 1
    assert "pip install 'tintype[serve]'" in capsys.readouterr().err


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# mine\nfirst-key-1\n\n  second-key  \nfirst-key-1\n")
    assert read_keys(path) == ("first-key-1", "second-key")
    for wrong in ("", "# nothing\n", "short\n", "two words here\n"):
        path.write_text(wrong)
        with pytest.raises(ConfigError):
            read_keys(path)
    with pytest.raises(ConfigError):
        read_keys(tmp_path / "missing")


@pytest.mark.parametrize(
    ("host", "keys", "warned"),
    [("127.0.0.1", (), False), ("::1", (), False), ("localhost", (), False), ("0.0.0.0", (), True), ("::", (), True),
     ("192.168.1.5", (), True), ("0.0.0.0", ("a-long-key",), False)],
)  # fmt: skip
def test_being_open_to_the_network_without_a_key_is_said_loudly(host: str, keys: tuple[str, ...], warned: bool) -> None:
    warnings = warnings_of(Settings(host=host, api_keys=keys))
    assert bool(warnings) == warned
    assert all("ANYONE" in line for line in warnings)
