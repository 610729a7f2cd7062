"""The evaluate command: measure one model or two, write the report, print the verdict."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tintype.cli import options
from tintype.cli.progress import ProgressDisplay
from tintype.cli.run.save import report
from tintype.errors import ConfigError, TintypeError
from tintype.evaluation.certificate import CERTIFICATE, make_certificate, pictures_hash
from tintype.evaluation.eval_data import EvalData, open_eval_data
from tintype.evaluation.measure import evaluate
from tintype.evaluation.report.html import to_html
from tintype.evaluation.report.tables import tuning_lines
from tintype.evaluation.results import (
    EvalResult,
    EvalSettings,
    PreviousResult,
    ReportData,
    compare_results,
    read_previous,
    to_json,
)
from tintype.evaluation.samples import estimate_seconds
from tintype.evaluation.save import fill_card, save_settings
from tintype.evaluation.tuning import tune
from tintype.evaluation.verdict import verdict
from tintype.model import file_names, manifest, store
from tintype.pipeline.pipeline import Pipeline
from tintype.printable import print_line
from tintype.training.console import duration
from tintype.training.monitor.log_rows import read_log

REPORT, RESULTS, FOLDER = "report.html", "results.json", "evaluation"


def run(args: Namespace) -> int:
    """Evaluate one model or two, write the report and print the verdict. Returns the exit code."""
    if len(args.models) > 2:
        raise ConfigError("evaluate compares at most two models")
    for model in args.models:
        store.find(model)  # a missing second model is refused before the first is measured
    if args.tune:
        return _tune(args)
    with tempfile.TemporaryDirectory(prefix="tintype-") as scratch:  # both models share the decoded pictures
        models = [_evaluate(model, args, Path(scratch)) for model in args.models]
    result = models[0][0]
    is_single = len(models) == 1
    folder = args.output or _report_folder(args.models, [result.about.name for result, _ in models])
    previous = _previous(folder, result) if is_single else None
    comparison = None if is_single else compare_results(*models)
    content = {"models": [json.loads(to_json(result)) for result, _ in models], "difference": comparison}
    _write(folder / RESULTS, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    if is_single:
        _write(folder / _history_name(result.about.images_seen), to_json(result))
    page = _write(folder / REPORT, to_html(models, previous, comparison))
    notes = []
    if is_single:
        notes = _certify(args.models[0], models[0], page) + _save(args.models[0], result, args.save)
    if args.json:
        print(json.dumps(content, indent=1))
        return 0
    for result, _ in models:
        print_line(f"{result.about.name} on {result.about.data}:" if is_single else f"{result.about.name}:")
        for finding in verdict(result):
            print_line(f"  {finding.text}")
    for note in dict.fromkeys([*(note for result, _ in models for note in result.notes), *notes]):
        print_line(f"note: {note}")
    print_line(f"report: {page}")
    return 0


def _say_how_long(pipeline: Pipeline, data: EvalData, settings: EvalSettings) -> None:
    """Say how long the samples take, where that is more than a minute."""
    caption = data.captions(data.seen[:1] if len(data.seen) else data.unseen[:1])[0]
    num = settings.copies + settings.samples
    seconds = estimate_seconds(pipeline, caption, num)
    if seconds > 60:
        report(f"drawing {num:,} samples takes about {duration(seconds)}; --copies N and --samples N draw fewer")


def _certify(source: str, model: tuple[EvalResult, ReportData], page: Path) -> list[str]:
    """Write the certificate into the model's folder, beside the report of a shipped one. Returns notes for the user."""
    result, data = model
    if result.copies is None:
        return []
    own = _model_folder(source)
    folder = own if own is not None and own.is_dir() else page.parent
    path = folder / CERTIFICATE
    relative = os.path.relpath(page.resolve(), folder.resolve()).replace(os.sep, "/")
    certificate = make_certificate(result, pictures_hash(data.training), relative, page.read_bytes())
    try:
        _write(path, certificate.to_json())
    except (OSError, TintypeError) as error:
        return [f"could not write the certificate {path}: {error}"]
    return [f"certificate: {path}; tintype verify checks it"]


def _write(path: Path, text: str) -> Path:
    """Write a text in which names of files may have bytes that are not UTF-8: as \\udc.., as they are in JSON."""
    return options.write_over(path, text.encode("utf-8", "backslashreplace"))


