"""The model card's lines to copy run nothing that a caption, a data set or a name could bring."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tintype.config import Config
from tintype.model import file_names
from tintype.training.core.validation_error import ValidationMetrics
from tintype.training.model_card import model_card

HOSTILE = (
    "a cat $(touch ran) `touch ran`",
    "'; touch ran; echo '",
    'a "quoted" caption \\',
    "a\nnewline\n```\ntouch ran\n```",
    "$HOME & touch ran | x > ran",
    "\x1b]0;title\x07 \u202ereversed",
    "--output=ran.png",
    "-h",
)


def card(caption: str, name: str = "mine", data: str = "pictures") -> str:
    return model_card(
        name,
        Config(),
        data=data,
        num_training=1,
        num_held_out=0,
        num_left_out=0,
        fingerprint="f",
        num_weights=1,
        images_seen=1,
        seconds=1,
        ema_width=0.1,
        metrics=ValidationMetrics(),
        caption=caption,
    )


def arguments(text: str, folder: Path, command: str = "generate") -> list[str]:
    """What a shell hands to `tintype` when the line of the card is copied."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"    tintype {command}")]
    program = folder / "bin" / "tintype"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    program.chmod(0o755)
    environment = {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "HOME": "/home"}
    done = subprocess.run(["sh", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert [path.name for path in folder.iterdir()] == ["bin"]
    parsed: list[str] = json.loads(done.stdout)
    return parsed


@pytest.mark.parametrize("caption", HOSTILE)
def test_the_command_to_copy_runs_nothing_of_a_caption(caption: str, tmp_path: Path) -> None:
    from tintype.cli.main import parser
    from tintype.cli.options import normalized

    args = parser().parse_args(normalized(arguments(card(caption, name="m; touch ran"), tmp_path)))
    visible = "".join(c for c in " ".join(caption.split()) if c.isprintable())
    assert (args.captions, args.model, args.output) == ([visible], "m; touch ran", None)


def test_a_name_is_not_taken_for_an_option(tmp_path: Path) -> None:
    assert arguments(card("a star", name="-x"), tmp_path) == ["generate", "--model=-x", "--", "a star"]


@pytest.mark.parametrize("name", HOSTILE)
def test_the_card_says_what_is_private_and_how_to_share_the_rest(name: str, tmp_path: Path) -> None:
    from tintype.cli.main import parser
    from tintype.cli.options import normalized

    text = card("a star", name=name)
    assert {name for name in file_names.PRIVATE if name not in text.partition("## Share")[2]} == {file_names.CARD}
    args = parser().parse_args(normalized(arguments(text, tmp_path, "export")))
    visible = "".join(c for c in " ".join(name.split()) if c.isprintable())
    assert (args.model, str(args.out)) == (visible, "FOLDER")


@pytest.mark.parametrize("caption", HOSTILE)
def test_the_code_to_copy_holds_the_caption_as_text(caption: str) -> None:
    name = """x'"+1"""
    text = card(caption, name)
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert {ast.unparse(call.func) for call in calls} == {"Pipeline.load", f"Pipeline.load({name!r}).generate"}
    (generate,) = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "generate"]
    assert ast.literal_eval(generate.args[0]) == [caption]


def test_names_do_not_change_the_card() -> None:
    text = card("a star", name="m\n<script>", data="d`\n\n    touch ran\n<img src=x>")
    assert "<" not in text.partition("## Use")[0]
    assert all(line.isprintable() for line in text.splitlines())
    assert "\n    touch ran" not in text


def test_an_honest_card_reads_as_before() -> None:
    text = card("a red circle", name="shapes")
    assert "\n    tintype generate 'a red circle' --model shapes\n" in text
    assert "Pipeline.load('shapes').generate(['a red circle'], steps=" in text
