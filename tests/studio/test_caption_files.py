"""Captions as text files in a zip, with copies of the pictures on request; a person's own files stay as they are."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from fastapi.testclient import TestClient
from tests.studio.conftest import CAPTIONS, picture

from tintype.data.sources.find import find_pairs
from tintype.studio.caption_files import PIECE, caption_zip
from tintype.studio.dataset import DataSet
from tintype.studio.places import Places
from tintype.studio.scan import scan

URL = "/api/studio/datasets/squares"


def downloaded(client: TestClient, query: str = "") -> dict[str, bytes]:
    answer = client.get(f"{URL}/captions.zip{query}")
    assert "attachment" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_captions_come_as_text_files(client: TestClient, dataset: DataSet, root: Path) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    client.post(f"{URL}/captions", json={"op": "append", "text": "drawn"})
    assert downloaded(client) == {
        **{f"{color}.txt": f"{caption}, drawn\n".encode() for color, caption in CAPTIONS.items()},
        "more/yellow_star.txt": b"drawn\n",
    }
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_pictures_and_captions_are_a_data_set_of_their_own(
    client: TestClient, dataset: DataSet, root: Path, tmp_path: Path
) -> None:
    rows = client.get(f"{URL}/captions").json()["pictures"]
    left_out = next(row["row"] for row in rows if row["path"] == "green.png")
    client.post(f"{URL}/captions", json={"op": "use", "use": False, "rows": [left_out]})
    (root / "Pictures" / "squares" / "blue.png").unlink()
    files = downloaded(client, "?pictures=true")
    assert set(files) == {"blue.txt", "red.png", "red.txt", "more/yellow_star.png"}
    for name, content in files.items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(content)
    assert [pair.captions for pair in find_pairs(tmp_path / "copy")[0]] == [("a red square",)]


def test_two_pictures_of_one_name_have_two_text_files(
    client: TestClient, dataset: DataSet, places: Places, root: Path
) -> None:
    picture(root / "Pictures" / "squares" / "red.bmp", "orange")
    list(scan(dataset, places))
    client.post(f"{URL}/captions", json={"op": "names", "from": "file", "only_empty": False})
    assert {"red.png.txt", "red.bmp.txt", "blue.txt"} <= set(downloaded(client))


def test_a_large_picture_is_sent_piece_by_piece(dataset: DataSet, places: Places, root: Path) -> None:
    with (root / "Pictures" / "squares" / "red.png").open("ab") as file:
        file.write(bytes(5 * PIECE))
    assert max(map(len, caption_zip(dataset, places, pictures=True))) < 2 * PIECE
