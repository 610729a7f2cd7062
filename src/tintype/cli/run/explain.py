"""The explain command: the training pictures on the way of a picture, and those that it resembles most."""

from __future__ import annotations

import json
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from tintype.cli import options
from tintype.cli.progress import ProgressDisplay
from tintype.cli.run.copy_index import open_copy_index
from tintype.cli.run.generate import differences, load_model, read_image
from tintype.cli.run.save import report
from tintype.data.sources.exclude import add_to_list
from tintype.data.thread_pool import finished
from tintype.errors import ConfigError, DataError
from tintype.evaluation.eval_data import EvalData, open_eval_data
from tintype.evaluation.origins import Origin, Way, draw_way, find_origins
from tintype.evaluation.progress import with_progress
from tintype.evaluation.samples import images_to_tensor
from tintype.metrics.copies import alarm_for, index_pictures
from tintype.model import store
from tintype.pipeline.image_file import read_receipt
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.receipt import Receipt, options_of
from tintype.printable import print_line, shell_word
from tintype.view.picture_sheet import Row, picture_sheet

MIN_SHARE = 0.05  # of the pictures that --exclude lists, besides the first
ALIKE = 3.0  # levels of 255, by which the picture that is drawn again may differ on average


class Resemblance(NamedTuple):
    """A training picture that a picture resembles."""

    picture: int  # its index in the data
    distance: float


class Explanation(NamedTuple):
    """What is known of a picture's training pictures."""

    origins: list[Origin]  # on its way; empty where there is no way
    nearest: list[Resemblance]
    relative: float  # distance to the nearest training picture, relative to the nearest 20
    limit: float  # at or below which a picture is a copy


def run(args: Namespace) -> int:
    """Explain a picture: print tables and write the sheet. Returns the exit code."""
    picture = read_image(args.picture)
    assert picture is not None
    receipt, reason = _receipt(args)
    if args.model is None and receipt is None:
        raise ConfigError(f"{reason}; give --model to compare it with that model's training pictures")
    if receipt is None:
        pipeline = Pipeline.load(args.model, args.device)
    else:
        pipeline = load_model(receipt, args.model, args.guide, args.device)
        if receipt.avoid_copies:
            pipeline.copy_index = open_copy_index(args.model or receipt.model, pipeline, args.data)
    model = store.find(args.model or pipeline.name)
    with tempfile.TemporaryDirectory(prefix="tintype-") as scratch, ProgressDisplay("loading") as display:
        cache = options.cache_folder(args) or Path(scratch)
        data = display.follow(open_eval_data(model, pipeline.config, pipeline.denoiser.encoder, args.data, cache))
        if not len(data.seen):
            raise DataError(f"none of the pictures in {data.name} was trained on")
        way = None if receipt is None else _draw(args, receipt, pipeline, picture, display)
        found = _explain(data, pipeline, picture, way, args.num)
        sheet = picture_sheet(_rows(data, picture, found))
    path = options.write_over(args.output or Path(f"{args.picture.stem}-explained.png"), sheet)
    excluded = _exclude(args, data, found) if args.exclude else []
    if args.json:
        print(json.dumps(_plain(args, data, found, reason), indent=1))
        return 0
    for line in [*_lines(args, data, found, reason), *excluded, f"sheet: {path}"]:
        print_line(line)
    return 0


def _receipt(args: Namespace) -> tuple[Receipt | None, str]:
    """The receipt of the picture; None, and why the picture is not drawn again."""
    try:
        receipt = read_receipt(args.picture)
    except DataError as error:
        return None, str(error)
    if receipt.init_image and args.init_image is None:
        raise ConfigError("this picture was made with --init-image; give the same again")
    if receipt.mask and not receipt.outpaint and args.mask is None:
        raise ConfigError("this picture was made with --mask; give the same again")
    return receipt, ""


def _draw(args: Namespace, receipt: Receipt, pipeline: Pipeline, picture: Image.Image, display: ProgressDisplay) -> Way:
    """The way of the picture, drawn again from its receipt."""
    settings = options_of(receipt, read_image(args.init_image), read_image(args.mask))
    request = pipeline.request(receipt.caption, **settings)
    for warning in differences(receipt, pipeline.receipts(request)[0]):
        report(f"warning: {warning}; the picture may come another way")
    work = with_progress("drawing the picture again", request.steps, draw_way(pipeline, request))
    (way,) = display.follow(work)
    again = pipeline.pictures(way.result[None].to(pipeline.device), request.enlarge)[0]
    if again.size == picture.size:
        difference = (images_to_tensor([again]).float() - images_to_tensor([picture]).float()).abs().mean()
        if float(difference) > ALIKE:
            report("warning: the picture that is drawn again looks different: this way is not that of the file")
    return way


