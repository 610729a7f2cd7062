"""The command line: `tintype COMMAND`. Results go to stdout, progress and errors to stderr.

Exit codes: 0 done, 1 failed, 2 wrong use, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP; 75 training was preempted (SIGUSR2);
run the same command to continue.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from tintype._version import __version__
from tintype.cli import options
from tintype.cli.commands import (
    average,
    check,
    distill,
    doctor,
    evaluate,
    explain,
    export,
    generate,
    import_model,
    info,
    push,
    serve,
    shapes,
    tokens,
    train,
    verify,
)
from tintype.cli.options import Parser
from tintype.errors import ConfigError, TintypeError, TintypeWarning, is_out_of_memory
from tintype.printable import print_line

SIGNAL_MESSAGES = {
    143: "terminated",
    129: "the terminal was closed",
    75: "preempted; run the same command again to continue",
}
NO_MEMORY = "not enough memory; use a smaller batch, size or model, or close other programs"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name may hold what the terminal cannot show
    arguments = options.normalized(sys.argv[1:] if argv is None else argv)
    try:
        args = options.parse(parser(), arguments)
    except SystemExit as stop:  # argparse has printed the error
        return stop.code if isinstance(stop.code, int) else 2
    try:
        with _terminable(), _warnings_in_lines():
            code: int = args.run(args)
            sys.stdout.flush()
            return code
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe: print nothing more, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return _failed(args, "interrupted", 130)
    except SystemExit as stop:
        return _failed(args, SIGNAL_MESSAGES[stop.code], stop.code) if stop.code in SIGNAL_MESSAGES else 1
    except ConfigError as error:
        return _failed(args, str(error), 2)
    except TintypeError as error:
        return _failed(args, str(error), 1)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        return _failed(args, message, 1)
    except Exception as error:
        if is_out_of_memory(error):
            return _failed(args, NO_MEMORY, 1)
        return _failed(args, f"unexpected {type(error).__name__}: {error}; add --debug to see where", 1)


def _failed(args: argparse.Namespace, message: str, code: int) -> int:
    if args.debug:
        traceback.print_exc()
    print_line(f"tintype: {' '.join(message.split())}", sys.stderr)
    return code


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into an exit with code 143, so that files are closed. Training has a handler of its own."""

    def stop(signal_number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous_handler = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


@contextmanager
def _warnings_in_lines() -> Iterator[None]:
    """Print warnings of Tintype as one line each; those of other packages stay as they are."""
    with warnings.catch_warnings():
        show_other = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, TintypeWarning):
                print_line(f"tintype: warning: {message}", sys.stderr)
            else:
                show_other(message, category, filename, lineno, file, line)

        warnings.simplefilter("always", TintypeWarning)
        warnings.showwarning = show
        yield


def parser() -> Parser:
    """Every command and option."""
    top = Parser(
        "tintype", description="Turn captioned pictures into your own text-to-image model.", allow_abbrev=False
    )
    top.add_argument("--version", action="version", version=f"tintype {__version__}")
    top.add_argument("--debug", action="store_true", help="show where an error comes from")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for name, summary, build in (
        ("check", "find problems in captioned pictures", check.add_options),
        ("train", "train a model on captioned pictures, or resume a run", train.add_options),
        ("distill", "distill a trained model into one that needs few steps and no guidance", distill.add_options),
        ("tokens", "train a model that writes pictures token by token", tokens.add_options),
        ("average", "average the weights of a run over another window", average.add_options),
        ("generate", "make pictures from captions", generate.add_options),
        ("evaluate", "measure a model and write a report", evaluate.add_options),
        ("verify", "check the certificate of an evaluation: model, pictures, report, samples", verify.add_options),
        ("serve", "serve models as a web page and an API", serve.add_options),
        ("studio", "train your own model from a page: pictures, captions, training", serve.add_studio_options),
        ("export", "write a model in another form, for other people and programs", export.add_options),
        ("import", "make a model folder of a model that someone has exported", import_model.add_options),
        ("push", "publish an exported folder on the Hugging Face Hub", push.add_options),
        ("shapes", "write drawn pictures with captions, as data to try things on", shapes.add_options),
        ("info", "describe a picture, a model or a run", info.add_options),
        ("redo", "reproduce a picture from its receipt", generate.add_redo_options),
        ("explain", "name the training pictures behind a picture", explain.add_options),
        ("doctor", "describe this machine and what Tintype can use of it", doctor.add_options),
    ):
        about = f"{summary[0].upper()}{summary[1:]}."
        command = commands.add_parser(name, help=summary, prog=f"tintype {name}", description=about, allow_abbrev=False)
        command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        build(command)
        command.set_defaults(command_parser=command)
    return top
