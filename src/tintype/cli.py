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
from pathlib import Path
from types import FrameType

from tintype import __version__, averaging, options
from tintype.config import PRESETS
from tintype.errors import ConfigError, TintypeError
from tintype.options import Parser, minutes, number, whole
from tintype.request import MAX_GUIDANCE, MAX_SEED, MAX_SIDE, MAX_STEPS, MIN_STRENGTH, STRENGTH

DEFAULT_MODEL = "shapes"
# Known without importing torch.
SAMPLERS = (
    *("unipc", "dpmpp_2m", "deis_2", "deis_3", "deis_4", "euler", "ddim", "heun", "reference"),
    *("ddpm", "euler_ancestral", "dpmpp_2m_sde", "heun_churn"),
)
ENDED = {143: "terminated", 129: "the terminal was closed", 75: "preempted; run the same command again to go on"}
GRIDS = ("logistic", "log_snr", "karras", "flow")


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
        ("check", "look for problems in captioned pictures", _check_options),
        ("train", "train a model on captioned pictures, or go on training", _train_options),
        ("average", "average the weights of a run over another length", averaging.add_options),
        ("generate", "make pictures from captions", _generate_options),
        ("serve", "a page and an API that make pictures", _serve_options),
        ("shapes", "write drawn, captioned pictures to try things on", _shapes_options),
        ("info", "what made a picture; what a model is, how far a run has come", _info_options),
        ("redo", "make a picture again from its receipt", _redo_options),
        ("doctor", "what Tintype finds on this machine", _doctor_options),
    ):
        about = f"{summary[0].upper()}{summary[1:]}."
        command = commands.add_parser(name, help=summary, prog=f"tintype {name}", description=about, allow_abbrev=False)
        command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        build(command)
    return top


DATA = "a folder, .tar or .parquet file, URL, hf:NAME, or a .txt file that lists several of these"


