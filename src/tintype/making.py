"""The commands that make pictures: generate and redo."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from tintype import options
from tintype.data.pictures import PictureError, read_picture
from tintype.errors import CheckpointError, ConfigError, TintypeError
from tintype.pipeline import Pipeline
from tintype.receipt import Receipt, read, to_png
from tintype.request import Request
from tintype.sheet import Frame, animation, contact_sheet, frame, shown


def generate(args: Namespace) -> int:
    """Make pictures from captions, save each and print its path. Returns the exit code."""
    if args.init_image is None and (args.mask is not None or args.strength is not None):
        raise ConfigError("--mask and --strength change a picture: give it with --init-image")
    init_image, mask = _read(args.init_image), _read(args.mask)
    pipeline = Pipeline.load(args.model, args.device)
    num = args.num_images
    request = pipeline.request(
        [caption for caption in args.captions for _ in range(num)],
        seeds=args.seed,
        indices=list(range(num)) * len(args.captions),
        steps=args.steps,
        guidance=args.guidance,
        sampler=args.sampler,
        negative=args.negative,
        init_image=init_image,
        strength=args.strength,
        mask=mask,
        width=args.width,
        height=args.height,
    )
    cut = pipeline.num_cut([*args.captions, request.negative])
    if cut:
        limit = pipeline.config.text.max_tokens
        _say(f"note: {cut} of the texts longer than the {limit} tokens this model reads; the end is not used")
    frames: list[Frame] | None = None if args.save_steps is None else []
    for index, (picture, receipt) in enumerate(_made(pipeline, request, frames)):
        stem = options.numbered(f"{options.slug(receipt.caption)}-s{receipt.seed}", index % num, num)
        path = _save(args.output, stem, to_png(picture, receipt), index, len(request))
        print(f"{path}  seed {receipt.seed}" + (f" index {receipt.index}" if num > 1 else ""), flush=True)
    if frames:
        print(_save_steps(args.save_steps, frames, len(request)))
    return 0


def redo(args: Namespace) -> int:
    """Make a picture again from its receipt. Returns the exit code."""
    receipt = read(args.picture)
    if bool(receipt.init_image) != bool(args.init_image) or bool(receipt.mask) != bool(args.mask):
        wanted = [name for name, used in (("--init-image", receipt.init_image), ("--mask", receipt.mask)) if used]
        raise ConfigError(f"this picture can be made again with {' and '.join(wanted) or 'no --init-image or --mask'}")
    init_image, mask = _read(args.init_image), _read(args.mask)
    pipeline = _model_of(receipt, args.model, args.device)
    request = pipeline.request(
        receipt.caption,
        seeds=[receipt.seed],
        indices=[receipt.index],
        steps=receipt.steps,
        guidance=receipt.guidance,
        sampler=receipt.sampler,
        negative=receipt.negative,
        init_image=init_image,
        strength=receipt.strength if receipt.init_image else None,
        mask=mask,
        width=receipt.width,
        height=receipt.height,
    )
    for warning in _differences(receipt, pipeline.receipts(request)[0]):
        _say(f"warning: {warning}; the new picture may look different")
    for picture, made in _made(pipeline, request):
        print(_save(args.output, f"{args.picture.stem}-redo", to_png(picture, made), 0, 1))
    return 0


def _say(message: str) -> None:
    print(f"tintype: {message}", file=sys.stderr)


def _read(path: Path | None) -> Image.Image | None:
    try:
        return None if path is None else read_picture(path)
    except PictureError as error:
        raise TintypeError(f"cannot use {path}: {error}") from None


def _made(
    pipeline: Pipeline, request: Request, frames: list[Frame] | None = None
) -> Iterator[tuple[Image.Image, Receipt]]:
    """Make the pictures of a request, with a bar on a terminal; the steps of the first ones are added to `frames`."""
    parts = list(request.parts(pipeline.batch_limit(request)))
    for part_index, part in enumerate(parts):
        with _bar() as progress:
            task: TaskID | None = None
            for step in pipeline.run(part):
                if task is None:
                    task = progress.add_task("", total=step.total * len(parts))
                progress.update(task, completed=part_index * step.total + step.index + 1)
                if frames is not None and part_index == 0:
                    rows = slice(shown(len(part), animated=False))
                    frames.append(frame(step.index, step.total, step.sigma, step.x[rows], step.denoised[rows]))
        yield from zip(pipeline.pictures(step.denoised), pipeline.receipts(part), strict=True)


def _bar() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("developing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,  # results stay on stdout
        disable=not console.is_terminal,
    )


def _save(place: Path | None, stem: str, content: bytes, index: int, num: int) -> Path:
    if place is None or options.is_folder(place):
        return options.write_new(place or Path(), stem, content)
    return options.write_over(place.with_name(options.numbered(place.stem, index, num) + place.suffix), content)


def _save_steps(path: Path, frames: Sequence[Frame], num_pictures: int) -> Path:
    animated = path.suffix.lower() == ".gif"
    num_shown = shown(len(frames[0].guess), animated)
    if num_shown < num_pictures:
        _say(f"note: {path} shows the first {num_shown} of {num_pictures} pictures")
    return options.write_over(path, animation(frames) if animated else contact_sheet(frames))


def _model_of(receipt: Receipt, model: str | None, device: str | None) -> Pipeline:
    if model is not None:
        return Pipeline.load(model, device)
    try:
        return Pipeline.load(receipt.model, device)
    except CheckpointError:
        name = receipt.model
        raise CheckpointError(f"the model of this picture, {name!r}, is not here: give --model FOLDER") from None


def _differences(before: Receipt, now: Receipt) -> Iterator[str]:
    """What is not as it was when the picture was made."""
    if before.model_hash != now.model_hash:
        yield f"model {now.model} has other weights than the picture was made with ({before.model_hash[:10]})"
    if before.version != now.version:
        yield f"the picture was made with tintype {before.version}, this is {now.version}"
    if before.init_image != now.init_image:
        yield "this is not the init image it was made from"
    if before.mask != now.mask:
        yield "this is not the mask it was made with"
