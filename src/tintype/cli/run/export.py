"""Body of `tintype export`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tintype.errors import ConfigError
from tintype.export.forms import export_model
from tintype.export.record import read_record
from tintype.model.read_file import MAX_CONFIG_BYTES, read_text
from tintype.printable import print_line, print_path


def export(args: argparse.Namespace) -> int:
    """Write the export, print its path, and to stderr its size and what its author should know."""
    examples: list[str] | None = args.examples
    out = export_model(
        args.model,
        args.out,
        to=args.to,
        name=args.name,
        license=args.license,
        precision=args.precision,
        examples=examples or examples is not None,
        card=None if args.card is None else _read_card(args.card),
        overwrite=args.overwrite,
    )
    files = [file for file in out.rglob("*") if file.is_file()] if out.is_dir() else [out]
    print_line(f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB", sys.stderr)
    record = read_record(out) if out.is_dir() else None
    if record is not None and not record.license:
        print_line("note: it has no license, so nobody else may use it; add one with --license SPDX", sys.stderr)
    print_path(out)
    return 0


def _read_card(path: Path) -> str:
    try:
        return read_text(path, MAX_CONFIG_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
