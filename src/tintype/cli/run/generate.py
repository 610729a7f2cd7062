"""The commands that make pictures: generate and redo."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import cast

from PIL import Image
from torch import Tensor

from tintype.cli import options
from tintype.cli.run.copy_index import open_copy_index
from tintype.cli.run.prompts_file import Prompt, read_prompts
from tintype.cli.run.save import report, save_picture
from tintype.cli.run.write_tokens import generate_tokens, read_token_receipt, redo_tokens, require_no_writing
from tintype.data.images.decode import PictureError, read_picture
from tintype.diffusion.samplers import Step
from tintype.errors import CheckpointError, ConfigError, DataError, TintypeError
from tintype.model import hub, store
from tintype.model.nets.legibility import ILLEGIBLE, named
from tintype.pipeline.guided_denoiser import request_texts
from tintype.pipeline.image_file import read_receipt
from tintype.pipeline.limits import OLDER_NAMES
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.receipt import Receipt, options_of
from tintype.pipeline.request import NEED_INIT_IMAGE, Options, Request
from tintype.printable import print_path, shell_word
from tintype.view.contact_sheet import Frame, animation, contact_sheet, frame, num_shown, strip, visible
from tintype.view.terminal import Preview

FRAMES = 8  # default number of variations, or of images from one caption or seed to another
EDITS = {name for new in NEED_INIT_IMAGE for name in (new, OLDER_NAMES.get(new, new))}


def generate(args: Namespace) -> int:
    """Make pictures from captions, save each and print its path. Returns the exit code."""
    if args.init_image is None and any(value is not None for name, value in vars(args).items() if name in EDITS):
        edits = ", ".join("--" + name.replace("_", "-") for name in NEED_INIT_IMAGE)
        raise ConfigError(f"{edits} need --init-image")
    prompts = _prompts(args)
    if store.is_token_model(args.model):
        return generate_tokens(args, prompts)
    require_no_writing(args)
    settings = _options(args)
    if args.data is not None and not args.avoid_copies:
        raise ConfigError("--data is for --avoid-copies: the training pictures to turn away from")
    pipeline = _with_graphs(Pipeline.load(args.model, args.device, args.guide), args.cuda_graphs)
    if args.avoid_copies:
        pipeline.copy_index = open_copy_index(args.model, pipeline, args.data)
    series = any(settings.get(name) is not None for name in ("captions_to", "seeds_to", "variation"))
    num = args.num_images or (FRAMES if series else 1)
    if series and len(prompts) > 1:
        raise ConfigError("--to-caption, --to-seed and --vary need a single caption")
    requests = []
    for line_options, alike in groupby(prompts, attrgetter("options")):
        captions = [prompt.caption for prompt in alike]
        settings["indices"] = [0] * num if series else list(range(num)) * len(captions)
        repeated = [caption for caption in captions for _ in range(num)]
        requests.append(pipeline.request(repeated, **cast(Options, {**settings, **line_options})))
    _note(args, pipeline, requests)
    frames: list[Frame] | None = None if args.save_steps is None else []
    pictures: list[Image.Image] = []
    num_pictures = sum(map(len, requests))
    for index, (picture, receipt) in enumerate(_make(pipeline, requests, frames, args.preview)):
        stem = options.numbered(f"{options.slug(receipt.caption)}-s{receipt.seed}", index % num, num)
        path = save_picture(args.output, stem, picture, receipt, index, num_pictures)
        print_path(f"{path}  seed {receipt.seed}" + (f" index {receipt.index}" if num > 1 else ""))
        if args.strip is not None:
            pictures.append(picture)
    if frames:
        print_path(_save_steps(args.save_steps, frames, num_pictures))
    if pictures:
        print_path(options.write_over(args.strip, strip(pictures, options.SHEETS[args.strip.suffix.lower()])))
    return 0


def redo(args: Namespace) -> int:
    """Make a picture again from its receipt. Returns the exit code."""
    written = read_token_receipt(args.picture)
    if written is not None:
        return redo_tokens(args, written)
    receipt = read_receipt(args.picture)
    masked = bool(receipt.mask) and not receipt.outpaint  # outpainting makes a mask of its own
    if (
        bool(receipt.init_image) != bool(args.init_image)
        or (masked and not args.mask)
        or (args.mask and not receipt.mask)
    ):
        needed = [name for name, used in (("--init-image", receipt.init_image), ("--mask", masked)) if used]
        if needed:
            raise ConfigError(f"this picture was made with {' and '.join(needed)}; give the same again")
        raise ConfigError("this picture was made without --init-image and --mask; leave them out")
    settings = options_of(receipt, read_image(args.init_image), read_image(args.mask))
    pipeline = _with_graphs(load_model(receipt, args.model, args.guide, args.device), args.cuda_graphs)
    if receipt.avoid_copies:
        pipeline.copy_index = open_copy_index(args.model or receipt.model, pipeline, args.data)
    request = pipeline.request(receipt.caption, **settings)
    for warning in differences(receipt, pipeline.receipts(request)[0]):
        report(f"warning: {warning}; the new picture may look different")
    for picture, new_receipt in _make(pipeline, [request], None, args.preview):
        print_path(save_picture(args.output, f"{args.picture.stem}-redo", picture, new_receipt, 0, 1))
    return 0


def _options(args: Namespace) -> Options:
    """The arguments that are options of `Pipeline.generate`, with pictures read from their files."""
    values = {name: value for name, value in vars(args).items() if name in Options.__annotations__}
    values.update(init_image=read_image(args.init_image), mask=read_image(args.mask))
    return cast(Options, values)


def read_image(path: Path | None) -> Image.Image | None:
    if path is not None and not path.exists():
        raise DataError(f"{path}: there is no such file")
    try:
        return None if path is None else read_picture(path)
    except PictureError as error:
        raise TintypeError(f"cannot use {path}: {error}") from None


def _prompts(args: Namespace) -> list[Prompt]:
    """The captions: from the command line, from a file, or from the receipt of the init image."""
    prompts = [Prompt(caption, Options()) for caption in args.captions]
    if args.prompts_file is not None:
        from_file, notes = read_prompts(args.prompts_file)
        prompts += from_file
        for note in notes:
            report(f"note: {note}")
    if not prompts and args.init_image is not None:
        try:
            prompts = [Prompt(read_receipt(args.init_image).caption, Options())]
        except DataError as error:
            raise ConfigError(f"give a CAPTION: {error}") from None
    if not prompts:
        raise ConfigError("give a CAPTION, or a file of them with --prompts-file")
    if not all(prompt.caption.strip() for prompt in prompts):
        raise ConfigError("a CAPTION is empty; say what to make")
    return prompts


def _note(args: Namespace, pipeline: Pipeline, requests: Sequence[Request]) -> None:
    """Report what in the captions the model does not read. Raises ConfigError for a strip of pictures of two sizes."""
    if args.strip is not None and len({(request.width, request.height) for request in requests}) > 1:
        raise ConfigError("--strip needs pictures of one size, and the lines of the prompts file have several")
    texts = list(dict.fromkeys(text for request in requests for text in request_texts(request)))
    num_cut = pipeline.num_cut(texts)
    if num_cut:
        limit = pipeline.config.text.max_tokens
        report(f"note: {num_cut} of the texts longer than the {limit} tokens this model reads; the end is not used")
    if words := pipeline.illegible(texts):
        report(f"warning: {ILLEGIBLE.format(named(words))}")
    for note in dict.fromkeys(note for request in requests for note in request.notes):
        report(f"note: {note}")


def _make(
    pipeline: Pipeline, requests: Sequence[Request], frames: list[Frame] | None, show_picture: bool
) -> Iterator[tuple[Image.Image, Receipt]]:
    """Make the pictures of requests, with progress on a terminal; the first batch adds its steps to `frames`."""
    parts = [part for request in requests for part in request.parts(pipeline.batch_limit(request))]
    num_turned = 0
    for index, part in enumerate(parts):
        results: list[Tensor] = []
        task = pipeline.sampling_task(part)
        stream = task.steps()
        with closing(stream), Preview(pipeline.codec.decode, show_picture) as preview:
            for step in _keep_result(stream, results):
                preview.update(index * step.total + step.index + 1, len(parts) * step.total, step.denoised)
                if frames is not None and index == 0:
                    rows = slice(num_shown(len(part), animated=False))
                    frames.append(
                        frame(
                            pipeline.codec.decode, step.index, step.total, step.sigma, step.x[rows], step.denoised[rows]
                        )
                    )
        if frames and index == 0:  # after an inversion the pictures are not the last guess: lost detail was added
            shown = results[0][: len(frames[-1].guess)]
            frames[-1] = frames[-1]._replace(guess=visible(pipeline.codec.decode, shown))
        num_turned += task.num_turned
        yield from zip(pipeline.pictures(results[0], part.enlarge), pipeline.receipts(part), strict=True)
    if any(request.avoid_copies for request in requests):
        report(f"turned away from training pictures in {num_turned:,} of {sum(map(len, requests)):,} pictures")


def _keep_result(stream: Generator[Step, None, Tensor], results: list[Tensor]) -> Iterator[Step]:
    """The steps of a stream; its return value is added to `results`."""
    results.append((yield from stream))


def _save_steps(path: Path, frames: Sequence[Frame], num_pictures: int) -> Path:
    file_format = options.SHEETS[path.suffix.lower()]
    animated = file_format != "PNG"
    num = num_shown(len(frames[0].guess), animated)
    if num < num_pictures:
        report(f"note: {path} shows the first {num} of {num_pictures} pictures")
    return options.write_over(path, animation(frames, file_format) if animated else contact_sheet(frames))


def load_model(receipt: Receipt, model: str | None, guide: str | None, device: str | None) -> Pipeline:
    """The model and the guide of a receipt, or those that the user names. Raises CheckpointError."""
    if guide is not None and not receipt.guide:
        raise ConfigError("this picture was made without --guide; leave it out")
    if not receipt.model and model is None:  # an empty path would be the current folder
        raise CheckpointError("this picture names no model: give --model NAME or FOLDER")
    for override, name, role in ((model, receipt.model, "model"), (guide, receipt.guide, "guide")):
        if override is None and name:
            if name.startswith(hub.PREFIX):
                raise CheckpointError(
                    f"the {role} of this picture is {name} on the Hugging Face Hub: add --{role} {shell_word(name)} to "
                    "use it; what this machine does not have yet is then fetched"
                )
            if not _is_plain_name(name):  # a picture may come from anybody, and must not choose what is read here
                raise CheckpointError(
                    f"this picture names a path as its {role}, {name!r}: give --{role} FOLDER if you trust that folder"
                )
            try:
                store.find(name)
            except CheckpointError:
                raise CheckpointError(
                    f"the {role} of this picture, {name!r}, is not here: give --{role} FOLDER"
                ) from None
    return Pipeline.load(model or receipt.model, device, guide or receipt.guide or None)


def _with_graphs(pipeline: Pipeline, cuda_graphs: bool) -> Pipeline:
    """The pipeline, without CUDA graphs if they are not wanted."""
    for part in (pipeline, pipeline.guide):
        if part is not None:
            part.cuda_graphs = part.cuda_graphs and cuda_graphs
    return pipeline


def _is_plain_name(name: str) -> bool:
    """Whether the name of a model is a name, and no path or drive."""
    return name not in (".", "..") and not any(c in name for c in "/\\:\0")


def differences(before: Receipt, now: Receipt) -> Iterator[str]:
    """Everything that differs from when the picture was made."""
    if before.model_hash != now.model_hash:
        yield f"model {now.model} has other weights than the model of the picture ({before.model_hash[:10]})"
    if before.precision:
        yield f"a page drew the picture with weights rounded to {before.precision}, and here they are not"
    if before.guide_hash != now.guide_hash:
        yield f"the guide {now.guide} has other weights than the one of the picture ({before.guide_hash[:10]})"
    if before.version != now.version:
        yield f"the picture was made with tintype {before.version}, this is {now.version}"
    if before.init_image != now.init_image:
        yield "this is not the init image of the picture"
    if before.mask != now.mask:
        yield "this is not the mask of the picture"
    if before.avoid_copies != now.avoid_copies:
        yield "the picture turned away from other training pictures than these"
