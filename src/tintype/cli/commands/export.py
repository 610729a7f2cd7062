"""`tintype export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tintype.export.options import DEFAULT_PRECISION, FORMS, PRECISIONS

HELP = {  # the same keys as FORMS
    "folder": "a model folder with half the size and a card, for other people",
    "onnx": "a folder of ONNX graphs for other languages and runtimes, checked against the model",
    "page": "one HTML file that opens from a disk and draws by itself",
    "site": "the same as a folder for a static web server",
}


def add_options(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        "An export holds nothing of the training but its settings: no pictures, captions, paths, logs or states of the "
        "optimizer. A learned vocabulary has pieces of words from the captions."
    )
    command.add_argument("model", metavar="MODEL", help="a shipped name, a model folder, a run folder or hf:OWNER/NAME")
    command.add_argument(
        "--to",
        choices=FORMS,
        default=FORMS[0],
        help=f"{'; '.join(f'{form}: {HELP[form]}' for form in FORMS)} ({FORMS[0]})",
    )
    command.add_argument("--out", type=Path, required=True, metavar="PATH", help="the folder or file to write")
    command.add_argument("--license", default="", metavar="SPDX", help="who may use it, such as CC-BY-4.0 (not given)")
    command.add_argument("--name", default="", metavar="NAME", help="of the model, in its card (that of PATH)")
    command.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="",
        help=f"of the stored weights ({', '.join(f'{form}: {DEFAULT_PRECISION[form]}' for form in FORMS)})",
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
