"""`tintype import`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_options(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        "Nothing in the source is run. A page with int8 weights gives a model with these rounded weights. The license "
        "stays what its author has given."
    )
    command.add_argument(
        "source",
        metavar="SOURCE",
        help="an exported page (.html), the folder of a site, a model folder or hf:OWNER/NAME",
    )
    command.add_argument("--out", type=Path, required=True, metavar="PATH", help="the model folder to write")
    command.add_argument("--overwrite", action="store_true", help="replace an earlier export or import")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Import the model, print its license to stderr and its path."""
    import sys

    from tintype.export.importing.import_model import import_model
    from tintype.export.record import read_record
    from tintype.printable import print_line, print_path

    out = import_model(args.source, args.out, overwrite=args.overwrite)
    record = read_record(out)
    if record is not None:
        print_line(
            f"license: {record.license}"
            if record.license
            else "note: it has no license; ask its author what you may do",
            sys.stderr,
        )
    print_path(out)
    return 0
