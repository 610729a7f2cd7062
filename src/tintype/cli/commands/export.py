"""`tintype export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tintype.export.options import FORMS, PRECISIONS


def add_options(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        "An export holds nothing of the training but its settings: no pictures, captions, paths, logs or states of the "
        "optimizer. A learned vocabulary has pieces of words from the captions."
    )
    command.add_argument("model", metavar="MODEL", help="a shipped name, a model folder, a run folder or hf:OWNER/NAME")
    command.add_argument(
        "--to",
        choices=FORMS,
        default=next(iter(FORMS)),
        help=f"{'; '.join(f'{name}: {form.help}' for name, form in FORMS.items())} ({next(iter(FORMS))})",
    )
    command.add_argument("--out", type=Path, required=True, metavar="PATH", help="the folder or file to write")
    command.add_argument("--license", default="", metavar="SPDX", help="who may use it, such as CC-BY-4.0 (not given)")
    command.add_argument("--name", default="", metavar="NAME", help="of the model, in its card (that of PATH)")
    command.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="",
        help=f"of the stored weights ({', '.join(f'{name}: {form.precision}' for name, form in FORMS.items())})",
    )
    command.add_argument(
        "--examples",
        nargs="*",
        metavar="CAPTION",
        help="captions to publish with it, with pictures that it draws for them; without any, sample captions of its "
        "run",
    )
    command.add_argument("--card", type=Path, metavar="FILE", help="Markdown in place of the card that is made")
    command.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the export and print its path."""
    from tintype.cli.run.export import export

    return export(args)