def _explain(data: EvalData, pipeline: Pipeline, picture: Image.Image, way: Way | None, num: int) -> Explanation:
    index = finished(index_pictures(data.dataset, data.seen))
    query = images_to_tensor([picture])
    ranking = index.ranked(query)
    alarm = alarm_for(data.dataset, index, data.seen, data.unseen)
    rows = zip(data.seen[ranking.indices[0][:num]].tolist(), ranking.distance[0].tolist(), strict=False)
    return Explanation(
        origins=[] if way is None else find_origins(data, pipeline.codec, way, num),
        nearest=[Resemblance(row, distance) for row, distance in rows],
        relative=float(index.nearest(query).relative[0]),
        limit=alarm.limit,
    )


def _rows(data: EvalData, picture: Image.Image, found: Explanation) -> list[Row]:
    """The rows of the sheet: the picture with those on its way, and with those that it resembles."""
    rows = []
    keys = data.dataset.keys
    if found.origins:
        on_way = [(_image(data, o.picture), f"{100 * o.share:.0f} %", keys[o.picture]) for o in found.origins]
        rows.append(Row("largest weights in the ideal denoiser along its way", [(picture, "", "the picture"), *on_way]))
    alike = [(_image(data, n.picture), f"{n.distance:.2f}", keys[n.picture]) for n in found.nearest]
    rows.append(Row("resembles most (distance)", [(picture, "", "the picture"), *alike]))
    return rows


def _image(data: EvalData, index: int) -> Image.Image:
    pixels: Tensor = data.pictures(torch.tensor([index]))[0]
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def _lines(args: Namespace, data: EvalData, found: Explanation, reason: str) -> list[str]:
    """The tables for people."""
    keys = data.dataset.keys
    name, num = str(args.picture), len(data.seen)
    lines = []
    if found.origins:
        lines.append(f"{name}: the largest weights of {num:,} training pictures in the ideal denoiser along its way")
        lines.append("  share  decided at  picture")
        for origin in found.origins:
            decided = "-" if origin.decided is None else f"sigma {origin.decided:.2g}"
            share = f"{100 * origin.share:.1f} %"
            lines.append(f"  {share:>6s}  {decided:>10s}  {keys[origin.picture]}: {_caption(data, origin.picture)}")
    else:
        lines.append(f"{reason}: its way is unknown, and only pictures that it resembles are named")
    lines.append(f"{name}: the training pictures that it resembles most")
    lines += [f"  {near.distance:6.2f}  {keys[near.picture]}: {_caption(data, near.picture)}" for near in found.nearest]
    verdict = "a copy" if found.relative <= found.limit else "no copy"
    distances = f"relative distance {found.relative:.2f}, limit {found.limit:.2f}"
    lines.append(f"by its nearest picture it is {verdict}: {distances}")
    return lines


def _caption(data: EvalData, index: int) -> str:
    return data.captions(torch.tensor([index]))[0]


def _exclude(args: Namespace, data: EvalData, found: Explanation) -> list[str]:
    """Add pictures to the list of --exclude, and say how to train without them."""
    chosen = [o.picture for o in found.origins[:1]] + [o.picture for o in found.origins[1:] if o.share >= MIN_SHARE]
    chosen = chosen or [near.picture for near in found.nearest[:1]]
    num = add_to_list(args.exclude, [data.dataset.keys[index] for index in chosen])
    source = shell_word(args.data) if args.data else "DATA"
    return [
        f"{num} added to {args.exclude}; to train again without them: tintype train {source} --exclude "
        f"{shell_word(str(args.exclude))} --out RUN"
    ]


def _plain(args: Namespace, data: EvalData, found: Explanation, reason: str) -> dict[str, object]:
    """The same as JSON."""
    sha256, keys = data.dataset.sha256, data.dataset.keys

    def about(index: int) -> dict[str, object]:
        return {"key": keys[index], "sha256": sha256[index], "caption": _caption(data, index)}

    return {
        "picture": str(args.picture),
        "reason": reason or None,
        "way": [{**about(o.picture), "share": o.share, "decided": o.decided} for o in found.origins] or None,
        "nearest": [{**about(near.picture), "distance": near.distance} for near in found.nearest],
        "relative_distance": found.relative,
        "limit": found.limit,
        "is_copy": found.relative <= found.limit,
        "training_pictures": len(data.seen),
    }
