"""`tintype generate` and `tintype redo` for pictures that are written token by token."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image

from tintype.cli import options
from tintype.cli.run.prompts_file import Prompt
from tintype.cli.run.save import report, save_picture
from tintype.errors import CheckpointError, ConfigError
from tintype.pipeline.image_file import read_texts
from tintype.printable import print_path
from tintype.tokens.receipt import TokenReceipt
from tintype.tokens.store import is_token_model
from tintype.tokens.write import WriteRequest
from tintype.tokens.writer import TokenWriter
from tintype.view.terminal import Preview

BATCH = 64  # pictures written together
WRITING = ("temperature", "top_k")  # options that only a token model has
_COMMON = {  # options of generate that mean the same here
    *("captions", "prompts_file", "model", "num_images", "seeds", "guidance", "device", "preview", "output"),
    *("debug", "run", "command_parser", "command", "cuda_graphs", *WRITING),
}


def generate_tokens(args: Namespace, prompts: list[Prompt]) -> int:
    """Write pictures for captions, save each and print its path. Returns the exit code. Raises ConfigError."""
    foreign = [name for name, value in vars(args).items() if name not in _COMMON and value not in (None, False)]
    foreign += [name for prompt in prompts for name in prompt.options if name not in ("seeds", "guidance")]
    if foreign:
        name = foreign[0].replace("_", "-")
        raise ConfigError(
            f"{args.model} writes pictures token by token, without noise and steps: --{name} means nothing to it; use "
            "--seed, --guidance, --temperature and --top-k, or a diffusion model"
        )
    writer = TokenWriter.load(args.model, args.device)
    num = args.num_images or 1
    jobs = []
    for prompt in prompts:
        guidance = prompt.options.get("guidance", args.guidance)
        if guidance is not None and not isinstance(guidance, (int, float)):
            raise ConfigError("guidance must be one number")
        jobs += [
            writer.request(
                [prompt.caption],
                seeds=[int(prompt.options.get("seeds", args.seeds))],  # type: ignore[arg-type]
                indices=[index],
                temperature=args.temperature,
                top_k=args.top_k,
                guidance=guidance,
            )
            for index in range(num)
        ]
    for index, (picture, receipt) in enumerate(_written(writer, jobs, show_picture=args.preview)):
        stem = options.numbered(f"{options.slug(receipt.caption)}-s{receipt.seed}", index % num, num)
        path = save_picture(args.output, stem, picture, receipt, index, len(jobs))
        print_path(f"{path}  seed {receipt.seed}" + (f" index {receipt.index}" if num > 1 else ""))
    return 0


def read_token_receipt(picture: Path) -> TokenReceipt | None:
    """The receipt of a picture that was written token by token; None for any other. Raises DataError."""
    return TokenReceipt.from_json(read_texts(picture).get("tintype", ""))


def redo_tokens(args: Namespace, receipt: TokenReceipt) -> int:
    """Write a picture again from its receipt. Returns the exit code."""
    if args.init_image or args.mask or args.guide:
        raise ConfigError("this picture was written token by token, without --init-image, --mask and --guide")
    model = args.model or receipt.model
    if args.model is None and (any(c in model for c in "/\\:\0") or model in ("", ".", "..")):
        raise ConfigError("this picture names no model, or a path as its model: give --model FOLDER if you trust it")
    if not is_token_model(model):
        raise CheckpointError(f"the model of this picture, {model!r}, is not here: give --model FOLDER")
    writer = TokenWriter.load(model, args.device)
    request = writer.request(
        [receipt.caption],
        seeds=[receipt.seed],
        indices=[receipt.index],
        temperature=receipt.temperature,
        top_k=receipt.top_k,
        guidance=receipt.guidance,
    )
    if writer.model_hash != receipt.model_hash:
        report(f"warning: model {model} has other weights than the model of the picture; it may look different")
    for picture, new_receipt in _written(writer, [request], show_picture=args.preview):
        print_path(save_picture(args.output, f"{args.picture.stem}-redo", picture, new_receipt, 0, 1))
    return 0


def require_no_writing(args: Namespace) -> None:
    """Raise ConfigError for an option that a diffusion model does not have."""
    for name in WRITING:
        if getattr(args, name, None) is not None:
            raise ConfigError(
                f"--{name.replace('_', '-')} is of models that write token by token, such as shapes-tokens, and "
                f"{args.model} is a diffusion model"
            )


def _written(
    writer: TokenWriter, requests: list[WriteRequest], *, show_picture: bool
) -> Iterator[tuple[Image.Image, TokenReceipt]]:
    """The pictures of requests of one picture each, with progress on a terminal."""
    total = writer.config.net.num_tokens
    with Preview(writer.model.codebook.decode, show_picture) as preview:
        for number, request in enumerate(requests):
            tokens = torch.zeros(1, total, dtype=torch.int64)
            for step in writer.write(request):
                tokens[0, step.place] = step.tokens[0]
                preview.update(number * total + step.place + 1, len(requests) * total, tokens)
            yield writer.pictures(tokens)[0], writer.receipts(request)[0]