def _check_options(command: argparse.ArgumentParser) -> None:
    command.epilog = "Nothing in DATA is ever changed."
    command.add_argument("data", metavar="DATA", help=DATA)
    command.add_argument(
        "--report", type=Path, metavar="FILE", help="also write FILE: .html with pictures, .json, text"
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--strict", action="store_true", help="exit with 1 if anything is left out")
    command.add_argument(
        "--text", type=options.text_encoder, default="minilm", metavar="ENCODER", help="whose limit captions must meet"
    )
    command.add_argument("--resolution", type=whole(8, MAX_SIDE), default=32, metavar="PX", help="to train at (32)")
    options.data_options(command)
    command.set_defaults(run=_check)


def _check(args: argparse.Namespace) -> int:
    from tintype.checking import run

    return run(args)


def _train_options(command: argparse.ArgumentParser) -> None:
    command.epilog = "The same command again goes on with a run that was stopped. Ctrl-C saves first."
    command.add_argument("data", metavar="DATA", help=DATA)
    command.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run, and of the model")
    length = command.add_mutually_exclusive_group()
    length.add_argument("--time", type=minutes, metavar="T", help="take about this long: 90s, 30m, 2h, 1h30m")
    length.add_argument("--steps", type=whole(1, 10**10), metavar="N", help="optimizer steps")
    length.add_argument("--images", type=whole(1, 10**13), metavar="N", help="images to show, repeats counted")
    command.add_argument("--preset", choices=("auto", *PRESETS), default="auto", help="size of the model")
    command.add_argument("--resolution", type=whole(8, MAX_SIDE), metavar="PX", help="side of the pictures")
    command.add_argument("--batch-size", type=whole(1, 2**20), metavar="N", help="images per step")
    command.add_argument("--micro-batch", type=whole(1, 2**20), metavar="N", help="images at once, if memory is short")
    command.add_argument("--lr", type=number(1e-8, 1), metavar="X", help="learning rate")
    command.add_argument("--seed", type=whole(0, MAX_SEED), metavar="N", help="0 to 2^63 - 1")
    command.add_argument("--from", dest="from_model", metavar="MODEL", help="start from the weights of this model")
    command.add_argument("--resume", default="auto", metavar="auto|never|PATH", help="go on with a run (default: auto)")
    command.add_argument(
        "--text", type=options.text_encoder, metavar="ENCODER", help="minilm (default), learned or hf:NAME-OR-FOLDER"
    )
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    command.add_argument("--save-every", type=minutes, metavar="T", help="time between checkpoints (5m)")
    command.add_argument("--sample-every", type=minutes, metavar="T", help="time between samples (5m)")
    command.add_argument("--keep", type=whole(1, 10**6), metavar="N", help="newest checkpoints to keep (3)")
    command.add_argument("--keep-every", type=whole(0, 10**13), metavar="N", help="keep one every N images for good")
    command.add_argument("--tensorboard", action="store_true", help="also write curves to RUN/tensorboard")
    command.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    command.add_argument("--exclude", type=Path, metavar="LIST", help="file of keys or sha256 never to train on")
    command.add_argument("--dedupe", action="store_true", default=None, help="leave out exact copies but the first")
    command.add_argument("--cache", type=Path, metavar="FOLDER", help="keep the training copy here, for several runs")
    command.add_argument("--stream", action="store_true", help="no training copy: decode whenever a picture is shown")
    options.data_options(command)
    command.set_defaults(run=_train)


def _train(args: argparse.Namespace) -> int:
    from rich.console import Console

    from tintype.train.request import DataRequest, TrainRequest
    from tintype.train.run import train

    request = TrainRequest(
        data=args.data,
        out=args.out,
        minutes=args.time,
        steps=args.steps,
        images=args.images,
        preset=None if args.preset == "auto" else args.preset,
        resolution=args.resolution,
        batch_size=args.batch_size,
        micro_batch=args.micro_batch,
        lr=args.lr,
        seed=args.seed,
        from_model=args.from_model,
        resume=args.resume,
        text=args.text,
        device=args.device,
        save_minutes=args.save_every,
        sample_minutes=args.sample_every,
        keep_last=args.keep,
        keep_every=args.keep_every,
        tensorboard=args.tensorboard,
        dry_run=args.dry_run,
        taking=DataRequest(
            crop=args.crop,
            alpha_color=args.alpha_color,
            min_size=args.min_size,
            max_aspect=args.max_aspect,
            animations=args.animations,
            caption_encoding=args.caption_encoding,
            no_caption=args.no_caption,
            dedupe=args.dedupe,
        ),
        exclude=args.exclude,
        cache=args.cache or _cache(),
        stream=args.stream,
    )
    run = train(request, Console(stderr=not args.dry_run))
    if not args.dry_run and os.environ.get("RANK", "0") == "0":  # of several processes, one speaks
        print(run)
    return 0


def _cache() -> Path | None:
    """Where the environment says that training copies are kept."""
    folder = os.environ.get("TINTYPE_CACHE")
    return Path(folder) if folder else None


def _making_options(command: argparse.ArgumentParser) -> None:
    """Options that generate and redo share."""
    command.add_argument("--init-image", type=Path, metavar="FILE", help="start from this picture, with noise on it")
    command.add_argument("--mask", type=Path, metavar="FILE", help="repaint the init image where this is white")
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    command.add_argument(
        "--no-preview", dest="preview", action="store_false", help="show a bar only, where a terminal can show pictures"
    )
    command.add_argument(
        "--output",
        type=options.picture_place,
        metavar="FILE|FOLDER",
        help="a .png, replaced if it is there, or a folder; several pictures in FILE become FILE-0, FILE-1, ... "
        "(default: names from captions in the current folder, where nothing is ever replaced)",
    )


def _generate_options(command: argparse.ArgumentParser) -> None:
    command.epilog = "Image j has seed N and index j, and is the same picture when made alone. Unset: the model's own."
    command.add_argument("captions", nargs="*", metavar="CAPTION", help="what to make")
    command.add_argument("--prompts-file", type=Path, metavar="FILE", help="more captions, one a line, UTF-8")
    command.add_argument(
        "--model", default=DEFAULT_MODEL, metavar="NAME|FOLDER", help="shipped name, model or run folder (shapes)"
    )
    command.add_argument(
        "--num-images", type=whole(1, 10_000), metavar="N", help="per caption (1; 8 on the way to another)"
    )
    command.add_argument("--seed", type=whole(0, MAX_SEED), default=0, metavar="N", help="of the starting noise (0)")
    command.add_argument("--steps", type=whole(1, MAX_STEPS), metavar="N", help="steps from noise to picture")
    command.add_argument(
        "--guidance", type=number(0, MAX_GUIDANCE), metavar="W", help="how strictly to follow the caption; 1 is plainly"
    )
    command.add_argument(
        "--guidance-interval", type=options.interval, metavar="LOW,HIGH", help="noise levels at which guidance acts"
    )
    command.add_argument("--negative", metavar="TEXT", help="what to steer away from")
    command.add_argument("--sampler", choices=SAMPLERS, help="how to step")
    command.add_argument("--grid", choices=GRIDS, help="how noise levels are spaced")
    command.add_argument("--width", type=whole(1, MAX_SIDE), metavar="PX")
    command.add_argument("--height", type=whole(1, MAX_SIDE), metavar="PX")
    command.add_argument(
        "--strength", type=number(MIN_STRENGTH, 1), metavar="S", help=f"noise on the init image, to 1 ({STRENGTH:g})"
    )
    _making_options(command)
    command.add_argument(
        "--outpaint", type=options.margins, metavar="N|L,T,R,B", help="paint so many pixels around the init image"
    )
    command.add_argument(
        "--invert",
        metavar="CAPTION",
        help="lead the init image, of this caption, back to its noise and start there",
    )
    command.add_argument("--to-caption", metavar="TEXT", help="go from CAPTION to TEXT over the images")
    command.add_argument("--to-seed", type=whole(0, MAX_SEED), metavar="N", help="go from --seed to N over the images")
    command.add_argument(
        "--vary", type=number(0, 1), metavar="D", help="images after the first vary it: 0 not at all, 1 anew"
    )
    command.add_argument(
        "--strip", type=options.sheet_file, metavar="FILE", help="also all images side by side (.png) or in turn (.gif)"
    )
    command.add_argument(
        "--save-steps", type=options.sheet_file, metavar="FILE", help="show every step: .png sheet, .gif or .webp"
    )
    command.set_defaults(run=_generate)


def _generate(args: argparse.Namespace) -> int:
    from tintype.making import generate

    return generate(args)


def _serve_options(command: argparse.ArgumentParser) -> None:
    command.epilog = "The page is at http://HOST:PORT, the OpenAI API at http://HOST:PORT/v1. Ctrl-C stops it."
    command.add_argument(
        "models",
        nargs="*",
        default=[DEFAULT_MODEL],
        metavar="MODEL",
        help="shipped names, model or run folders (shapes)",
    )
    command.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (127.0.0.1: only here)"
    )
    command.add_argument("--port", type=whole(0, 65535), default=8000, metavar="N", help="0 takes a free one (8000)")
    command.add_argument("--api-key-file", type=Path, metavar="FILE", help="keys, one a line; without one of them: 401")
    command.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="a name it is reached by")
    command.add_argument("--max-waiting", type=whole(1, 10**6), default=64, metavar="N", help="requests in the queue")
    command.add_argument("--max-batch", type=whole(1, 4096), metavar="N", help="pictures at once (measured)")
    command.add_argument("--max-steps", type=whole(1, MAX_STEPS), default=200, metavar="N", help="per picture (200)")
    command.add_argument("--deadline", type=number(1, 86400), default=600.0, metavar="S", help="seconds a request has")
    command.add_argument("--log-prompts", action="store_true", help="write captions to the log")
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    command.set_defaults(run=_serve)


