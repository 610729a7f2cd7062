"""Uploads: chunks, cut connections, hashes, limits, a full disk, and archives that would do harm."""

from __future__ import annotations

import errno
import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tests.studio.conftest import TOKEN, client_of, code

from tintype.data.sources.find import find_pairs
from tintype.studio import uploads
from tintype.studio.access import HEADER
from tintype.studio.dataset import open_dataset, write_version
from tintype.studio.places import Places
from tintype.studio.scan import scan
from tintype.studio.studio import Studio
from tintype.studio.trash import size_of

OCTETS = {"Content-Type": "application/octet-stream"}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def png(color: str = "red", side: int = 40) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), color).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def mine(client: TestClient) -> str:
    """The identifier of a data set for uploads."""
    number: str = client.post("/api/studio/datasets", json={"name": "Mine"}).json()["dataset"]["id"]
    return number


def put(client: TestClient, mine: str, path: str, content: bytes, sha256: str = "") -> Any:
    query = {"path": path, "sha256": sha256 or digest(content)}
    return client.put(f"/api/studio/datasets/{mine}/files", params=query, content=content, headers=OCTETS)


def send(client: TestClient, number: str, offset: int, content: bytes, sha256: str = "") -> Any:
    query = {"offset": str(offset), "sha256": sha256 or digest(content)}
    return client.put(f"/api/studio/uploads/{number}", params=query, content=content, headers=OCTETS)


def test_small_files_in_one_request(client: TestClient, mine: str, places: Places) -> None:
    content = png()
    for _ in range(2):  # again is no error
        assert put(client, mine, "cats/a.png", content).json() == {
            "path": "cats/a.png",
            "bytes": len(content),
            "sha256": digest(content),
        }
    assert (places.datasets / mine / "uploaded" / "cats" / "a.png").read_bytes() == content
    assert client.get(f"/api/studio/datasets/{mine}").json()["stale"] is True
    assert put(client, mine, "cats/a.txt", b"a red cat").status_code == 200
    dataset = open_dataset(places.datasets / mine)
    assert dataset is not None
    list(scan(dataset, places))
    (pair,) = find_pairs(write_version(dataset, places))[0]
    assert pair.captions == ("a red cat",)
    described = client.get(f"/api/studio/datasets/{mine}").json()
    assert (described["stale"], described["captioned"]) == (False, 1)


def test_a_version_keeps_a_picture_that_is_sent_again(client: TestClient, mine: str, places: Places) -> None:
    """A paused run resumes with the picture that it began with, and no link leads out of its data."""
    dataset = open_dataset(places.datasets / mine)
    assert dataset is not None
    contents = [png("red"), png("blue")]
    versions = []
    for content in contents:
        put(client, mine, "cat.png", content)
        put(client, mine, "cat.txt", b"a cat")
        list(scan(dataset, places))
        versions.append(write_version(dataset, places))
    assert [find_pairs(version)[0][0].source.read() for version in versions] == contents
    assert all(problem.left_out for version in versions for problem in find_pairs(version)[1])
    assert size_of(dataset.home / "data") < 2 * sum(map(len, contents)) + 1000


def test_what_is_refused(client: TestClient, mine: str, places: Places) -> None:
    content = png()
    assert code(put(client, mine, "../a.png", content)) == (400, "name_not_allowed")
    assert code(put(client, mine, "a.exe", content)) == (415, "unsupported_file")
    assert code(put(client, mine, "a.png", content, "0" * 64)) == (400, "wrong_hash")
    assert code(put(client, mine, "a.png", b"")) == (413, "file_too_large")
    assert code(put(client, mine, "a.png", bytes(1001))) == (413, "request_too_large")
    assert put(client, mine, "a.png", content).status_code == 200
    assert code(put(client, mine, "a.png/b.png", content)) == (400, "name_not_allowed")
    files = [path for path in (places.datasets / mine / "uploaded").rglob("*") if path.is_file()]
    assert [path.name for path in files] == ["a.png"]  # nothing is left of the others


def test_a_folder_of_this_machine_takes_no_uploads(client: TestClient, dataset: object) -> None:
    assert code(put(client, "squares", "a.png", png())) == (409, "not_possible")


