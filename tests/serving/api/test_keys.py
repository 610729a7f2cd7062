"""Keys that come and go while the server runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from tests.serving.conftest import live, until

from tintype.serving.api import app
from tintype.serving.api.keys import Keys, read_keys
from tintype.serving.catalog import Catalog
from tintype.serving.server import with_keys
from tintype.serving.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.txt"
    path.write_text("key-of-ann\nkey-of-bob\n")
    return path


def test_a_key_keeps_its_owner_whatever_other_keys_come_and_go(file: Path) -> None:
    keys = Keys(read_keys(file), file)
    ann, bob = keys.owner(b"key-of-ann"), keys.owner(b"key-of-bob")
    file.write_text("key-of-eve\nkey-of-bob\n")
    keys.refresh()
    assert (keys.owner(b"key-of-ann"), keys.owner(b"key-of-bob")) == (None, bob)
    assert keys.owner(b"key-of-eve") not in (ann, bob, None)
    file.write_text("key-of-ann\n")
    keys.refresh()
    assert (keys.owner(b"key-of-ann"), keys.owner(b"key-of-eve")) == (ann, None)


@pytest.mark.parametrize("content", [b"", b"# none\n", b"short\n", b"\xff\xfe", None])
def test_a_file_that_cannot_be_used_changes_nothing_and_is_logged_once(
    content: bytes | None, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Keys(read_keys(file), file)
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    keys.refresh()
    keys.refresh()
    assert keys.owner(b"key-of-ann") is not None  # never open to everybody
    assert keys.owner(b"") is None
    assert [line.message for line in caplog.records] == ["the keys before stay valid"]


def test_a_server_looks_at_its_keys_and_models_again(
    file: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "REFRESH_SECONDS", 0.02)
    settings = with_keys(Settings(), file)
    with live(tiny_model, api_keys=settings.api_keys, api_key_file=settings.api_key_file) as server:

        def status(key: str) -> int:
            headers = {"Authorization": f"Bearer {key}"}
            return httpx.get(f"{server.url}/version", headers=headers, trust_env=False).status_code

        assert (status("key-of-ann"), status("key-of-eve")) == (200, 401)
        file.write_text("key-of-eve\n")
        until(lambda: status("key-of-eve") == 200)
        assert status("key-of-ann") == 401


def test_a_signal_looks_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys(read_keys(file), file)
    file.write_text("key-of-eve\n")

    async def run() -> None:
        wake = asyncio.Event()
        task = asyncio.create_task(app._refresh(Catalog([]), keys, wake))
        wake.set()
        while keys.owner(b"key-of-eve") is None:
            await asyncio.sleep(0.001)
        task.cancel()

    asyncio.run(asyncio.wait_for(run(), app.REFRESH_SECONDS / 2))
