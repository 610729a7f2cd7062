"""The certificate: what it says, and that a change of anything it names is told apart."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tintype.cli.main import main
from tintype.errors import CheckpointError
from tintype.evaluation.certificate import (
    CERTIFICATE,
    check_count,
    check_samples,
    make_certificate,
    pictures_hash,
    read_certificate,
)
from tintype.evaluation.results import EvalResult, ReportData
from tintype.model.store import find, weights_hash


@pytest.fixture
def certified(evaluated: tuple[EvalResult, ReportData], cautious: Path, tmp_path: Path) -> Path:
    """A model folder with the certificate of an evaluation."""
    result, report = evaluated
    folder = tmp_path / "mine"
    shutil.copytree(cautious, folder)
    (folder / "evaluation").mkdir()
    page = folder / "evaluation" / "report.html"
    page.write_text("<p>0 copies</p>", encoding="utf-8")
    result = replace(result, about=replace(result.about, sha256=weights_hash(find(folder))))
    certificate = make_certificate(result, pictures_hash(report.training), "evaluation/report.html", page.read_bytes())
    (folder / CERTIFICATE).write_text(certificate.to_json(), encoding="utf-8")
    return folder


def verified(folder: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, set[str]]:
    """The exit code of `tintype verify`, and the checks that fail."""
    capsys.readouterr()
    code = main(["verify", str(folder), str(data), "--json"])
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert {check["name"] for check in checks} == {"count", "model", "data", "report"}
    return code, {check["name"] for check in checks if not check["holds"]}


def changed(folder: Path, **values: object) -> None:
    path = folder / CERTIFICATE
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


def test_nothing_changed(certified: Path, drawings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verified(certified, drawings, capsys) == (0, set())
    shutil.copytree(drawings, certified / "elsewhere")
    assert verified(certified, certified / "elsewhere", capsys) == (0, set())


@pytest.mark.parametrize("part", ["model", "data", "report", "count"])
def test_a_change_of_each_is_told_apart(
    certified: Path, drawings: Path, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    data = drawings
    if part == "model":
        weights = bytearray((certified / "model.safetensors").read_bytes())
        weights[-1] ^= 1
        (certified / "model.safetensors").write_bytes(weights)
    elif part == "report":
        (certified / "evaluation" / "report.html").write_text("<p>No copies</p>", encoding="utf-8")
    elif part == "data":
        data = certified / "data"
        shutil.copytree(drawings, data)
        pictures = sorted(data.rglob("*.png"))
        for picture in pictures[:3]:  # not all of them are held out
            shutil.copy(pictures[-1], picture)
    else:
        changed(certified, num_copies=json.loads((certified / CERTIFICATE).read_text(encoding="utf-8"))["num"] - 1)
    assert verified(certified, data, capsys) == (1, {part})


def test_the_sentence_must_say_what_the_counts_say(certified: Path) -> None:
    certificate = read_certificate(certified / CERTIFICATE)
    assert check_count(certificate).holds
    assert not check_count(certificate._replace(claim="0 of 1,000 samples are copies")).holds
    assert not check_count(certificate._replace(high=certificate.high * 0.99)).holds


def test_samples_drawn_again_may_differ_by_rounding_only(certified: Path) -> None:
    certificate = read_certificate(certified / CERTIFICATE)._replace(num_copies=20, num=1000, low=0.0123, high=0.0307)
    assert check_samples(certificate, 20).holds
    assert "within the interval" in check_samples(certificate, 22).text
    assert check_samples(certificate, 22).holds
    assert not check_samples(certificate, 40).holds


@pytest.mark.parametrize(
    "values", [{"format": 2}, {"num": -1}, {"num": "many"}, {"high": None}, {"claim": 3}, {"more": 1}]
)
def test_a_damaged_certificate_is_refused(certified: Path, values: dict[str, object]) -> None:
    changed(certified, **values)
    with pytest.raises(CheckpointError, match=r"writes it anew|another version"):
        read_certificate(certified / CERTIFICATE)


def test_a_model_without_one_says_who_writes_it(cautious: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(cautious)]) == 1
    assert "tintype evaluate writes it" in capsys.readouterr().err
