"""The commands that make pictures: generate and redo."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from PIL import Image
from torch import Tensor

from tintype.cli import options
from tintype.data.images.decode import PictureError, read_picture
from tintype.diffusion.samplers import Step
from tintype.errors import CheckpointError, ConfigError, DataError, TintypeError
from tintype.model import store
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.receipt import Receipt, read, to_png
from tintype.pipeline.request import Request
from tintype.view.contact_sheet import Frame, animation, contact_sheet, frame, shown, strip
from tintype.view.terminal import Preview

FRAMES = 8  # variations, or images from one caption or seed to another, unless told otherwise


def generate(args: Namespace) -> int:
    """Make pictures from captions, save each and print its path. Returns the exit code."""
    edits = ("mask", "strength", "outpaint", "invert")
    if args.init_image is None and any(getattr(args, name) is not None for name in edits):
        raise ConfigError(f"{', '.join('--' + name for name in edits)} change a picture: give it with --init-image")
    captions = _captions(args)
    init_image, mask = _read(args.init_image), _read(args.mask)
    pipeline = Pipeline.load(args.model, args.device, args.guide)
    series = args.to_caption is not None or args.to_seed is not None or args.vary is not None
    num = args.num_images or (FRAMES if series else 1)
    if series and len(captions) > 1:
        raise ConfigError("--to-caption, --to-seed and --vary go with one caption")
    request = pipeline.request(
        [caption for caption in captions for _ in range(num)],
        seeds=args.seed,
        indices=[0] * num if series else list(range(num)) * len(captions),
        steps=args.steps,
        guidance=args.guidance,
        interval=args.guidance_interval,
        sampler=args.sampler,
        grid=args.grid,
        negative=args.negative,
        init_image=init_image,
        strength=args.strength,
        mask=mask,
        outpaint=args.outpaint,
        invert=args.invert,
        captions_to=args.to_caption,
        seeds_to=args.to_seed,
        variation=args.vary,
        width=args.width,
        height=args.height,
    )
    cut = pipeline.num_cut([*captions, request.negative])
    if cut:
        limit = pipeline.config.text.max_tokens
        _say(f"note: {cut} of the texts longer than the {limit} tokens this model reads; the end is not used")
    frames: list[Frame] | None = None if args.save_steps is None else []
    pictures: list[Image.Image] = []
    for place, (picture, receipt) in enumerate(_made(pipeline, request, frames, args.preview)):
        stem = options.numbered(f"{options.slug(receipt.caption)}-s{receipt.seed}", place % num, num)
        path = _save(args.output, stem, to_png(picture, receipt), place, len(request))
        print(f"{path}  seed {receipt.seed}" + (f" index {receipt.index}" if num > 1 else ""), flush=True)
        if args.strip is not None:
            pictures.append(picture)
    if frames:
        print(_save_steps(args.save_steps, frames, len(request)))
    if pictures:
        print(options.write_over(args.strip, strip(pictures, options.SHEETS[args.strip.suffix.lower()])))
    return 0


def redo(args: Namespace) -> int:
    """Make a picture again from its receipt. Returns the exit code."""
    receipt = read(args.picture)
    masked = bool(receipt.mask) and not receipt.outpaint  # outpainting makes a mask of its own
    if (
        bool(receipt.init_image) != bool(args.init_image)
        or (masked and not args.mask)
        or (args.mask and not receipt.mask)
    ):
        wanted = [name for name, used in (("--init-image", receipt.init_image), ("--mask", masked)) if used]
        raise ConfigError(f"this picture can be made again with {' and '.join(wanted) or 'no --init-image or --mask'}")
    init_image, mask = _read(args.init_image), _read(args.mask)
    pipeline = _model_of(receipt, args.model, args.guide, args.device)
    request = pipeline.request(
        receipt.caption,
        seeds=[receipt.seed],
        indices=[receipt.index],
        steps=receipt.steps,
        guidance=receipt.guidance,
        interval=(receipt.guidance_min, receipt.guidance_max),
        sampler=receipt.sampler,
        grid=receipt.grid,
        center=receipt.center,
        spread=receipt.spread,
        negative=receipt.negative,
        init_image=init_image,
        strength=receipt.strength if receipt.init_image else None,
        mask=mask,
        outpaint=[int(margin) for margin in receipt.outpaint.split()] or None,
        invert=receipt.invert,
        captions_to=None if receipt.caption_to is None else [receipt.caption_to],
        seeds_to=None if receipt.seed_to is None else [receipt.seed_to],
        indices_to=None if receipt.seed_to is None else [receipt.index_to],
        shares=None if receipt.caption_to is None and receipt.seed_to is None else [receipt.share],
        width=receipt.width,
        height=receipt.height,
    )
    for warning in _differences(receipt, pipeline.receipts(request)[0]):
        _say(f"warning: {warning}; the new picture may look different")
    for picture, made in _made(pipeline, request, None, args.preview):
        print(_save(args.output, f"{args.picture.stem}-redo", to_png(picture, made), 0, 1))
    return 0


def _say(message: str) -> None:
    print(f"tintype: {message}", file=sys.stderr)


def _read(path: Path | None) -> Image.Image | None:
    if path is not None and not path.exists():
        raise DataError(f"{path}: there is no such file")
    try:
        return None if path is None else read_picture(path)
    except PictureError as error:
        raise TintypeError(f"cannot use {path}: {error}") from None


def _captions(args: Namespace) -> list[str]:
    """What to make: from the command line, from a file, or as the receipt of the init image says."""
    captions = list(args.captions)
    if args.prompts_file is not None:
        captions += read_lines(args.prompts_file)
    if not captions and args.init_image is not None:
        try:
            captions = [read(args.init_image).caption]
        except DataError as error:
            raise ConfigError(f"give a CAPTION: {error}") from None
    if not captions:
        raise ConfigError("give a CAPTION, or a file of them with --prompts-file")
    if not all(caption.strip() for caption in captions):
        raise ConfigError("a CAPTION is empty: say what to make")
    return captions


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty. Raises DataError if it is not UTF-8 or has none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text: save it as UTF-8") from None
    captions = [line.strip() for line in lines if line.strip()]
    if not captions:
        raise DataError(f"{path} has no captions: write one on each line")
    return captions


def _made(
    pipeline: Pipeline, request: Request, frames: list[Frame] | None, picture: bool
) -> Iterator[tuple[Image.Image, Receipt]]:
    """Make the pictures of a request, watched on a terminal; the steps of the first ones are added to `frames`."""
    parts = list(request.parts(pipeline.batch_limit(request)))
    for place, part in enumerate(parts):
        stream, ends = pipeline.run(part), list[Tensor]()
        with closing(stream), Preview(picture) as preview:
            for step in _ending(stream, ends):
                preview.update(place * step.total + step.index + 1, len(parts) * step.total, step.denoised)
                if frames is not None and place == 0:
                    rows = slice(shown(len(part), animated=False))
                    frames.append(frame(step.index, step.total, step.sigma, step.x[rows], step.denoised[rows]))
        yield from zip(pipeline.pictures(ends[0]), pipeline.receipts(part), strict=True)


def _ending(stream: Generator[Step, None, Tensor], ends: list[Tensor]) -> Iterator[Step]:
    """The steps of a stream; what it returns is added to `ends`."""
    ends.append((yield from stream))


def _save(place: Path | None, stem: str, content: bytes, index: int, num: int) -> Path:
    if place is None or options.is_folder(place):
        return options.write_new(place or Path(), stem, content)
    return options.write_over(place.with_name(options.numbered(place.stem, index, num) + place.suffix), content)


def _save_steps(path: Path, frames: Sequence[Frame], num_pictures: int) -> Path:
    kind = options.SHEETS[path.suffix.lower()]
    animated = kind != "PNG"
    num_shown = shown(len(frames[0].guess), animated)
    if num_shown < num_pictures:
        _say(f"note: {path} shows the first {num_shown} of {num_pictures} pictures")
    return options.write_over(path, animation(frames, kind) if animated else contact_sheet(frames))


def _model_of(receipt: Receipt, model: str | None, guide: str | None, device: str | None) -> Pipeline:
    if guide is not None and not receipt.guide:
        raise ConfigError("this picture was made without --guide")
    for given, name, what in ((model, receipt.model, "model"), (guide, receipt.guide, "guide")):
        if given is None and name:
            try:
                store.find(name)
            except CheckpointError:
                raise CheckpointError(
                    f"the {what} of this picture, {name!r}, is not here: give --{what} FOLDER"
                ) from None
    return Pipeline.load(model or receipt.model, device, guide or receipt.guide or None)


def _differences(before: Receipt, now: Receipt) -> Iterator[str]:
    """What is not as it was when the picture was made."""
    if before.model_hash != now.model_hash:
        yield f"model {now.model} has other weights than the picture was made with ({before.model_hash[:10]})"
    if before.guide_hash != now.guide_hash:
        yield f"the guide {now.guide} has other weights than the one of the picture ({before.guide_hash[:10]})"
    if before.version != now.version:
        yield f"the picture was made with tintype {before.version}, this is {now.version}"
    if before.init_image != now.init_image:
        yield "this is not the init image it was made from"
    if before.mask != now.mask:
        yield "this is not the mask it was made with"
