"""`tintype evaluate` as users call it, and what it leaves behind."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tintype.cli.main import main
from tintype.config import Config
from tintype.evaluation.report.html import to_html
from tintype.evaluation.report.plot import Curve, plot
from tintype.evaluation.results import EvalResult, ReportData
from tintype.evaluation.save import BEGIN, with_evaluation
from tintype.metrics.intervals import UNKNOWN, Estimate, format_percent

QUICK = ["--num", "8", "--samples", "4", "--asked", "8", "--device", "cpu"]


@pytest.fixture
def model(cautious: Path, tmp_path: Path) -> Path:
    """A finished model of the user's own, with a card."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in cautious.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "README.md").write_text("# mine\n\n## Quality\n\nA table.\n\n## Use\n\nSo.\n", encoding="utf-8")
    return folder


def test_a_report_is_left_in_the_model_and_its_card_is_filled(
    model: Path, drawings: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two times: the second report also shows the first evaluation, of the run when it was younger."""
    command = ["evaluate", str(model), "--data", str(drawings), "--cache", str(cache), *QUICK]
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
    assert card.index("A table.") < card.index(BEGIN) < card.index("## Use")
    (model / "state.json").write_text('{"images_seen": 200}', encoding="utf-8")
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["about"]["name"] == "mine"
    assert "unseen, at 100 images" in report.read_text(encoding="utf-8")
    assert (model / "README.md").read_text(encoding="utf-8").count(BEGIN) == 1


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


class Tags(HTMLParser):
    """What a page is made of; void and unclosed tags are counted as HTML allows them."""

    VOID = ("meta", "img", "br", "line", "circle", "path", "rect")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.mark.parametrize("several", [False, True])
def test_the_page_is_whole_and_needs_nothing_from_elsewhere(
    evaluated: tuple[EvalResult, ReportData], several: bool
) -> None:
    page = to_html([evaluated, evaluated] if several else [evaluated])
    tags = Tags(page)
    assert tags.open == []
    assert tags.links
    assert all(link.startswith("data:image/png;base64,") for link in tags.links)
    assert "script" not in tags.names
    assert "http" not in re.sub(r"http-equiv|base64,[^\"]*", "", page)
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", page))


def test_captions_cannot_change_the_page(evaluated: tuple[EvalResult, ReportData]) -> None:
    result, pictures = evaluated
    caption = '<script>alert("x")</script>" onload=alert(1) \x1b[31m'
    pictures.samples[0] = (caption, pictures.samples[0][1])
    tags = Tags(to_html([(result, pictures)]))
    assert "script" not in tags.names
    assert tags.open == []


def test_a_plot_survives_what_is_missing_and_what_is_far_off() -> None:
    values = [Estimate(1e-9, -5.0, 1e9), UNKNOWN, Estimate(1.0, float("-inf"), float("inf")), Estimate(-1.0, -2, 0)]
    for log_y in (False, True):
        drawn = plot("a", "x", "y", [Curve(name="n", x=[0.1, 1, 10, 100], y=values, color=0)], log_y=log_y)
        assert "nan" not in drawn
        assert "inf" not in drawn
    assert plot("a", "x", "y", [Curve(name="n", x=[1.0], y=[UNKNOWN], color=0)]) == ""


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.5, "50 %"), (0.034, "3.4 %"), (0.0012, "0.12 %"), (0.9993, "99.93 %"), (0.0, "0 %"), (1.0, "100 %"),
     (-0.02, "-2 %"), (0.3, "30 %"), (float("nan"), "unknown")],
)  # fmt: skip
def test_shares_are_written_with_the_digits_that_tell(value: float, said: str) -> None:
    assert format_percent(value) == said


def test_a_card_without_such_a_section_gets_the_results_at_its_end(evaluated: tuple[EvalResult, ReportData]) -> None:
    card = with_evaluation("# mine\n", evaluated[0])
    assert card.startswith("# mine\n\n" + BEGIN)
    assert with_evaluation(card, evaluated[0]) == card


def test_help_does_not_wait_for_torch() -> None:
    import subprocess
    import sys

    code = "import sys; from tintype.cli.main import parser; parser(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
