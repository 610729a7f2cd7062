"""`tintype push` publishes what an export wrote and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tintype.cli.main import main
from tintype.errors import CheckpointError, ConfigError
from tintype.export.forms import export_model
from tintype.export.push import push


class FakeHub:
    """In place of huggingface_hub.HfApi: keeps what it is asked to do."""

    created: list[tuple[str, Any]]
    files: dict[str, bytes]

    def __init__(self, **_: object) -> None:
        pass

    def create_repo(self, name: str, *, private: bool | None, exist_ok: bool) -> None:
        assert exist_ok
        self.created.append((name, private))

    def list_repo_files(self, name: str) -> list[str]:
        return list(self.files)

    def create_commit(self, name: str, operations: list[Any], *, commit_message: str) -> SimpleNamespace:
        for operation in operations:
            if type(operation).__name__ == "CommitOperationDelete":
                del self.files[operation.path_in_repo]
            else:
                with operation.as_file() as file:
                    self.files[operation.path_in_repo] = file.read()
        return SimpleNamespace(repo_url=f"https://hub.example/{name}")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    fake = type("Hub", (FakeHub,), {"created": [], "files": {".gitattributes": b"", "components.json": b"{}"}})
    monkeypatch.setattr("huggingface_hub.HfApi", fake)
    return fake


@pytest.fixture
def exported(tiny_model: Path, tmp_path: Path) -> Path:
    return export_model(tiny_model, tmp_path / "tiny", license="MIT", examples=["a red circle"])


def test_the_export_is_published_with_its_name_in_the_card(
    hub: Any, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(exported), "ann/tiny"]) == 0
    assert capsys.readouterr().out == "https://hub.example/ann/tiny\n"
    assert hub.created == [("ann/tiny", None)]
    local = {file.relative_to(exported).as_posix() for file in exported.rglob("*") if file.is_file()}
    assert set(hub.files) == local | {".gitattributes"}  # components.json was of an earlier model
    card = hub.files["README.md"].decode()
    assert "--model hf:ann/tiny\n" in card
    assert "OWNER" not in card
    assert hub.files["model.safetensors"] == (exported / "model.safetensors").read_bytes()


def test_code_of_an_earlier_push_does_not_stay(hub: Any, exported: Path, tiny_model: Path, tmp_path: Path) -> None:
    push(export_model(tiny_model, tmp_path / "code", to="diffusers", license="MIT"), "ann/tiny")
    assert {"pipeline.py", "denoiser/model.py", "model_index.json"} <= set(hub.files)
    push(exported, "ann/tiny")
    assert not [name for name in hub.files if name.endswith(".py") or name == "model_index.json"]


def test_a_new_repository_may_be_private(hub: Any, exported: Path) -> None:
    push(exported, "hf:ann/tiny", private=True)
    assert hub.created == [("ann/tiny", True)]


def test_only_what_an_export_wrote_is_published(hub: Any, exported: Path, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no export, and may hold captions, pictures and paths"):
        push(tiny_model, "ann/tiny")
    with pytest.raises(CheckpointError, match="is not a folder"):
        push(tmp_path / "none", "ann/tiny")
    (exported / "samples" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"no export wrote \(samples/notes.txt\)"):
        push(exported, "ann/tiny")
    (exported / "samples" / "notes.txt").unlink()
    (exported / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"lacks tokenizer\.json"):
        push(exported, "ann/tiny")
    (tmp_path / "secret").write_text("mine")
    (exported / "tokenizer.json").symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match=r"lacks tokenizer\.json"):
        push(exported, "ann/tiny")
    assert hub.created == []


def test_a_run_that_was_exported_into_is_refused(hub: Any, exported: Path, tmp_path: Path) -> None:
    (exported / "checkpoints").mkdir()
    shutil.copy(exported / "config.json", exported / "checkpoints" / "log.jsonl")
    with pytest.raises(CheckpointError, match=r"checkpoints/log\.jsonl"):
        push(exported, "ann/tiny")


@pytest.mark.parametrize("name", ["tiny", "ann/", "ann/tiny/more", "https://huggingface.co/ann/tiny", "ann/a b"])
def test_another_name_is_refused(name: str, hub: Any, exported: Path) -> None:
    with pytest.raises(ConfigError, match="a repository is OWNER/NAME"):
        push(exported, name)


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "log in first, with hf auth login"), (403, "your login may not write there"), (None, "no network")],
)
def test_an_error_says_what_to_do(
    status: int | None, message: str, hub: Any, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object, *_: object, **__: object) -> None:
        error = OSError("no network")
        error.response = SimpleNamespace(status_code=status)  # type: ignore[attr-defined]
        raise error

    monkeypatch.setattr(hub, "create_repo", refuse)
    with pytest.raises(CheckpointError, match=f"cannot publish ann/tiny: {message}"):
        push(exported, "ann/tiny")
