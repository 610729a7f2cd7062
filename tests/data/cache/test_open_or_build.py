import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tintype.config import DataConfig
from tintype.data.cache.builder import CaptionEncoder, Progress
from tintype.data.cache.dataset_cache import DatasetCache
from tintype.data.cache.growing_array import GrowingArray
from tintype.data.cache.open_or_build import build_cache
from tintype.data.images.decode import preprocess_for
from tintype.data.sources.exclude import read_exclusions
from tintype.data.sources.find import find_pairs
from tintype.data.thread_pool import finished
from tintype.errors import DataError


class Words:
    """A text encoder that gives each word a row: its length, repeated; it counts how often it is asked."""

    identity = "words"

    def __init__(self, ids: bool = False, poison: float = 0.0) -> None:
        self.ids, self.poison, self.asked = ids, poison, 0

    def text_embeddings(self, captions: Sequence[str]) -> list[torch.Tensor]:
        self.asked += len(captions)
        lengths = [torch.tensor([len(word) for word in caption.split()], dtype=torch.int64) for caption in captions]
        return lengths if self.ids else [n[:, None].repeat(1, 4) + torch.tensor(self.poison) for n in lengths]


@pytest.fixture
def folder(draw, data: Path) -> Path:
    for i in range(30):
        draw(f"{i:02}.png", f"picture {i}\nnumber {'i' * i}", color=(i * 8, 0, 255 - i))
    return data


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress after every picture, as if each were a part of its own."""
    monkeypatch.setattr("tintype.data.cache.builder.MIN_BLOCK", 1)
    monkeypatch.setattr("tintype.data.cache.builder.MAX_BLOCK", 1)


def packs(cache: Path) -> list[str]:
    """What lies there, but for locks and what tells which data a pack belongs to."""
    return [path.name for path in cache.iterdir() if not path.name.startswith((".lock-", "stamp-"))]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def packed(folder: Path, tmp_path: Path, encoder: CaptionEncoder | None = None) -> DatasetCache:
    pairs, problems = find_pairs(folder)
    return finished(build_cache(pairs, preprocess_for(16), tmp_path / "cache", encoder or Words(), problems))


def test_pictures_and_states_come_back_as_they_went_in(folder: Path, tmp_path: Path) -> None:
    it = packed(folder, tmp_path)
    assert it.num_samples == 30
    assert it.captions[4] == ("picture 4", "number iiii")
    pictures = it.pictures(torch.tensor([3, 29, 3]))
    assert pictures.dtype == torch.uint8
    assert pictures.shape == (3, 3, 16, 16)
    assert pictures[:, :, 8, 8].tolist() == [[24, 0, 252], [232, 0, 226], [24, 0, 252]]
    embeddings = it.text_embeddings(torch.tensor([4, 4, 4, 12]), torch.tensor([0, 1, 2**40, 1]))
    assert embeddings[0].dtype == torch.float16
    assert [s[:, 0].tolist() for s in embeddings] == [[7, 1], [6, 4], [7, 1], [6, 12]]


def test_token_ids_stay_whole_numbers(folder: Path, tmp_path: Path) -> None:
    embeddings = packed(folder, tmp_path, Words(ids=True)).text_embeddings(torch.tensor([4]), torch.tensor([1]))
    assert embeddings[0].dtype == torch.int64
    assert embeddings[0].tolist() == [6, 4]


def test_equal_captions_are_encoded_once(draw, data: Path, tmp_path: Path) -> None:
    for i in range(10):
        draw(f"{i}.png", "the same", color=(i, 0, 0))
    encoder = Words()
    it = packed(data, tmp_path, encoder)
    assert encoder.asked == 1
    assert it.text_embeddings(torch.tensor([9]), torch.tensor([0]))[0].shape == (2, 4)


def test_an_empty_caption_has_no_states(tmp_path: Path, folder: Path) -> None:
    pairs = find_pairs(folder)[0]
    bare = [type(pair)(pair.key, pair.source, ("",)) for pair in pairs]
    embeddings = finished(build_cache(bare, preprocess_for(16), tmp_path / "cache", Words())).text_embeddings(
        torch.tensor([0]), torch.tensor([0])
    )
    assert embeddings[0].shape == (0, 4)


def test_bad_files_are_left_out_and_listed(draw, folder: Path, tmp_path: Path) -> None:
    draw("07.png", color="red").write_bytes(b"rubbish")
    draw("none.png", None)
    it = packed(folder, tmp_path)
    assert it.num_samples == 29
    assert {p.path for p in it.problems} == {"07.png", "none.png"}
    assert it.pictures(torch.tensor([7]))[0, :, 8, 8].tolist() == [64, 0, 247]
    about = it.data_json()
    assert len(about["samples"]) == 29
    assert all(len(sample["sha256"]) == 64 for sample in about["samples"])
    assert {row["path"] for row in about["left_out"]} == {"07.png", "none.png"}
    assert len(it.report(str(folder), find_pairs(folder)[0], 0.03).pairs) == 29


def test_an_unchanged_folder_is_not_packed_again(folder: Path, tmp_path: Path) -> None:
    first = packed(folder, tmp_path)
    encoder = Words()
    pairs = find_pairs(folder)[0]
    assert list(build_cache(pairs, preprocess_for(16), tmp_path / "cache", encoder)) == []
    assert encoder.asked == 0
    assert packed(folder, tmp_path).fingerprint == first.fingerprint
    assert packs(tmp_path / "cache") == [first.folder.name]


@pytest.mark.parametrize(
    "change", ["pixels", "pixels, same time", "caption", "new", "removed", "encoder", "resolution"]
)
def test_any_change_makes_a_new_pack(draw, folder: Path, tmp_path: Path, change: str) -> None:
    first = packed(folder, tmp_path)
    encoder, resolution = Words(), 16
    path = folder / "05.png"
    if change.startswith("pixels"):
        info, size = path.stat(), path.stat().st_size
        Image.new("RGB", (40, 40), (41, 0, 250)).save(path)
        assert path.stat().st_size == size
        if change.endswith("time"):
            os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    elif change == "caption":
        path.with_suffix(".txt").write_text("changed")
    elif change == "new":
        draw("new.png")
    elif change == "removed":
        path.unlink()
    elif change == "encoder":
        encoder.identity = "other words"
    else:
        resolution = 24
    second = finished(build_cache(find_pairs(folder)[0], preprocess_for(resolution), tmp_path / "cache", encoder))
    assert second.fingerprint != first.fingerprint
    if change.startswith("pixels"):
        assert second.pictures(torch.tensor([5]))[0, :, 8, 8].tolist() == [41, 0, 250]


def test_a_copied_folder_has_the_same_fingerprint(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy)
    assert packed(copy, tmp_path).fingerprint == packed(folder, tmp_path).fingerprint


@pytest.mark.parametrize("name", ["pictures-16x16.npy", "states.npy", "facts.npy", "pack.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_pack_is_made_again(folder: Path, tmp_path: Path, name: str, damage: str) -> None:
    path = packed(folder, tmp_path).folder / name
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        path.unlink()
    assert packed(folder, tmp_path).pictures(torch.tensor([3]))[0, :, 8, 8].tolist() == [24, 0, 252]


def test_states_that_are_not_finite_are_refused_when_written_and_when_read(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="finite"):
        packed(folder, tmp_path, Words(poison=float("nan")))
    with pytest.raises(DataError, match="finite"):
        packed(folder, tmp_path, Words(poison=1e6))  # beyond float16
    path = packed(folder, tmp_path).folder / "states.npy"
    embeddings = np.load(path)
    embeddings[:] = np.nan
    np.save(path, embeddings)
    with pytest.raises(DataError, match="damaged: restart training"):
        packed(folder, tmp_path).text_embeddings(torch.tensor([0]), torch.tensor([0]))


def test_progress_tells_both_stages(one_by_one, folder: Path, tmp_path: Path) -> None:
    progress = list(build_cache(find_pairs(folder)[0], preprocess_for(16), tmp_path / "cache", Words()))
    assert progress[:30] == [Progress("pictures", i, 30) for i in range(1, 31)]
    assert progress[-1] == Progress("captions", 60, 60)


def test_a_stopped_pack_is_gone_on_with_to_the_same_bytes(one_by_one, draw, folder: Path, tmp_path: Path) -> None:
    draw("07.png", color="red").write_bytes(b"rubbish")
    pairs = find_pairs(folder)[0]
    expected = content(finished(build_cache(pairs, preprocess_for(16), tmp_path / "whole", Words())).folder)
    done = []
    for stop in (1, 13, 5):
        progress = build_cache(pairs, preprocess_for(16), tmp_path / "cache", Words())
        for _ in range(stop):
            now = next(progress)
        done.append(now.done)
        progress.close()
        assert not list((tmp_path / "cache").glob("pack-*"))
    assert done == [1, 14, 19]
    last = finished(build_cache(pairs, preprocess_for(16), tmp_path / "cache", Words()))
    assert content(last.folder) == expected
    assert [p.path for p in last.problems] == ["07.png"]
    assert packs(tmp_path / "cache") == [last.folder.name]


@pytest.mark.parametrize("damage", ["journal", "array", "both"])
def test_a_stopped_pack_that_was_damaged_is_begun_again(one_by_one, folder: Path, tmp_path: Path, damage: str) -> None:
    pairs = find_pairs(folder)[0]
    expected = content(finished(build_cache(pairs, preprocess_for(16), tmp_path / "whole", Words())).folder)
    progress = build_cache(pairs, preprocess_for(16), tmp_path / "cache", Words())
    for _ in range(20):
        next(progress)
    progress.close()
    (journal,) = (tmp_path / "cache").glob(".packing-*.jsonl")
    if damage in ("journal", "both"):
        journal.write_bytes(journal.read_bytes()[:-7])
    if damage in ("array", "both"):
        array = journal.with_suffix("") / "pictures-16x16.npy"
        array.write_bytes(array.read_bytes()[:-100])
    assert content(finished(build_cache(pairs, preprocess_for(16), tmp_path / "cache", Words())).folder) == expected


def test_two_at_once_wait_for_each_other(folder: Path, tmp_path: Path) -> None:
    pairs = find_pairs(folder)[0]
    slow = build_cache(pairs, preprocess_for(16), tmp_path / "cache", Words())
    next(slow)
    encoder = Words()
    other = build_cache(pairs, preprocess_for(16), tmp_path / "cache", encoder)
    assert next(other) == Progress("waiting", 0, 1)
    for _ in slow:
        pass
    assert list(other) == []
    assert encoder.asked == 0
    assert packs(tmp_path / "cache") == [
        finished(build_cache(pairs, preprocess_for(16), tmp_path / "cache", encoder)).folder.name
    ]


def test_data_of_the_same_content_share_a_pack(folder: Path, tmp_path: Path) -> None:
    first = packed(folder, tmp_path)
    copy = shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy)
    (copy / "zz.png").write_bytes(b"rubbish")
    (copy / "zz.txt").write_text("of a picture that cannot be read")
    second = packed(copy, tmp_path)
    assert second.folder == first.folder
    assert [p.path for p in second.problems] == ["zz.png"]
    assert first.problems == []
    assert packs(tmp_path / "cache") == [first.folder.name]


def test_a_disk_with_too_little_room_is_said_before_anything_is_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=20_000))
    progress = build_cache(find_pairs(folder)[0], preprocess_for(16), tmp_path / "cache", Words())
    with pytest.raises(DataError, match=r"needs about 2\.59e-05 GB .* has 2e-05 GB free: make room"):
        next(progress)


def test_the_first_of_exact_copies_is_kept_when_asked(draw, data: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        draw(name)
    draw("d.png", color="blue")
    preprocess = preprocess_for(16, DataConfig(dedupe=True))
    it = finished(build_cache(find_pairs(data)[0], preprocess, tmp_path / "cache", Words()))
    assert it.keys == ["a.png", "d.png"]
    assert [(p.path, p.reason) for p in it.problems] == [
        (name, "an exact copy of another picture") for name in ("b.png", "c.png")
    ]


def test_dedupe_goes_on_where_it_was_stopped(one_by_one, draw, data: Path, tmp_path: Path) -> None:
    for i in range(10):
        draw(f"{i}.png", color=(i % 3, 0, 0))
    pairs, preprocess = find_pairs(data)[0], preprocess_for(16, DataConfig(dedupe=True))
    progress = build_cache(pairs, preprocess, tmp_path / "cache", Words())
    for _ in range(4):
        next(progress)
    progress.close()
    assert finished(build_cache(pairs, preprocess, tmp_path / "cache", Words())).keys == [
        "0.png",
        "1.png",
        "2.png",
    ]


def test_exclusions_by_key_and_by_hash_are_listed(folder: Path, tmp_path: Path) -> None:
    before = packed(folder, tmp_path)
    unwanted = tmp_path / "unwanted.txt"
    unwanted.write_text(f"# not ours\n03.png\nsha256:{before.sha256[5].upper()}\nnowhere.png\n")
    exclusions = read_exclusions(unwanted)
    pairs, problems = exclusions.apply(find_pairs(folder)[0])
    it = finished(build_cache(pairs, preprocess_for(16), tmp_path / "cache", Words(), problems, exclusions))
    assert it.num_samples == 28
    assert it.fingerprint != before.fingerprint
    about = it.data_json()
    reasons = {row["path"]: row["reason"] for row in about["left_out"]}
    assert reasons == {"03.png": "excluded on request", "05.png": "excluded on request"}
    assert about["warnings"] == [
        {"path": "nowhere.png", "reason": "in the list of --exclude, but there is no such picture"}
    ]


def test_rows_of_data_json_can_be_excluded(folder: Path, tmp_path: Path) -> None:
    rows = packed(folder, tmp_path).data_json()["samples"][:2]
    unwanted = tmp_path / "unwanted.txt"
    unwanted.write_text("".join(json.dumps(row) + ",\n" for row in rows))
    assert read_exclusions(unwanted).sha256 == {row["sha256"] for row in rows}
    with pytest.raises(DataError, match="does not exist"):
        read_exclusions(tmp_path / "nowhere.txt")


def test_pictures_of_several_shapes_are_packed_by_shape(draw, data: Path, tmp_path: Path) -> None:
    sizes = [(64, 64), (128, 64), (64, 128), (60, 64), (64, 128)]
    for number, size in enumerate(sizes):
        draw(f"{number}.png", color=(10 * number, 0, 0), size=size)
    preprocess = preprocess_for(32, DataConfig(crop="none"), patch=4)
    it = finished(build_cache(find_pairs(data)[0], preprocess, tmp_path / "cache", Words()))
    parts = it.by_shape(torch.arange(5))
    assert sorted(part.tolist() for part in parts) == [[0, 3], [1], [2, 4]]
    for part in parts:
        pictures = it.pictures(part)
        height, width = pictures.shape[2:]
        assert height * width <= 32 * 32
        assert pictures[:, 0, 0, 0].tolist() == [10 * number for number in part.tolist()]
        wide = sizes[int(part[0])][0] / sizes[int(part[0])][1]
        assert width / height == pytest.approx(wide, rel=0.15)
    with pytest.raises(ValueError):
        it.pictures(torch.arange(5))


def test_squares_have_the_fingerprint_that_they_had_when_there_was_nothing_else(folder: Path, tmp_path: Path) -> None:
    pairs = find_pairs(folder)[0]
    square, free = (
        finished(build_cache(pairs, preprocess_for(16, DataConfig(crop=crop)), tmp_path, Words()))
        for crop in ("square", "none")
    )
    digest = hashlib.sha256(json.dumps([1, 16, "words"]).encode())
    for pair, sha256 in zip(pairs, square.sha256, strict=True):
        digest.update(json.dumps([pair.key, sha256, pair.captions]).encode())
    assert square.fingerprint == free.fingerprint == digest.hexdigest()


def test_nothing_usable_is_an_error_that_names_the_first(draw, data: Path, tmp_path: Path) -> None:
    draw("a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png: the file is empty"):
        packed(data, tmp_path)


def test_a_folder_that_cannot_be_written_is_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match="cannot be written"):
        packed(folder, tmp_path)


def test_the_user_folder_is_not_changed(folder: Path, tmp_path: Path) -> None:
    before = sorted((p.name, p.stat().st_mtime_ns) for p in [folder, *folder.iterdir()])
    packed(folder, tmp_path)
    assert sorted((p.name, p.stat().st_mtime_ns) for p in [folder, *folder.iterdir()]) == before


def test_split_parts_everything_and_stays_when_others_join(draw, folder: Path, tmp_path: Path) -> None:
    first = packed(folder, tmp_path)
    train, held = first.split(0.3)
    assert sorted(torch.cat([train, held]).tolist()) == list(range(30))
    assert 0 < len(held) < 30
    for i in range(20):
        draw(f"new{i}.png", color=(0, i * 9, 0))
    second = packed(folder, tmp_path)
    before = {first.keys[i] for i in held.tolist()}
    after = {second.keys[i] for i in second.split(0.3)[1].tolist()}
    assert before == {key for key in after if not key.startswith("new")}


def test_split_never_parts_exact_copies(draw, data: Path, tmp_path: Path) -> None:
    for i in range(60):
        draw(f"{i:02}.png", color=(i % 20 * 9, 0, 0))
    it = packed(data, tmp_path)
    train, held = ({it.sha256[i] for i in part.tolist()} for part in it.split(0.3))
    assert held
    assert not train & held


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 1.0])
@pytest.mark.parametrize("num", [1, 2, 30])
def test_split_always_leaves_something_to_train_on(draw, data: Path, tmp_path: Path, num: int, share: float) -> None:
    for i in range(num):
        draw(f"{i:02}.png", color=(i, 0, 0))
    train, held = packed(data, tmp_path).split(share)
    assert len(train) >= 1
    assert len(train) + len(held) == num
    assert len(held) >= (1 if share > 0 and num == 30 else 0)
    if share == 0:
        assert len(held) == 0


@pytest.mark.parametrize("keep", [1, 7, 10])
def test_a_growing_array_can_be_gone_on_with(tmp_path: Path, keep: int) -> None:
    rows = np.arange(30, dtype=np.int32).reshape(10, 3)
    path = tmp_path / "a.npy"
    with suppress(KeyboardInterrupt), GrowingArray(path) as array:
        array.append(rows)
        raise KeyboardInterrupt
    with GrowingArray(path, keep) as array:
        array.append(rows[keep:])
    assert np.array_equal(np.load(path), rows)
    with pytest.raises(ValueError):
        GrowingArray(path, 11)


def test_rows_of_another_shape_do_not_fit(tmp_path: Path) -> None:
    with GrowingArray(tmp_path / "a.npy") as array:
        array.append(np.zeros((2, 3), dtype=np.float16))
        with pytest.raises(ValueError):
            array.append(np.zeros((2, 4), dtype=np.float16))


@pytest.mark.parametrize("rows", [1, 9, 12_345])
def test_a_growing_array_is_an_ordinary_npy_file(tmp_path: Path, rows: int) -> None:
    with GrowingArray(tmp_path / "a.npy") as array:
        for _ in range(rows):
            array.append(np.full((1, 3), 7, dtype=np.int32))
    assert np.array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), np.full((rows, 3), 7))
