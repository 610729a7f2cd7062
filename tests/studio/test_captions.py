"""Captions: windows, searches, edits, undo; a person's own files stay as they are."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.studio.conftest import CAPTIONS, code, picture

from tintype.data.sources.find import find_pairs
from tintype.studio.dataset import DataSet, write_version
from tintype.studio.edits import apply, given, replaced, undo
from tintype.studio.places import Places
from tintype.studio.scan import scan
from tintype.studio.table import Selection, Table, search_columns

URL = "/api/studio/datasets/squares"


def captions(client: TestClient, **query: object) -> dict[str, str]:
    found = client.get(f"{URL}/captions", params={key: str(value) for key, value in query.items()}).json()
    return {row["path"]: row["caption"] for row in found["pictures"]}


def edit(client: TestClient, **body: object) -> int:
    answer = client.post(f"{URL}/captions", json=body).json()
    return 0 if answer["edit"] is None else answer["edit"]["changed"]


def test_a_scan_lists_pictures_with_and_without_captions(client: TestClient, dataset: DataSet) -> None:
    assert captions(client) == {**{f"{c}.png": text for c, text in CAPTIONS.items()}, "more/yellow_star.png": ""}
    described = client.get(URL).json()
    assert (described["pictures"], described["captioned"], described["empty"]) == (4, 3, 1)
    assert captions(client, filter="empty") == {"more/yellow_star.png": ""}
    assert captions(client, q="BLUE") == {"blue.png": "a blue square"}
    assert captions(client, q="more/") == {"more/yellow_star.png": ""}
    assert list(captions(client, offset=1, limit=2)) == ["green.png", "more/yellow_star.png"]


def test_all_rows_of_a_search_and_what_each_filter_would_keep(client: TestClient, dataset: DataSet) -> None:
    every = client.get(f"{URL}/captions/rows").json()
    assert len(every["rows"]) == 4
    assert {name: every["counts"][name] for name in ("all", "empty", "repeated", "edited", "left_out")} == {
        "all": 4,
        "empty": 1,
        "repeated": 0,
        "edited": 0,
        "left_out": 0,
    }
    assert every["counts"]["unread"] is None  # nobody looked at the captions yet
    blue = client.get(f"{URL}/captions/rows", params={"q": "BLUE"}).json()["rows"]
    assert captions(client, rows=f"{blue[0]}") == {"blue.png": "a blue square"}
    assert len(captions(client, rows=",".join(map(str, every["rows"])))) == 4
    assert client.get(f"{URL}/captions/rows").json()["counts"]["unread"] == 0
    assert edit(client, op="set", caption="the same", rows=every["rows"][:2]) == 2
    assert client.get(f"{URL}/captions/rows", params={"filter": "repeated"}).json()["rows"] == every["rows"][:2]
    assert client.get(f"{URL}/captions", params={"rows": "1,a"}).status_code == 400


def test_edits_and_their_undo(client: TestClient, dataset: DataSet, root: Path) -> None:
    before = captions(client)
    assert edit(client, op="replace", find="SQUARE", **{"with": "box"}) == 3
    assert edit(client, op="append", text="watercolor", where={"q": "box"}) == 3
    assert edit(client, op="append", text="watercolor", where={"q": "box"}) == 0  # it is there already
    assert edit(client, op="names", **{"from": "file"}) == 1
    assert captions(client)["red.png"] == "a red box, watercolor"
    assert captions(client)["more/yellow_star.png"] == "yellow star"
    assert len(captions(client, filter="edited")) == 4
    for _ in range(3):
        assert client.post(f"{URL}/undo", json={}).status_code == 200
    assert captions(client) == before
    assert code(client.post(f"{URL}/undo", json={})) == (409, "nothing_to_undo")
    assert client.post(f"{URL}/redo", json={}).json()["edit"]["changed"] == 3
    assert captions(client)["red.png"] == "a red box"
    assert edit(client, op="reset") == 3
    assert code(client.post(f"{URL}/redo", json={})) == (409, "nothing_to_redo")
    folder = root / "Pictures" / "squares"
    assert {path.stem: path.read_text() for path in folder.glob("*.txt")} == {c: f"{t}\n" for c, t in CAPTIONS.items()}


def test_a_preview_changes_nothing(client: TestClient, dataset: DataSet) -> None:
    body = {"op": "replace", "find": "a", "with": "the", "words": True, "preview": True}
    shown = client.post(f"{URL}/captions", json=body).json()
    assert shown["changes"] == 3
    assert {e["before"]: e["after"] for e in shown["examples"]}["a red square"] == "the red square"
    assert client.get(URL).json()["edits"] == 0


def test_a_second_tab_does_not_overwrite_a_change_it_has_not_seen(client: TestClient, dataset: DataSet) -> None:
    row = next(r["row"] for r in client.get(f"{URL}/captions").json()["pictures"] if r["path"] == "red.png")
    first = {"caption": "one", "before": "a red square"}
    assert client.patch(f"{URL}/captions/{row}", json=first).json()["caption"] == "one"
    second = client.patch(f"{URL}/captions/{row}", json={"caption": "two", "before": "a red square"})
    assert code(second) == (409, "changed_meanwhile")
    assert second.json()["caption"] == "one"
    assert code(client.patch(f"{URL}/captions/9999", json={"caption": "x"})) == (404, "picture_not_found")


def test_repeated_long_and_unreadable_captions_are_found(client: TestClient, dataset: DataSet) -> None:
    rows = {r["path"]: r["row"] for r in client.get(f"{URL}/captions").json()["pictures"]}
    client.patch(f"{URL}/captions/{rows['red.png']}", json={"caption": "A  blue SQUARE"})
    assert set(captions(client, filter="repeated")) == {"red.png", "blue.png"}
    client.patch(f"{URL}/captions/{rows['green.png']}", json={"caption": "word " * 100})
    assert set(captions(client, filter="cut")) == {"green.png"}
    client.patch(f"{URL}/captions/{rows['blue.png']}", json={"caption": "a 🫨 square"})
    (found,) = client.get(f"{URL}/captions", params={"filter": "unread"}).json()["pictures"]
    assert found["unread"] == ["🫨"]


def test_edited_captions_are_an_ordinary_data_source(client: TestClient, dataset: DataSet, places: Places) -> None:
    rows = {r["path"]: r["row"] for r in client.get(f"{URL}/captions").json()["pictures"]}
    edit(client, op="replace", find="square", **{"with": "box"})
    edit(client, op="use", use=False, rows=[rows["blue.png"]])
    client.patch(f"{URL}/captions/{rows['more/yellow_star.png']}", json={"caption": "a star\na yellow star"})
    version = write_version(dataset, places)
    pairs, problems = find_pairs(version)
    assert {pair.key: pair.captions for pair in pairs} == {
        "pictures/red.png": ("a red box",),
        "pictures/green.png": ("a green box",),
        "pictures/more/yellow_star.png": ("a star", "a yellow star"),
    }
    assert not [problem for problem in problems if problem.left_out]
    assert (version / "pictures" / "red.png").is_symlink()  # nothing is copied
    edit(client, op="use", use=True)
    assert write_version(dataset, places) != version  # a run that uses the first one keeps it
    assert {pair.key for pair in find_pairs(version)[0]} == {pair.key for pair in pairs}


def test_a_new_scan_keeps_edits_and_follows_the_folder(
    client: TestClient, dataset: DataSet, places: Places, root: Path
) -> None:
    edit(client, op="replace", find="red", **{"with": "crimson"})
    folder = root / "Pictures" / "squares"
    (folder / "green.txt").write_text("a grass square")
    (folder / "blue.png").unlink()
    picture(folder / "pink.png", "pink")
    list(scan(dataset, places))
    assert captions(client) == {
        "green.png": "a grass square",
        "more/yellow_star.png": "",
        "pink.png": "",
        "red.png": "a crimson square",
    }


def test_a_folder_that_disappears_is_said_so(client: TestClient, dataset: DataSet, root: Path) -> None:
    (root / "Pictures" / "squares").rename(root / "Pictures" / "moved")
    assert client.get(URL).json()["gone"] is True
    row = client.get(f"{URL}/captions").json()["pictures"][0]["row"]
    assert code(client.get(f"{URL}/thumbnails/{row}")) == (404, "picture_not_found")
    body = {"name": "run", "dataset": "squares", "settings": {"time": "10m"}}
    assert code(client.post("/api/studio/runs", json=body)) == (409, "folder_not_found")


@pytest.mark.parametrize("query", [{"limit": 501}, {"limit": 0}, {"offset": -1}, {"filter": "nonsense"}])
def test_windows_have_bounds(client: TestClient, dataset: DataSet, query: dict[str, object]) -> None:
    assert client.get(f"{URL}/captions", params={k: str(v) for k, v in query.items()}).status_code == 400


@pytest.fixture
def many(tmp_path: Path) -> Table:
    """A table of 20,000 captions."""
    table = Table(tmp_path / "pictures.db")
    words = ("red", "blue", "green", "small", "large", "old", "Çelik", "house", "boat", "tree", "cat")
    rows = []
    for number in range(20_000):
        text = f"a {words[number % 11]} {words[number * 7 % 11]} beside a {words[number // 11 % 11]} number {number}"
        key = f"folder-{number % 100:02d}/picture-{number:05d}.jpg"
        rows.append((key, f"source/{key}", text, text, *search_columns(key, text)))
    with table.writing() as connection:
        connection.executemany(
            "insert into pictures (key, file, caption, original, folded, same) values (?, ?, ?, ?, ?, ?)", rows
        )
    return table


def test_twenty_thousand_captions_are_searched_quickly(many: Table) -> None:
    for selection in (
        Selection(None, "ÇELIK boat"),
        Selection(None, "number 19999"),
        Selection(None, "nothing like this"),
        Selection(None, "", "repeated"),
    ):
        started = time.process_time()
        total, found = many.window(selection, 0, 100)
        assert time.process_time() - started < 0.9
        assert len(found) == min(total, 100)
    assert many.window(Selection(None, "number 19999"), 0, 100)[0] == 1
    assert many.window(Selection(None, "çelik"), 0, 100)[0] > 1000


def test_all_captions_are_replaced_and_undone_at_once(many: Table) -> None:
    edit = apply(many, Selection(), replaced("beside", "next to"), "replace")
    assert edit is not None
    assert edit.changed == 20_000
    assert many.window(Selection(None, "next to"), 19_999, 10)[0] == 20_000
    assert undo(many) is not None
    assert many.window(Selection(None, "next to"), 0, 10)[0] == 0


def test_captions_are_cleaned_as_training_reads_them(many: Table) -> None:
    apply(many, Selection((1,)), given(" a\tcat \x00\n\n a cat\nb "), "set")
    found = many.picture(1)
    assert found is not None
    assert found[0].caption == "a cat\nb"