def _serve(args: argparse.Namespace) -> int:
    from tintype.serve.server import serve, with_keys
    from tintype.serve.settings import Settings

    settings = Settings(
        host=args.host,
        port=args.port,
        allowed_hosts=tuple(args.allow_host),
        log_prompts=args.log_prompts,
        max_waiting=args.max_waiting,
        max_batch=args.max_batch,
        max_steps=args.max_steps,
        deadline=args.deadline,
    )
    serve(args.models, with_keys(settings, args.api_key_file), args.device)
    return 0


def _shapes_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, metavar="FOLDER", help="a new or empty folder")
    command.add_argument("--num", type=whole(1, 10**6), required=True, metavar="N", help="how many pictures")
    command.add_argument("--seed", type=whole(0, 2**32 - 1), default=0, metavar="S", help="which pictures (0)")
    command.add_argument("--size", type=whole(16, MAX_SIDE), default=64, metavar="PX", help="side of each picture (64)")
    command.set_defaults(run=_shapes)


def _shapes(args: argparse.Namespace) -> int:
    from tintype.data.shapes import write_shapes

    write_shapes(args.folder, args.num, args.seed, args.size)
    print(f"{args.folder}: {args.num} captioned pictures")
    return 0


def _info_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("what", metavar="FILE|FOLDER", help="a picture, a model folder, a run folder, a shipped name")
    command.set_defaults(run=_info)


def _info(args: argparse.Namespace) -> int:
    from tintype.show import info

    print("\n".join(info(args.what)))
    return 0


def _redo_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("picture", type=Path, metavar="PICTURE", help="a PNG that Tintype made")
    command.add_argument("--model", metavar="NAME|FOLDER", help="the model it was made with, if not found by its name")
    _making_options(command)
    command.set_defaults(run=_redo)


def _redo(args: argparse.Namespace) -> int:
    from tintype.making import redo

    return redo(args)


def _doctor_options(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    from tintype.show import doctor

    for line in doctor():
        print(line, flush=True)
    return 0
