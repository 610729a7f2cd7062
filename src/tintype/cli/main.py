"""The command line: `tintype COMMAND`. Results go to stdout, progress and errors to stderr.

Exit codes: 0 done, 1 failed, 2 wrong use, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP; 75 training was preempted (SIGUSR2) and
wants to be run again.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from tintype._version import __version__
from tintype.cli import options
from tintype.cli.commands import average, check, distill, evaluate, generate, serve, shapes, show, train
from tintype.cli.options import Parser
from tintype.errors import ConfigError, TintypeError

ENDED = {143: "terminated", 129: "the terminal was closed", 75: "preempted; run the same command again to go on"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name may hold what the terminal cannot show
    arguments = options.normalized(sys.argv[1:] if argv is None else argv)
    try:
        args = parser().parse_args(arguments)
    except SystemExit as end:  # argparse has said what is wrong
        return end.code if isinstance(end.code, int) else 2
    try:
        with _terminable():
            code: int = args.run(args)
            sys.stdout.flush()
            return code
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough; nothing more is said, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return _failed(args, "interrupted", 130)
    except SystemExit as end:
        return _failed(args, ENDED[end.code], end.code) if end.code in ENDED else 1
    except ConfigError as error:
        return _failed(args, str(error), 2)
    except TintypeError as error:
        return _failed(args, str(error), 1)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        return _failed(args, what, 1)
    except MemoryError:
        return _failed(args, "there is not enough memory for this", 1)
    except Exception as error:
        return _failed(args, f"unexpected {type(error).__name__}: {error}; run it again with --debug to see where", 1)


def _failed(args: argparse.Namespace, message: str, code: int) -> int:
    if args.debug:
        traceback.print_exc()
    _say(" ".join(message.split()))
    return code


def _say(message: str) -> None:
    print(f"tintype: {message}", file=sys.stderr)


@contextmanager
def _terminable() -> Iterator[None]:
    """End with exit code 143 on SIGTERM, so that what is open is closed. Training saves first, in its own way."""

    def end(signal_number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def parser() -> Parser:
    """Every command and option."""
    top = Parser(
        "tintype", description="Turn captioned pictures into your own text-to-image model.", allow_abbrev=False
    )
    top.add_argument("--version", action="version", version=f"tintype {__version__}")
    top.add_argument("--debug", action="store_true", help="show where an error comes from")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for name, summary, build in (
        ("check", "look for problems in captioned pictures", check.add_options),
        ("train", "train a model on captioned pictures, or go on training", train.add_options),
        ("distill", "tune a trained model for few steps without guidance", distill.add_options),
        ("average", "average the weights of a run over another length", average.add_options),
        ("generate", "make pictures from captions", generate.add_options),
        ("evaluate", "whether a model is any good, in a report to look at", evaluate.add_options),
        ("serve", "a page and an API that make pictures", serve.add_options),
        ("shapes", "write drawn, captioned pictures to try things on", shapes.add_options),
        ("info", "what made a picture; what a model is, how far a run has come", show.add_info_options),
        ("redo", "make a picture again from its receipt", generate.add_redo_options),
        ("doctor", "what Tintype finds on this machine", show.add_doctor_options),
    ):
        about = f"{summary[0].upper()}{summary[1:]}."
        command = commands.add_parser(name, help=summary, prog=f"tintype {name}", description=about, allow_abbrev=False)
        command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        build(command)
    return top
