"""`tintype push`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_options(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        "Log in first, with hf auth login. Others then use it as --model hf:OWNER/NAME. Run folders are refused: they "
        "hold captions and paths."
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="what tintype export has written")
    command.add_argument("repository", metavar="OWNER/NAME", help="repository, made if it is missing")
    command.add_argument("--private", action="store_true", help="others cannot see a new repository")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Upload the folder and print the address of the repository."""
    from tintype.export.push import push
    from tintype.printable import print_line

    print_line(push(args.folder, args.repository, private=args.private))
    return 0
