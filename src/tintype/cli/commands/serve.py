"""The command `tintype serve`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from tintype.cli.options import DEFAULT_MODEL, number, whole
from tintype.pipeline.limits import MAX_STEPS


def add_studio_options(command: argparse.ArgumentParser) -> None:
    """The options of `tintype studio`: those of `tintype serve`, with a studio."""
    add_options(command)
    command.epilog = (
        "Open the printed link in a browser on this machine: choose pictures, write captions, train, draw. Ctrl-C "
        "stops the server; training goes on, and the same command finds it again."
    )
    command.set_defaults(studio=True)


def add_options(command: argparse.ArgumentParser) -> None:
    command.epilog = "The page is at http://HOST:PORT, the OpenAI API at http://HOST:PORT/v1. Ctrl-C stops it."
    command.add_argument(
        "models",
        nargs="*",
        default=[DEFAULT_MODEL],
        metavar="MODEL",
        help="shipped names, model or run folders (shapes)",
    )
    command.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (127.0.0.1: this machine only)"
    )
    command.add_argument("--port", type=whole(0, 65535), default=8000, metavar="N", help="0 chooses a free one (8000)")
    command.add_argument("--api-key-file", type=Path, metavar="FILE", help="keys that clients need, one per line")
    command.add_argument(
        "--alias",
        action="append",
        default=[],
        metavar="NAME=MODEL",
        help="another name of a model, for clients that insist on one, such as dall-e-3=emoji; repeatable",
    )
    command.add_argument(
        "--a1111",
        action="store_true",
        help="also serve the API of A1111's web UI, under /sdapi/v1, for clients that speak it",
    )
    command.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another host name of this server and its page, such as that of a proxy before it",
    )
    command.add_argument(
        "--root-path",
        default="",
        metavar="PATH",
        help="path of the server in its public addresses, such as /tintype behind a proxy",
    )
    command.add_argument(
        "--max-waiting", type=whole(1, 10**6), default=64, metavar="N", help="requests in the queue (64)"
    )
    command.add_argument(
        "--max-batch", type=whole(1, 4096), metavar="N", help="pictures in one network call (measured)"
    )
    command.add_argument(
        "--max-steps", type=whole(1, MAX_STEPS), default=200, metavar="N", help="most steps of a picture (200)"
    )
    command.add_argument(
        "--deadline",
        type=number(1, 86400),
        default=600.0,
        metavar="S",
        help="seconds for a request, with its time in the queue (600)",
    )
    command.add_argument(
        "--allow-export", action="store_true", help="let every client export models (clients on this machine)"
    )
    studio = command.add_argument_group("studio")
    studio.add_argument(
        "--studio",
        action="store_true",
        help="also a studio on the page, for this machine only: data, captions and training; as `tintype studio`",
    )
    studio.add_argument("--root", type=Path, metavar="FOLDER", help="people choose pictures below it (the home folder)")
    studio.add_argument(
        "--studio-folder",
        type=Path,
        default=Path("tintype-studio"),
        metavar="FOLDER",
        help="what the studio writes: captions, uploads, runs (tintype-studio)",
    )
    studio.add_argument(
        "--captioner",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="an image-to-text model of transformers that suggests captions; repeatable (those on this disk are found)",
    )
    command.add_argument("--log-prompts", action="store_true", help="write captions to the log")
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    command.add_argument(
        "--no-cuda-graphs", dest="cuda_graphs", action="store_false", help="launch each kernel of the network by itself"
    )
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from tintype.serving.server import serve, with_keys
    from tintype.serving.settings import Settings, checked_aliases, checked_root_path

    settings = Settings(
        host=args.host,
        port=args.port,
        allowed_hosts=tuple(args.allow_host),
        root_path=checked_root_path(args.root_path),
        log_prompts=args.log_prompts,
        aliases=checked_aliases(args.alias),
        a1111=args.a1111,
        allow_export=args.allow_export,
        max_waiting=args.max_waiting,
        max_batch=args.max_batch,
        cuda_graphs=args.cuda_graphs,
        max_steps=args.max_steps,
        deadline=args.deadline,
    )
    settings = with_keys(settings, args.api_key_file)
    if not args.studio:
        serve(args.models, settings, args.device)
        return 0
    from tintype.studio.extension import open_studio
    from tintype.studio.uploads import UploadLimits

    studio = open_studio(settings, args.root or Path.home(), args.studio_folder, args.captioner)
    try:
        serve(args.models, replace(settings, max_chunk=UploadLimits().chunk), args.device, studio)
    finally:
        studio.studio.close()
    return 0
