"""Suggested captions: by a model of this disk, into empty captions or a selection, as one edit that can be undone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tests.studio.conftest import CAPTIONS, TOKEN, client_of, code

from tintype.errors import ConfigError, MissingExtraError
from tintype.studio import suggest, worker
from tintype.studio.access import HEADER, Access
from tintype.studio.caption_model import CaptionModel
from tintype.studio.captioners import find_captioners, is_captioner
from tintype.studio.dataset import DataSet
from tintype.studio.places import Places
from tintype.studio.studio import Studio
from tintype.studio.suggest import Wish

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] [DEC] a red blue green square circle picture of".split()
URL = "/api/studio/datasets/squares"


def write_captioner(folder: Path) -> Path:
    """A captioner of the kind BLIP with random weights, which always writes some words."""
    import torch
    import transformers

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    marks = {"bos_token_id": 5, "pad_token_id": 0, "eos_token_id": 3, "sep_token_id": 3}
    text = {**sizes, **marks, "vocab_size": len(WORDS), "encoder_hidden_size": 16, "max_position_embeddings": 64}
    torch.manual_seed(0)
    config = transformers.BlipConfig(
        text_config=text, vision_config={**sizes, "image_size": 32, "patch_size": 16}, projection_dim=8
    )
    model = transformers.BlipForConditionalGeneration(config)
    model.generation_config.min_new_tokens = 4
    model.save_pretrained(folder)
    transformers.BlipProcessor(
        transformers.BlipImageProcessorPil(size={"height": 32, "width": 32}),
        transformers.BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)}),
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captioner(tmp_path_factory.mktemp("models") / "tiny-blip")


def run(places: Places) -> int:
    return worker.main(["captions", str(places.root), str(places.studio), "squares", "0"])


def captions(client: TestClient) -> dict[str, str]:
    rows = client.get(f"{URL}/captions").json()["pictures"]
    return {row["path"]: row["caption"] for row in rows}


@pytest.mark.slow
def test_a_model_of_transformers_writes_captions(
    captioner: Path, client: TestClient, dataset: DataSet, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    assert is_captioner(captioner)
    model = CaptionModel(captioner)
    pictures = [Image.new("RGB", (40, 30), color) for color in ("red", "blue")]
    texts = model.captions(pictures)
    assert texts == [*model.captions(pictures[:1]), *model.captions(pictures[1:])]
    assert all(text and set(text.split()) <= set(WORDS) for text in texts)
    Wish("tiny-blip", str(captioner), None).save(dataset)
    assert run(places) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"stage": "captioning", "done": 1, "total": 1}
    found = captions(client)
    assert {found[f"{color}.png"] for color in CAPTIONS} == set(CAPTIONS.values())  # those that were there stay
    assert set(found["more/yellow_star.png"].split()) <= set(WORDS)
    assert client.get(URL).json()["can_undo"] == "captions by tiny-blip: 1 picture"
    client.post(f"{URL}/undo", json={})
    assert captions(client)["more/yellow_star.png"] == ""


class Told:
    """A captioner that says what it was told to, and what it does between two batches."""

    def __init__(self, folder: Path) -> None:
        self.number = 0

    def captions(self, pictures: list[Image.Image]) -> list[str]:
        self.number += 1
        return [f"suggestion {self.number}" for _ in pictures]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggest, "CaptionModel", Told)
    monkeypatch.setattr(suggest, "BATCH", 2)


def test_a_selection_is_captioned_in_batches_and_undone_at_once(
    client: TestClient, dataset: DataSet, places: Places, told: None
) -> None:
    before = captions(client)
    rows = tuple(dataset.table.rows(suggest.Selection()))
    Wish("told", "nowhere", rows).save(dataset)
    assert run(places) == 0
    assert sorted(captions(client).values()) == ["suggestion 1"] * 2 + ["suggestion 2"] * 2
    described = client.get(URL).json()
    assert (described["edits"], described["can_undo"]) == (1, "captions by told: 4 pictures")
    client.post(f"{URL}/undo", json={})
    assert captions(client) == before


def test_what_a_person_writes_meanwhile_stays(
    client: TestClient, dataset: DataSet, places: Places, told: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = client.get(f"{URL}/captions").json()["pictures"]

    def interrupted(self: Told, pictures: list[Image.Image]) -> list[str]:
        client.patch(f"{URL}/captions/{rows[0]['row']}", json={"caption": "mine"})
        return ["suggestion" for _ in pictures]

    monkeypatch.setattr(Told, "captions", interrupted)
    Wish("told", "nowhere", tuple(row["row"] for row in rows)).save(dataset)
    assert run(places) == 0
    assert sorted(captions(client).values()) == ["mine", *["suggestion"] * 3]
    assert client.get(URL).json()["edits"] == 2


def test_the_studio_offers_what_it_has(places: Places, dataset: DataSet, client: TestClient) -> None:
    assert client.get("/api/studio").json()["captioners"] == []
    body = {"captioner": "tiny"}
    assert code(client.post(f"{URL}/captions/suggest", json=body)) == (404, "captioner_not_found")


def test_one_piece_of_work_at_a_time(studio: Studio, dataset: DataSet, client: TestClient) -> None:
    studio.captioners["tiny"] = Path("/nowhere")
    task = client.post(f"{URL}/captions/suggest", json={"captioner": "tiny"}).json()
    assert task["kind"] == "captions"
    assert client.get("/api/studio").json()["captioners"] == ["tiny"]
    again = client.post(f"{URL}/captions/suggest", json={"captioner": "tiny"})
    assert code(again) == (409, "not_possible")
    body = {"name": "run", "dataset": "squares", "settings": {"images": 100}}
    assert code(client.post("/api/studio/runs", json=body)) == (409, "not_possible")
    client.post(f"/api/studio/tasks/{task['id']}/cancel", json={})


def config_of(folder: Path, content: dict[str, Any], *files: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(content))
    for name in files:
        (folder / name).touch()
    return folder


def test_captioners_are_found_by_what_lies_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the studio's folder, in the cache of Hugging Face, and where the command line says."""
    files = ("model.safetensors", "preprocessor_config.json")
    blip = {"architectures": ["BlipForConditionalGeneration"], "vision_config": {}}
    config_of(tmp_path / "studio" / "captioners" / "mine", blip, *files)
    config_of(tmp_path / "studio" / "captioners" / "pickled", blip, "pytorch_model.bin", files[1])
    clip = {"architectures": ["CLIPModel"], "vision_config": {}}
    config_of(tmp_path / "studio" / "captioners" / "clip", clip, *files)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    encoder = {"architectures": ["VisionEncoderDecoderModel"], "model_type": "vision-encoder-decoder"}
    snapshot = config_of(tmp_path / "hub" / "models--some--one" / "snapshots" / "abc", encoder, *files)
    git = {"architectures": ["GitForCausalLM"], "vision_config": {}}
    given = config_of(tmp_path / "elsewhere" / "git", git, *files)
    found = find_captioners(tmp_path / "studio", [given])
    assert list(found) == ["git", "mine", "some/one"]
    assert found["some/one"] == snapshot
    with pytest.raises(ConfigError, match="--captioner"):
        find_captioners(tmp_path / "studio", [tmp_path])
    (snapshot / "config.json").write_text("[" * 100_000)
    assert list(find_captioners(tmp_path / "studio")) == ["mine"]


def test_a_missing_package_is_named_with_its_installation(
    tmp_path: Path,
    dataset: DataSet,
    places: Places,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import transformers

    def refuse(folder: Path, **options: Any) -> None:
        assert options == {"local_files_only": True}
        raise ImportError("XTokenizer requires the SentencePiece library but it was not found in your environment.")

    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", refuse)
    with pytest.raises(MissingExtraError, match=r"pip install 'tintype\[captioner\]'"):
        CaptionModel(tmp_path)
    Wish("told", str(tmp_path), None).save(dataset)
    assert run(places) == 1
    assert "tintype[captioner]" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]


def test_a_captioner_on_the_command_line_is_offered(places: Places, tmp_path: Path) -> None:
    studio = Studio(places, Access(token=TOKEN), captioners={"git": tmp_path})
    try:
        overview = client_of(studio, **{HEADER: TOKEN}).get("/api/studio").json()
        assert overview["captioners"] == ["git"]
    finally:
        studio.close()
