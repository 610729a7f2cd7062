"""The report of one model, or of two beside each other: one HTML file that needs no network and runs no script."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from PIL import Image

from tintype.data.sources.files import printable
from tintype.evaluation.report import network_sections, sample_sections
from tintype.evaluation.report.tables import escape
from tintype.evaluation.results import EvalResult, ReportData
from tintype.evaluation.verdict import verdict

MARKS = {"good": "good", "fair": "so-so", "bad": "bad", "plain": "for comparison"}
TOPICS = {
    "noise": "Does it see the noise?", "captions": "Does it listen?", "memory": "Does it know its pictures by heart?",
    "copies": "Does it copy?", "accuracy": "Does it draw what is said?", "quality": "Does it look real, and varied?",
}  # fmt: skip
Found = Sequence[tuple[EvalResult, ReportData]]


def to_html(found: Found, before: dict[str, Any] | None = None, gap: dict[str, Any] | None = None) -> str:
    """The report as a page.

    found: one model or two. before: the JSON of an earlier evaluation of the same run. gap: as from `difference`.
    """
    results = [result for result, _ in found]
    parts = [
        _verdicts(results, before),
        network_sections.noise_section(results, before, gap),
        network_sections.caption_section(results),
        network_sections.copy_section(results),
        *(_neighbors(result, pictures) for result, pictures in found),
        sample_sections.accuracy_section(results),
        sample_sections.tuning_section(results),
        sample_sections.quality_section(results),
        *(_samples(result, pictures, len(found)) for result, pictures in found),
        sample_sections.training_section(found),
        sample_sections.provenance_section(results),
    ]
    style = (files("tintype.evaluation.report") / "report.css").read_text(encoding="utf-8")
    names = " and ".join(result.about.name or "model" for result in results)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<title>{escape(names)}: evaluation</title><style>{style}</style></head><body>"
        f"<header><h1>{escape(names)}</h1>{''.join(_about(result) for result in results)}</header>"
        f"<main>{''.join(parts)}</main>"
        f"<footer>Made by tintype {results[0].about.version}. Bands and brackets are intervals of 95 %.</footer>"
        "</body></html>\n"
    )


def picture(image: Image.Image, alt: str) -> str:
    """A picture inside the page."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f'<img alt="{html.escape(printable(alt), quote=True)}" src="{_data(buffer.getvalue())}">'


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _about(result: EvalResult) -> str:
    about = result.about
    return (
        f"<p class=soft>{escape(about.preset)}, {about.resolution} pixels, {about.num_weights:,} weights, "
        f"{about.images_seen:,} images seen; evaluated on {escape(about.data)}: "
        f"{about.num_seen:,} pictures trained on, {about.num_unseen:,} unseen.</p>"
    )


def _verdicts(results: Sequence[EvalResult], before: dict[str, Any] | None) -> str:
    columns = []
    for result in results:
        rows = "".join(
            f'<li class="{line.mark}"><b>{TOPICS[line.topic]} '
            f"<span>({MARKS[line.mark]})</span></b>{escape(line.text)}</li>"
            for line in verdict(result)
        )
        head = f"<h2>{escape(result.about.name)}</h2>" if len(results) > 1 else ""
        notes = "".join(f"<li>{escape(note)}</li>" for note in result.notes)
        columns.append(
            f"<div>{head}<ul class=verdict>{rows}</ul>{f'<ul class=soft>{notes}</ul>' if notes else ''}</div>"
        )
    return f'<div class="{"two" if len(results) > 1 else ""}">{"".join(columns)}</div>'


def _neighbors(result: EvalResult, pictures: ReportData) -> str:
    if not pictures.neighbors:
        return ""
    rows = []
    for near in pictures.neighbors:
        three = "".join(
            f"<div>{picture(image, alt)}<span>{alt}</span></div>"
            for image, alt in ((near.sample, "made"), (near.by_pixels, "nearest"), (near.by_features, "most alike"))
        )
        alarm = " alarm" if near.alarmed else ""
        rows.append(
            f'<figure><div class="three{alarm}">{three}</div><figcaption>{escape(near.caption)} · {near.distance:.1f} '
            "levels"
            f"{' · near copy' if near.alarmed else ''}</figcaption></figure>"
        )
    return (
        f"<h3>What {escape(result.about.name)} made that comes nearest to a training picture</h3><p class=soft>Each "
        "beside the "
        "training picture nearest in pixels and the one most alike in features; the distance is the root mean square "
        "over "
        f'pixels, of 255 levels.</p><div class="sheet near">{"".join(rows)}</div>'
    )


def _samples(result: EvalResult, pictures: ReportData, num_models: int) -> str:
    figures = "".join(
        f"<figure>{picture(image, caption)}<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, image in pictures.samples
    )
    of_whom = f" of {escape(result.about.name)}" if num_models > 1 else ""
    strip = ""
    if pictures.developing is not None:
        first = escape(pictures.samples[0][0])
        strip = (
            f"<h3>A picture developing: {first}</h3><p class=soft>What the network is given, what it believes lies "
            "under "
            "the noise, and the noise it sees.</p>"
            f'<div class="scroll strip" tabindex=0 role=group aria-label="steps of a picture">'
            f'<img alt="every step of a picture" src="{_data(pictures.developing)}"></div>'
        )
    return (
        f"<section><h2>Pictures{of_whom}</h2><p class=soft>For captions of training pictures, not picked: the first "
        f"{len(pictures.samples)} of seed {result.settings.seed}, {result.about.steps} steps, guidance "
        f"{result.about.guidance:g}.</p><div class=sheet>{figures}</div>{strip}</section>"
    )
