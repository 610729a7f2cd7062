"""hf:OWNER/NAME: only when asked for by that name, only known files of bounded size, and from the cache offline."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.model.hub_server import local_hub

from tintype.cli.main import main
from tintype.errors import CheckpointError, MissingExtraError
from tintype.model import store
from tintype.pipeline.pipeline import Pipeline
from tintype.serving.catalog import Catalog

SHA = "b" * 40


class FakeHub:
    """In place of huggingface_hub.HfApi: repositories are folders, the cache has the layout of huggingface_hub."""

    root = Path()
    fetched: list[str]

    def __init__(self, **_: object) -> None:
        pass

    def model_info(self, repository: str, *, revision: str | None, files_metadata: bool) -> SimpleNamespace:
        folder = self.root / repository
        if not folder.is_dir():
            raise type("RepositoryNotFoundError", (OSError,), {})("404")
        files = [file for file in folder.rglob("*") if file.is_file()]
        return SimpleNamespace(
            sha=SHA,
            siblings=[
                SimpleNamespace(rfilename=file.relative_to(folder).as_posix(), size=file.stat().st_size)
                for file in files
            ],
        )

    def hf_hub_download(self, repository: str, file: str, *, revision: str | None) -> str:
        copy = cached(self.root.parent / "cache", repository) / file
        if not copy.exists():
            self.fetched.append(file)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.root / repository / file, copy)
        return str(copy)


def cached(cache: Path, repository: str) -> Path:
    """The folder of a repository's commit in the cache of huggingface_hub, with a reference to it from `main`."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(SHA)
    return folder / "snapshots" / SHA


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hub with the repository ann/tiny, in which there is more than a model."""
    fake = type("Hub", (FakeHub,), {"root": tmp_path / "hub", "fetched": []})
    monkeypatch.setattr("huggingface_hub.HfApi", fake)
    folder = shutil.copytree(tiny_model, tmp_path / "hub" / "ann" / "tiny")
    (folder / "pipeline.py").write_text("raise SystemExit('run')")
    (folder / "optimizer.safetensors").write_bytes(b"x")
    return fake


def test_a_model_is_loaded_by_its_name_and_only_known_files_are_fetched(hub: Any, tiny_model: Path) -> None:
    pipeline = Pipeline.load("hf:ann/tiny", "cpu")
    assert sorted(hub.fetched) == ["config.json", "model.safetensors", "tokenizer.json"]
    (picture,) = pipeline.generate("a red circle")
    assert picture.tobytes() == Pipeline.load(tiny_model, "cpu").generate("a red circle")[0].tobytes()
    assert pipeline.receipts(pipeline.request("a red circle"))[0].model == "hf:ann/tiny"
    Pipeline.load("hf:ann/tiny@main", "cpu")
    assert len(hub.fetched) == 3


def test_offline_the_cache_is_used(cache: Path, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, cached(cache, "ann/tiny"))
    assert store.find("hf:ann/tiny").folder == cached(cache, "ann/tiny")
    assert Pipeline.load("hf:ann/tiny", "cpu").name == "hf:ann/tiny"


@pytest.mark.parametrize("missing", [None, "model.safetensors"])
def test_what_is_not_in_the_cache_offline_is_said(missing: str | None, cache: Path, tiny_model: Path) -> None:
    if missing is not None:
        shutil.copytree(tiny_model, cached(cache, "ann/tiny"))
        (cached(cache, "ann/tiny") / missing).unlink()
    with pytest.raises(CheckpointError, match="hf:ann/tiny is not on this machine, and the Hugging Face Hub cannot be"):
        store.find("hf:ann/tiny")


@pytest.mark.parametrize(
    "name", ["hf:tiny", "hf:", "hf:ann/tiny/x", "hf:../tiny", "hf:ann/..", "hf:ann/tiny@", "hf:a b/c"]
)
def test_another_name_is_refused_before_anything_is_asked(name: str, hub: Any) -> None:
    with pytest.raises(CheckpointError, match="is not hf:OWNER/NAME"):
        store.find(name)
    assert hub.fetched == []


def test_an_unknown_repository_is_said(hub: Any) -> None:
    with pytest.raises(CheckpointError, match="hf:ann/none is not on the Hugging Face Hub, or is private"):
        store.find("hf:ann/none")


def test_a_repository_of_another_kind_is_no_model(hub: Any) -> None:
    folder = hub.root / "ann" / "bert"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match=r"is no Tintype model: it has no model\.safetensors"):
        store.find("hf:ann/bert")
    (folder / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"is no Tintype model: config\.json is not of format"):
        store.find("hf:ann/bert")
    assert hub.fetched == ["config.json"]


def test_files_that_are_too_large_are_not_fetched(hub: Any) -> None:
    folder = hub.root / "ann" / "tiny"
    with (folder / "model.safetensors").open("ab") as file:
        file.truncate(2**30)
    with pytest.raises(CheckpointError, match=r"its weights do not fit its config\.json"):
        store.find("hf:ann/tiny")
    with (folder / "tokenizer.json").open("ab") as file:
        file.truncate(2**26)
    hub.fetched.clear()
    with pytest.raises(CheckpointError, match=r"its tokenizer\.json is larger than 16 MB"):
        store.find("hf:ann/tiny")
    assert hub.fetched == []


def test_an_error_of_the_network_in_between_is_one_line(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, *_: object, **__: object) -> None:
        raise ConnectionResetError("reset\nby peer")

    monkeypatch.setattr(hub, "hf_hub_download", fail)
    with pytest.raises(CheckpointError, match="hf:ann/tiny cannot be fetched: reset by peer"):
        store.find("hf:ann/tiny")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tintype\[hub\]'"):
        store.find("hf:ann/tiny")


def test_a_picture_never_fetches_a_model(hub: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = str(tmp_path / "circle.png")
    arguments = ["--no-preview", "--device", "cpu", "--output"]
    assert main(["generate", "a red circle", "--model", "hf:ann/tiny", *arguments, picture]) == 0
    shutil.rmtree(tmp_path / "cache")
    hub.fetched.clear()
    again = str(tmp_path / "again.png")
    assert main(["redo", picture, *arguments, again]) == 1
    assert "add --model hf:ann/tiny to use it" in capsys.readouterr().err
    assert hub.fetched == []
    assert main(["redo", picture, "--model", "hf:ann/tiny", *arguments, again]) == 0
    assert hub.fetched


def test_a_server_fetches_a_model_once(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog(["hf:ann/tiny"], "cpu")
    assert list(catalog.pipelines) == ["tiny"]
    monkeypatch.setattr("huggingface_hub.HfApi", None)
    assert catalog.refresh() == []


@pytest.mark.slow
def test_the_client_itself_fetches_from_a_hub_and_finds_it_in_its_cache(hub: Any, tmp_path: Path) -> None:
    code = (
        "import sys, tintype; print(*tintype.Pipeline.load(sys.argv[1], 'cpu').generate('a star')[0].getpixel((3, 3)))"
    )

    def load(endpoint: str) -> str:
        variables = {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
        variables["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
        done = subprocess.run(
            [sys.executable, "-c", code, "hf:ann/tiny"], env={**os.environ, **variables}, capture_output=True, text=True
        )
        return done.stdout or done.stderr

    with local_hub(hub.root) as (address, asked):
        color = load(address)
        assert sorted(asked) == ["config.json", "model.safetensors", "tokenizer.json"]
        assert load(address) == color
        assert len(asked) == 3
    assert load(address) == color  # nobody answers there any more
    assert color.count(" ") == 2, color
