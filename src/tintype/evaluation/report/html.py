"""The report on one model or two: one HTML file without scripts or external resources."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from PIL import Image

from tintype.evaluation.report import network_sections, sample_sections
from tintype.evaluation.results import EvalResult, PreviousResult, ReportData
from tintype.evaluation.verdict import verdict
from tintype.printable import html_text

MARKS = {"good": "good", "fair": "so-so", "bad": "bad", "plain": "for comparison"}
TOPICS = {
    "noise": "Does it predict the noise?", "captions": "Does it follow captions?",
    "memory": "Early warning: does it learn its pictures by heart?", "copies": "Does it copy?",
    "accuracy": "Does it draw what the caption says?", "quality": "Are the images realistic and varied?",
}  # fmt: skip
Results = Sequence[tuple[EvalResult, ReportData]]


def to_html(models: Results, previous: PreviousResult | None = None, comparison: dict[str, Any] | None = None) -> str:
    """The report as a page.

    models: one or two. previous: an earlier evaluation of the same run. comparison: of two models, from
    `compare_results`.
    """
    results = [result for result, _ in models]
    parts = [
        _verdicts(results),
        network_sections.noise_section(results, previous, comparison),
        network_sections.caption_section(results),
        network_sections.copy_section(results),
        *(_neighbors(result, report) + _origins(result, report) for result, report in models),
        sample_sections.accuracy_section(results),
        sample_sections.tuning_section(results),
        sample_sections.quality_section(results),
        *(_samples(result, report, len(models)) for result, report in models),
        sample_sections.training_section(models),
        sample_sections.provenance_section(results),
    ]
    style = (files("tintype.evaluation.report") / "report.css").read_text(encoding="utf-8")
    names = " and ".join(result.about.name or "model" for result in results)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<title>{html_text(names)}: evaluation</title><style>{style}</style></head><body>"
        f"<header><h1>{html_text(names)}</h1>{''.join(_about(result) for result in results)}</header>"
        f"<main>{''.join(parts)}</main>"
        f"<footer>Made by tintype {results[0].about.version}. Bands and brackets are 95 % confidence intervals."
        "</footer></body></html>\n"
    )


def picture(image: Image.Image, alt: str) -> str:
    """An embedded picture."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f'<img alt="{html_text(alt)}" src="{_data(buffer.getvalue())}">'


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _about(result: EvalResult) -> str:
    about = result.about
    return (
        f"<p class=soft>{html_text(about.preset)}, {about.resolution} pixels, {about.num_weights:,} weights, "
        f"{about.images_seen:,} images seen; evaluated on {html_text(about.data)}: "
        f"{about.num_seen:,} training pictures, {about.num_unseen:,} unseen.</p>"
    )


def _verdicts(results: Sequence[EvalResult]) -> str:
    columns = []
    for result in results:
        rows = "".join(
            f'<li class="{finding.mark}"><b>{TOPICS[finding.topic]} '
            f"<span>({MARKS[finding.mark]})</span></b>{html_text(finding.text)}</li>"
            for finding in verdict(result)
        )
        head = f"<h2>{html_text(result.about.name)}</h2>" if len(results) > 1 else ""
        notes = "".join(f"<li>{html_text(note)}</li>" for note in result.notes)
        columns.append(
            f"<div>{head}<ul class=verdict>{rows}</ul>{f'<ul class=soft>{notes}</ul>' if notes else ''}</div>"
        )
    return f'<div class="{"two" if len(results) > 1 else ""}">{"".join(columns)}</div>'


def _neighbors(result: EvalResult, report: ReportData) -> str:
    if not report.neighbors:
        return ""
    rows = []
    for near in report.neighbors:
        pair = "".join(
            f"<div>{picture(image, alt)}<span>{alt}</span></div>"
            for image, alt in ((near.sample, "sample"), (near.nearest, "nearest"))
        )
        alarm = " alarm" if near.alarmed else ""
        rows.append(
            f'<figure><div class="pair{alarm}">{pair}</div><figcaption>{html_text(near.caption)} · '
            f"{html_text(near.key)} · {near.distance:.2f}{' · copy' if near.alarmed else ''}</figcaption></figure>"
        )
    return (
        f"<h3>Samples of {html_text(result.about.name)} nearest to training pictures</h3><p class=soft>Each sample "
        "beside the training picture that it resembles most, with the name of that picture and the distance relative "
        f'to the nearest 20.</p><div class="sheet near">{"".join(rows)}</div>'
    )


def _origins(result: EvalResult, report: ReportData) -> str:
    """The training pictures on the ways of samples."""
    if not report.origins:
        return ""
    rows = []
    for origin in report.origins:
        images = [(origin.sample, "sample"), *((p.picture, f"{100 * p.share:.0f} % {p.key}") for p in origin.pictures)]
        cells = "".join(f"<div>{picture(image, alt)}<span>{html_text(alt)}</span></div>" for image, alt in images)
        caption = html_text(origin.caption)
        rows.append(f"<figure><div class=pair>{cells}</div><figcaption>{caption}</figcaption></figure>")
    return (
        f"<h3>Training pictures on the way of samples of {html_text(result.about.name)}</h3><p class=soft>The pictures "
        "with the largest weights in the ideal denoiser of the training set along the way from noise to the sample, "
        "and the mean of these weights: what a model that knows its pictures by heart would make the sample from, not "
        "the influence of a picture on training. <code>tintype explain PICTURE</code> does the same for any picture."
        f'</p><div class="sheet near">{"".join(rows)}</div>'
    )


def _samples(result: EvalResult, report: ReportData, num_models: int) -> str:
    figures = "".join(
        f"<figure>{picture(image, caption)}<figcaption>{html_text(caption)}</figcaption></figure>"
        for caption, image in report.samples
    )
    model = f" of {html_text(result.about.name)}" if num_models > 1 else ""
    strip = ""
    if report.denoising is not None:
        caption = html_text(report.samples[0][0])
        strip = (
            f"<h3>One image, step by step: {caption}</h3><p class=soft>The noisy input of the network, its estimate "
            "of the image, and its estimate of the noise.</p>"
            f'<div class="scroll strip" tabindex=0 role=group aria-label="sampling steps">'
            f'<img alt="every sampling step of an image" src="{_data(report.denoising)}"></div>'
        )
    return (
        f"<section><h2>Samples{model}</h2><p class=soft>For captions of training pictures, not selected: the first "
        f"{len(report.samples)} of seed {result.settings.seed}, {result.about.steps} steps, guidance "
        f"{result.about.guidance:g}.</p><div class=sheet>{figures}</div>{strip}</section>"
    )