class _Opened(NamedTuple):
    """A model, its pictures, and the progress display of the work on them."""

    model: store.Model
    pipeline: Pipeline
    data: EvalData
    display: ProgressDisplay


def _evaluate(source: str, args: Namespace, scratch: Path) -> tuple[EvalResult, ReportData]:
    with _open(source, args, scratch) as (model, pipeline, data, display):
        settings = _settings(args)
        _say_how_long(pipeline, data, settings)
        result, data_of_report = display.follow(evaluate(pipeline, data, _images_seen(model), settings))
    rows = [row for row in read_log((model.run or model.folder) / file_names.LOG) if row.get("noise_error")]
    rows = [row for row in rows if row["images_seen"]]
    return result, replace(data_of_report, log=rows)


@contextmanager
def _open(source: str, args: Namespace, scratch: Path) -> Iterator[_Opened]:
    """Open a model and its pictures, and show progress for the length of the `with` block."""
    model = store.find(source)
    pipeline = Pipeline.load(source, args.device)
    with ProgressDisplay("loading") as display:
        cache = options.cache_folder(args) or scratch
        data = display.follow(open_eval_data(model, pipeline.config, pipeline.denoiser.encoder, args.data, cache))
        yield _Opened(model, pipeline, data, display)


def _tune(args: Namespace) -> int:
    """Only tune guidance and steps, and save them if requested. Returns the exit code."""
    if len(args.models) > 1:
        raise ConfigError("--tune takes one model")
    notes: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="tintype-") as scratch,
        _open(args.models[0], args, Path(scratch)) as (_, pipeline, data, display),
    ):
        tuning = display.follow(tune(pipeline, data, _settings(args), notes))
        present = pipeline.config.sample
    if args.save:
        notes += save_settings(_model_folder(args.models[0]), tuning)
    if args.json:
        print("null" if tuning is None else to_json(tuning), end="\n" if tuning is None else "")
        return 0
    for line in [] if tuning is None else tuning_lines(tuning, present.steps, present.guidance):
        print_line(line)
    if tuning is not None and not args.save:
        notes.append("--save writes the best settings into the model")
    for note in notes:
        print_line(f"note: {note}")
    return 0


def _settings(args: Namespace) -> EvalSettings:
    names = ("num", "samples", "copies", "captions", "features", "seed")
    chosen = {name: value for name in names if (value := getattr(args, name)) is not None}
    if args.samples is not None and args.copies is None:
        chosen["copies"] = args.samples
    return EvalSettings(tune=args.save, **chosen)


def _images_seen(model: store.Model) -> int:
    """The number of images in the model's training, as recorded; for want of a record, as planned."""
    seen = manifest.read_images_seen(model.folder / file_names.STATE)
    return store.read_config(model).train.images if seen is None else seen


def _model_folder(model: str) -> Path | None:
    """The folder of a model; None for a shipped one, whose name takes precedence over a folder of that name."""
    return None if model in store.shipped() else Path(model)


def _report_folder(models: list[str], names: list[str]) -> Path:
    """The default folder of a report: inside a single model's folder, else in the current folder."""
    folder = _model_folder(models[0])
    if len(models) == 1 and folder is not None and folder.is_dir():
        return folder / FOLDER
    return Path("-".join([FOLDER, *(name.rpartition("/")[2] for name in names)]))  # of hf:OWNER/NAME the last


def _history_name(images_seen: int) -> str:
    return f"seen-{images_seen:09d}.json"


def _previous(folder: Path, result: EvalResult) -> PreviousResult | None:
    """The latest earlier evaluation in the folder with the same data and noise levels."""
    for path in sorted(folder.glob("seen-*.json"), reverse=True):
        if path.name >= _history_name(result.about.images_seen):
            continue
        previous = read_previous(path)
        if previous is None:
            print_line(f"tintype: note: {path} is damaged, so nothing is compared with it", sys.stderr)
        elif previous.fingerprint == result.about.fingerprint and previous.sigmas == result.sigmas:
            return previous
    return None


def _save(model: str, result: EvalResult, with_settings: bool) -> list[str]:
    """Update the model card, and write the best settings if requested. Returns notes for the user."""
    folder = _model_folder(model)
    notes = fill_card(folder, result) if folder is not None else []
    return notes + (save_settings(folder, result.tuning) if with_settings else [])
