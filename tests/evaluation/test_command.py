"""The command `tintype evaluate`: its report, its card, two models, refusals."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tintype.cli.main import main
from tintype.config import Config
from tintype.evaluation.save import BEGIN
from tintype.printable import printable

QUICK = ["--num", "8", "--samples", "4", "--captions", "8", "--device", "cpu"]


@pytest.fixture
def model(cautious: Path, tmp_path: Path) -> Path:
    """A finished model of the user's own, with a card."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in cautious.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "README.md").write_text("# mine\n\n## Quality\n\nA table.\n\n## Use\n\nSo.\n", encoding="utf-8")
    return folder


def odd_name(folder: Path, above: Path) -> Path:
    """A copy of a folder with a name that is not UTF-8, where the system has such names."""
    copy = above / os.fsdecode(b"dessins \xe9t\xe9")
    try:
        shutil.copytree(folder, copy)
    except OSError:
        return folder
    return copy


@pytest.mark.slow
def test_a_report_is_left_in_the_model_and_its_card_is_filled(
    model: Path, drawings: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two times: the second report also shows the first evaluation, of the run when it was younger."""
    data = odd_name(drawings, tmp_path)
    command = ["evaluate", str(model), "--data", str(data), "--cache", str(cache), *QUICK]
    (model / "state.json").write_text('{"images_seen": 100}', encoding="utf-8")
    assert main([*command, "--save"]) == 0
    out = capsys.readouterr().out
    report = model / "evaluation" / "report.html"
    assert f"report: {report}" in out
    assert "note: " in out
    assert "at 100 images" not in report.read_text(encoding="utf-8")
    results = json.loads((model / "evaluation" / "results.json").read_text(encoding="utf-8"))
    chosen = results["models"][0]["choice"]["chosen"]
    config = Config.from_json((model / "config.json").read_text(encoding="utf-8"))
    assert (config.sample.steps, config.sample.guidance) == (chosen["steps"], chosen["guidance"])
    card = (model / "README.md").read_text(encoding="utf-8")
    assert f"unseen pictures of {printable(data.name)};" in card
    assert card.index("A table.") < card.index(BEGIN) < card.index("## Use")
    (model / "state.json").write_text('{"images_seen": 200}', encoding="utf-8")
    (model / "evaluation" / "seen-000000150.json").write_text("[7]")
    (model / "log.jsonl").write_bytes(
        b'\xff\n{"images_seen": 8, "noise_error": 7}\n{"images_seen": 9, "noise_error": {"x": 1}}\n'
    )
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    assert "seen-000000150.json is damaged, so nothing is compared with it" in captured.err
    assert json.loads(captured.out)["models"][0]["about"]["name"] == "mine"
    assert json.loads((model / "evaluation" / "seen-000000200.json").read_bytes())["about"]["data"] == data.name
    assert "unseen, at 100 images" in report.read_text(encoding="utf-8")
    assert (model / "README.md").read_text(encoding="utf-8").count(BEGIN) == 1


@pytest.mark.slow
def test_a_shipped_model_leaves_a_folder_of_its_name_alone(
    model: Path, drawings: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model.rename("shapes")
    before = {path.name: path.read_bytes() for path in Path("shapes").iterdir()}
    assert main(["evaluate", "shapes", "--data", str(drawings), "--cache", str(cache), "--save", *QUICK]) == 0
    assert {path.name: path.read_bytes() for path in Path("shapes").iterdir()} == before
    assert Path("evaluation-shapes", "report.html").is_file()


@pytest.mark.slow
def test_two_models_make_one_report(
    model: Path, cautious: Path, drawings: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(drawings), "--cache", str(cache), "--output", str(tmp_path / "both"), *QUICK]
    assert main(["evaluate", str(model), str(cautious), *options]) == 0
    assert re.search(r"mine:.*cautious:", capsys.readouterr().out, re.DOTALL)
    results = json.loads((tmp_path / "both" / "results.json").read_text(encoding="utf-8"))
    assert all(row["value"] == 0 for row in results["difference"]["gains"])  # the same weights


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "no model 'nowhere'"),
        (["MODEL"], "give --data"),
        (["MODEL", "--data", "nowhere"], "nowhere"),
        (["MODEL", "MODEL", "MODEL"], "at most two models"),
        (["MODEL", "--data", "DATA", "--num", "3"], "whole number from 8"),
        (["MODEL", "--data", "DATA", "--features", "best", *QUICK], "features must be"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    model: Path, drawings: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    names = {"MODEL": str(model), "DATA": str(drawings)}
    assert main(["evaluate", *(names.get(argument, argument) for argument in arguments)]) in (1, 2)
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (model / "evaluation").exists()
