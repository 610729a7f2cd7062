"""Files for a proxy, systemd and containers: their commands are commands of today, and they agree with the server."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tintype.cli.main import parser
from tintype.serving.settings import Settings, checked_root_path

DOCS = Path(__file__).parents[2] / "docs"
FILES = sorted((DOCS / "deploy").iterdir())


def commands(text: str) -> list[list[str]]:
    """Every `tintype serve` in a text, as arguments."""
    return [shlex.split(command) for command in re.findall(r"tintype (serve [^`\n]*)", text)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_commands_are_those_of_today(path: Path) -> None:
    named = commands(path.read_text())
    assert named
    for arguments in named:
        args = parser().parse_args(arguments)
        assert checked_root_path(args.root_path) in ("", "/tintype")
        assert args.allow_host in ([], ["pics.example.com"])


def test_the_container_starts_the_server() -> None:
    text = (DOCS / "deploy" / "Dockerfile").read_text()
    args = parser().parse_args(json.loads(text.rpartition("CMD ")[2]))
    assert (args.host, args.port) == ("0.0.0.0", Settings().port)
    assert f"EXPOSE {args.port}" in text


def test_proxies_let_forms_pass_and_wait_as_long_as_the_server() -> None:
    nginx, caddy = (DOCS / "deploy" / name for name in ("nginx.conf", "Caddyfile"))
    megabytes = Settings().max_form // 2**20
    assert f"client_max_body_size {megabytes}m;" in nginx.read_text()
    assert f"max_size {megabytes}MiB" in caddy.read_text()
    waits = re.search(r"proxy_read_timeout (\d+)s", nginx.read_text())
    assert waits is not None
    assert int(waits[1]) > Settings().deadline


def test_the_documentation_names_every_file() -> None:
    text = (DOCS / "serving.md").read_text()
    assert [path.name for path in FILES if f"](deploy/{path.name})" not in text] == []
