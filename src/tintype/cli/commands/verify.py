"""`tintype verify`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_options(command: argparse.ArgumentParser) -> None:
    command.epilog = "tintype evaluate writes the certificate. Exit code 1: something is not what it was."
    command.add_argument("model", metavar="MODEL", help="model folder or run folder with a certificate.json")
    command.add_argument("data", nargs="?", metavar="DATA", help="the captioned pictures that it was evaluated on")
    command.add_argument("--certificate", type=Path, metavar="FILE", help="another certificate than the model's own")
    command.add_argument("--draw", action="store_true", help="draw all samples again, and search them for copies again")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--cache", type=Path, metavar="FOLDER", help="with --draw: folder that keeps decoded pictures")
    command.add_argument("--device", metavar="NAME", help="with --draw: cpu, cuda, cuda:1, mps")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from tintype.cli.run.verify import run

    return run(args)
