"""The studio is for whoever has its token, on a page of this server, and for paths below its root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.studio.conftest import TOKEN, client_of, code

from tintype.errors import ConfigError
from tintype.serving.settings import Settings
from tintype.studio.access import HEADER, Access
from tintype.studio.extension import open_studio
from tintype.studio.places import Places, id_of, safe_parts
from tintype.studio.studio import Studio
from tintype.studio.uploads import UploadLimits


@pytest.fixture
def stranger(studio: Studio) -> TestClient:
    return client_of(studio)


def test_nothing_without_the_token(stranger: TestClient) -> None:
    for method, path in (
        ("GET", "/api/studio"),
        ("GET", "/api/studio/folders"),
        ("POST", "/api/studio/datasets"),
        ("PUT", "/api/studio/datasets/squares/files?path=a.png&sha256=" + "0" * 64),
        ("POST", "/api/studio/runs"),
        ("DELETE", "/api/studio/runs/a"),
    ):
        assert code(stranger.request(method, path, headers={HEADER: "wrong"})) == (401, "token_needed"), path
        assert code(stranger.request(method, path)) == (401, "token_needed"), path
    assert stranger.get("/studio/here").json() == {"studio": True}


def test_the_link_sets_a_cookie_that_opens_the_studio(stranger: TestClient, studio: Studio) -> None:
    assert code(stranger.get("/studio?token=wrong")) == (403, "invalid_token")
    answer = stranger.get(f"/studio?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/#studio")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in answer.headers["location"]
    assert stranger.get("/api/studio").status_code == 200  # the client keeps the cookie


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_other_sites_and_ports_may_not_use_it(client: TestClient, headers: dict[str, str]) -> None:
    assert code(client.get("/api/studio", headers=headers)) == (403, "origin_not_allowed")
    assert code(client.post("/api/studio/datasets", json={"name": "a"}, headers=headers))[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "192.168.1.5:8000", "127.0.0.1.evil.example", "[2001:db8::1]:8000"])
def test_other_host_names_are_refused(client: TestClient, host: str) -> None:
    assert code(client.get("/api/studio", headers={"Host": host})) == (403, "host_not_allowed")
    assert code(client.get(f"/studio?token={TOKEN}", headers={"Host": host})) == (403, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost:8000", "[::1]:8000", "tintype.localhost"])
def test_names_of_this_machine_are_its_own(client: TestClient, host: str) -> None:
    assert client.get("/api/studio", headers={"Host": host}).status_code == 200


def test_a_studio_on_a_network_needs_keys(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--api-key-file"):
        open_studio(Settings(host="0.0.0.0"), tmp_path, tmp_path / "studio")
    opened = open_studio(Settings(host="0.0.0.0", api_keys=("a-long-key",)), tmp_path, tmp_path / "studio")
    opened.studio.close()


def test_on_a_network_neither_the_token_nor_a_key_is_enough(studio: Studio) -> None:
    bearer = {"Authorization": "Bearer a-long-key"}
    client = client_of(studio, api_keys=("a-long-key",))
    for path in ("/api/studio", f"/studio?token={TOKEN}", "/studio/here"):
        assert code(client.get(path, headers={HEADER: TOKEN})) == (401, "invalid_api_key"), path
    assert code(client.get("/api/studio", headers=bearer)) == (401, "token_needed")
    assert client.get("/api/studio", headers={HEADER: TOKEN, **bearer}).status_code == 200


def test_two_servers_cannot_share_a_studio(places: Places, studio: Studio) -> None:
    with pytest.raises(ConfigError, match="another studio"):
        Studio(places, Access(), UploadLimits())


def test_the_token_is_new_every_time() -> None:
    assert Access().token != Access().token
    assert len(Access().token) >= 32


@pytest.mark.parametrize(
    "path",
    [
        *("..", "../outside", "Pictures/../../outside", "/etc", "//etc", "Pictures/./squares", "Pictures//squares"),
        *("out", "out/inner", "Pictures/back", ".hidden", "Pictures/.hidden", "a\0b", "loop", "x" * 5000),
    ],
)
def test_no_folder_outside_the_root(client: TestClient, root: Path, path: str) -> None:
    (root.parent / "outside" / "inner").mkdir(parents=True)
    (root / ".hidden").mkdir()
    (root / "Pictures" / ".hidden").mkdir()
    (root / "out").symlink_to(root.parent / "outside")
    (root / "Pictures" / "back").symlink_to("../../outside")
    (root / "loop").symlink_to("loop")
    answer = client.get("/api/studio/folders", params={"path": path})
    assert code(answer) == (404, "folder_not_found")
    body = {"name": "a", "folder": path}
    assert client.post("/api/studio/datasets", json=body).status_code in (400, 404)


def test_folders_show_only_what_is_below_the_root(client: TestClient, root: Path) -> None:
    (root.parent / "outside").mkdir()
    (root / "out").symlink_to(root.parent / "outside")
    (root / "in").symlink_to(root / "Pictures")
    (root / ".hidden").mkdir()
    (root / "pack.zip").write_bytes(b"PK")
    listing = client.get("/api/studio/folders").json()
    assert [entry["path"] for entry in listing["folders"]] == ["in", "Pictures"]
    assert listing["archives"] == [{"name": "pack.zip", "path": "pack.zip", "bytes": 2}]
    assert listing["parent"] is None
    inner = client.get("/api/studio/folders", params={"path": "Pictures/squares"}).json()
    assert (inner["pictures"], inner["captions"], inner["parent"]) == (3, 3, "Pictures")


@pytest.mark.parametrize(
    "name",
    [
        *("../a.png", "a/../../b.png", "/a.png", "a//b.png", "./a.png", "", "a\\b.png", "..\\a.png", "C:a.png"),
        *("CON", "con.png", "nul.txt", "COM1.png", "a./b.png", "a /b.png", "a:b.png", ".hidden.png", "a/.b/c.png"),
        *("a\nb.png", "a\0b.png", "x" * 252 + ".png", "/".join("a" * 17), "a\u202eb.png", "a\ud800.png"),
    ],
)
def test_unsafe_names_are_refused(name: str) -> None:
    assert safe_parts(name) is None


def test_safe_names_are_kept() -> None:
    assert safe_parts("cats/Ä b (1).png") == ("cats", "Ä b (1).png")
    assert safe_parts("猫/写真.jpg") == ("猫", "写真.jpg")
    assert safe_parts("console.png") == ("console.png",)


def test_identifiers_are_plain() -> None:
    assert [id_of(name) for name in ("My Cats!", "Ölbilder", "猫", "CON", "a" * 99)] == [
        *("my-cats", "olbilder", "pictures", "pictures", "a" * 60)
    ]


@pytest.mark.parametrize("number", ["%2e%2e", "SQUARES", "squares.json", "-", "a" * 300])
def test_identifiers_are_no_paths(client: TestClient, number: str) -> None:
    assert client.get(f"/api/studio/datasets/{number}").status_code == 404
    assert client.post(f"/api/studio/runs/{number}/stop", json={}).status_code in (404, 405)
    assert client.delete(f"/api/studio/trash/{number}").status_code in (404, 405)


def test_a_picture_that_becomes_a_link_out_is_not_shown(
    client: TestClient, dataset: object, root: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.png"
    (root / "Pictures" / "squares" / "red.png").rename(secret)
    rows = client.get("/api/studio/datasets/squares/captions").json()["pictures"]
    row = next(row["row"] for row in rows if row["path"] == "red.png")
    os.symlink(secret, root / "Pictures" / "squares" / "red.png")
    assert code(client.get(f"/api/studio/datasets/squares/thumbnails/{row}")) == (404, "picture_not_found")