def test_a_large_file_goes_on_after_a_cut(studio_of: Callable[..., Studio], places: Places) -> None:
    """A connection is cut in the middle of a chunk, the page is loaded anew, the server starts anew."""
    content = bytes(i * 7 % 251 for i in range(10_500))
    studio = studio_of()
    client = client_of(studio, **{HEADER: TOKEN})
    mine = client.post("/api/studio/datasets", json={"name": "Mine"}).json()["dataset"]["id"]
    begin = {"path": "all.zip", "size": len(content)}
    url = f"/api/studio/datasets/{mine}/uploads"
    number = client.post(url, json=begin).json()["id"]
    for offset in range(0, 4000, 1000):
        assert send(client, number, offset, content[offset : offset + 1000]).json()["offset"] == offset + 1000
    assert code(send(client, number, 4000, content[4000:4500], digest(content[4000:5000]))) == (400, "wrong_hash")
    again = send(client, number, 3000, content[3000:4000])  # whose answer was lost
    assert (code(again), again.json()["offset"]) == ((409, "wrong_offset"), 4000)
    assert client.post(url, json=begin).json() | {"chunk_bytes": 0} == {
        **begin,
        "id": number,
        "offset": 4000,
        "chunk_bytes": 0,
    }
    early = client.post(f"/api/studio/uploads/{number}/finish", json={})
    assert (code(early), early.json()["offset"]) == ((409, "incomplete"), 4000)
    studio.close()
    client = client_of(studio_of(), **{HEADER: TOKEN})
    offset = client.get(f"/api/studio/uploads/{number}").json()["offset"]
    while offset < len(content):
        offset = send(client, number, offset, content[offset : offset + 1000]).json()["offset"]
    assert code(send(client, number, offset, b"more")) == (400, "invalid_value")
    wrong = client.post(f"/api/studio/uploads/{number}/finish", json={"sha256": "0" * 64})
    assert code(wrong) == (400, "wrong_hash")
    done = client.post(f"/api/studio/uploads/{number}/finish", json={"sha256": digest(content)})
    assert done.json() == {"path": "all.zip", "bytes": len(content), "sha256": digest(content)}
    assert (places.datasets / mine / "uploaded" / "all.zip").read_bytes() == content
    assert code(client.get(f"/api/studio/uploads/{number}")) == (404, "upload_not_found")
    assert not list((places.datasets / mine / "uploaded" / ".uploads").iterdir())


def test_sizes_up_to_the_limit_of_archives_are_taken(client: TestClient, mine: str, studio: Studio) -> None:
    """Offsets beyond 2 GiB: the part is a sparse file that stands for what has arrived."""
    size = 2**31 + 10
    number = client.post(f"/api/studio/datasets/{mine}/uploads", json={"path": "all.zip", "size": size}).json()["id"]
    part = studio.places.datasets / mine / "uploaded" / ".uploads" / f"{number}.part"
    with part.open("r+b") as file:
        file.truncate(2**31)
    assert send(client, number, 2**31, b"0123456789").json() == {"offset": size, "size": size}
    assert client.delete(f"/api/studio/uploads/{number}").status_code == 204
    assert not part.exists()
    too_large = {"path": "all.zip", "size": 2**40}
    assert code(client.post(f"/api/studio/datasets/{mine}/uploads", json=too_large)) == (413, "file_too_large")


