import io
from pathlib import Path

import pytest
from PIL import Image

from tintype.config import DataConfig
from tintype.data.check.run import check_data
from tintype.data.sources.find import find_pairs
from tintype.errors import DataError

datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")


def picture(color: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), color).save(file, "PNG")
    return file.getvalue()


def saved(folder: Path, columns: dict[str, list[object]]) -> Path:
    data = datasets.Dataset.from_dict(columns)
    if "image" in columns:
        data = data.cast_column("image", datasets.Image())
    data.save_to_disk(folder)
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_data_set_saved_in_a_folder(tmp_path: Path) -> None:
    cells = [{"bytes": picture((i, 0, 0)), "path": None} for i in range(3)] + [{"bytes": b"rubbish", "path": None}]
    folder = saved(tmp_path / "set", {"image": cells, "text": ["one", "two", " ", "four"]})
    for data in (str(folder), f"hf:{folder}"):
        report = check_data(data)
        assert [(pair.key, pair.captions) for pair in report.pairs] == [("00000000", ("one",)), ("00000001", ("two",))]
        assert {p.path: p.reason for p in report.problems} == {
            "00000002": "its caption is empty",
            "00000003": "not a picture that can be read",
        }
    assert find_pairs(folder)[0][1].source.read() == picture((1, 0, 0))
    assert len(find_pairs(folder, DataConfig(no_caption="empty"))[0]) == 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_data_sets_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path / "set", {"x": [1], "text": ["one"]})
    with pytest.raises(DataError, match="needs the columns image and text; it has: x, text"):
        find_pairs(folder)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="cannot be loaded"):
        find_pairs(f"hf:{tmp_path}/nowhere")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_several_splits_saved_in_a_folder(tmp_path: Path) -> None:
    cells = [{"bytes": picture((i, 0, 0)), "path": None} for i in range(3)]
    parts = {
        name: datasets.Dataset.from_dict({"image": cells, "text": [f"{name} {i}" for i in range(3)]})
        for name in ("train", "test")
    }
    folder = tmp_path / "several"
    datasets.DatasetDict(parts).save_to_disk(folder)
    for data, first in ((str(folder), "train 0"), (f"hf:{folder}", "train 0"), (f"hf:{folder}:test", "test 0")):
        assert find_pairs(data)[0][0].captions == (first,)
    with pytest.raises(DataError, match="no split dev; it has: train, test"):
        find_pairs(f"hf:{folder}:dev")