def test_a_full_disk_leaves_the_upload_as_it_was(
    client: TestClient, mine: str, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = {"path": "all.zip", "size": 2000}
    number = client.post(f"/api/studio/datasets/{mine}/uploads", json=begin).json()["id"]
    assert send(client, number, 0, bytes(1000)).status_code == 200

    def half(file: Any, content: bytes) -> None:
        file.write(content[:500])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(uploads, "_write", half)
        assert code(send(client, number, 1000, bytes(1000))) == (507, "disk_full")
    assert client.get(f"/api/studio/uploads/{number}").json()["offset"] == 1000
    assert send(client, number, 1000, bytes(1000)).json()["offset"] == 2000


def test_room_is_left_on_the_disk(studio_of: Callable[..., Studio]) -> None:
    client = client_of(studio_of(reserve=2**60), **{HEADER: TOKEN})
    mine = client.post("/api/studio/datasets", json={"name": "Mine"}).json()["dataset"]["id"]
    assert code(put(client, mine, "a.png", png())) == (507, "disk_full")
    begin = {"path": "a.zip", "size": 2000}
    assert code(client.post(f"/api/studio/datasets/{mine}/uploads", json=begin)) == (507, "disk_full")


def test_the_number_of_files_is_bounded(studio_of: Callable[..., Studio]) -> None:
    client = client_of(studio_of(files=2), **{HEADER: TOKEN})
    mine = client.post("/api/studio/datasets", json={"name": "Mine"}).json()["dataset"]["id"]
    for name in ("a.png", "b.png", "b.png"):
        assert put(client, mine, name, png()).status_code == 200
    assert code(put(client, mine, "c.png", png())) == (409, "too_many_files")


def packed(places: Places, mine: str, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(places.datasets / mine / "uploaded" / "pack.zip", "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content in members.items():
            pack.writestr(name, content)


def test_a_zip_file_writes_nothing_outside(client: TestClient, mine: str, places: Places, tmp_path: Path) -> None:
    """Members that would leave the folder, take each other's place, or are named as Windows forbids."""
    members = {
        "../../../../slip.png": png("red"),
        "/absolute.png": png("blue", 41),
        "C:\\drive.png": png("green", 42),
        "con.png": png("pink", 43),
        "same.png": png("black", 44),
        "SAME.png": png("white", 45),
        "good/cat.png": png("yellow", 46),
        "good/cat.txt": b"a yellow cat",
    }
    packed(places, mine, members)
    before = {path for path in tmp_path.rglob("*") if "studio" not in path.parts}
    dataset = open_dataset(places.datasets / mine)
    assert dataset is not None
    list(scan(dataset, places))
    assert {path for path in tmp_path.rglob("*") if "studio" not in path.parts} == before
    written = [path for path in dataset.unpacked.rglob("*") if path.is_file()]
    assert all(path.resolve().is_relative_to(dataset.unpacked) for path in written)
    pairs, _ = find_pairs(write_version(dataset, places))
    assert [pair.captions for pair in pairs] == [("a yellow cat",)]
    assert pairs[0].source.read() == members["good/cat.png"]
    rows = client.get(f"/api/studio/datasets/{mine}/captions").json()["pictures"]
    sizes = [len(client.get(f"/api/studio/datasets/{mine}/thumbnails/{row['row']}").content) > 100 for row in rows]
    assert all(sizes)


def test_links_in_a_zip_file_lead_nowhere(client: TestClient, mine: str, places: Places, tmp_path: Path) -> None:
    """A member that is a link to a picture outside: at most the text of the link is read, which is no picture."""
    Image.new("RGB", (40, 40), "purple").save(tmp_path / "secret.png")
    with zipfile.ZipFile(places.datasets / mine / "uploaded" / "pack.zip", "w") as pack:
        info = zipfile.ZipInfo("link.png")
        info.external_attr = 0o120777 << 16
        pack.writestr(info, str(tmp_path / "secret.png"))
        pack.writestr("good.png", png())
    dataset = open_dataset(places.datasets / mine)
    assert dataset is not None
    list(scan(dataset, places))
    assert not any(path.is_symlink() for path in dataset.unpacked.rglob("*"))
    secret = (tmp_path / "secret.png").read_bytes()
    assert all(path.read_bytes() != secret for path in dataset.unpacked.rglob("*") if path.is_file())
    assert not any(path.is_symlink() and path.resolve() == tmp_path / "secret.png" for path in dataset.home.rglob("*"))


def test_a_zip_bomb_is_not_unpacked(client: TestClient, mine: str, places: Places) -> None:
    """A member that unfolds to a gigabyte of zeros, and one that says it is smaller than it is."""
    path = places.datasets / mine / "uploaded" / "pack.zip"
    packed(places, mine, {"liar.png": bytes(10_000_000), "good.png": png()})
    content = path.read_bytes()
    path.write_bytes(content.replace((10_000_000).to_bytes(4, "little"), (600_000_000).to_bytes(4, "little")))
    dataset = open_dataset(places.datasets / mine)
    assert dataset is not None
    list(scan(dataset, places))
    rows = client.get(f"/api/studio/datasets/{mine}/captions").json()["pictures"]
    assert [row["path"] for row in rows] == ["pack.zip/good.png"]
    assert sum(file.stat().st_size for file in dataset.unpacked.rglob("*") if file.is_file()) < 1000
    assert "liar.png" in dataset.problems.read_text()
