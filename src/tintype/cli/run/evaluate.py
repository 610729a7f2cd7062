"""What `tintype evaluate` does."""

from __future__ import annotations

import json
import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tintype.cli import options

if TYPE_CHECKING:
    from tintype.evaluation.eval_data import EvalData
    from tintype.evaluation.results import EvalResult, EvalSettings, ReportData
    from tintype.model.store import Model
    from tintype.pipeline.pipeline import Pipeline

T = TypeVar("T")
REPORT, RESULTS, FOLDER = "report.html", "results.json", "evaluation"
SPOKEN_SECONDS = 20.0  # between lines that say how far it is, where there is no terminal


def run(args: Namespace) -> int:
    """Evaluate one model or two, write the report and print the verdict. Returns the exit code."""
    from tintype.errors import ConfigError
    from tintype.evaluation.compare import compare_results
    from tintype.evaluation.results import to_json
    from tintype.evaluation.verdict import verdict
    from tintype.model import store

    if len(args.models) > 2:
        raise ConfigError("evaluate compares two models at most")
    for model in args.models:
        store.find(model)  # the second is not found missing after the first was measured
    if args.tune:
        return _tune(args)
    with tempfile.TemporaryDirectory(prefix="tintype-") as scratch:  # a second model finds the pictures decoded
        found = [_evaluated(model, args, Path(scratch)) for model in args.models]
    folder = args.output or _folder(args.models, [result.about.name for result, _ in found])
    before = _previous(folder, found[0][0]) if len(found) == 1 else None
    gap = compare_results(*found) if len(found) == 2 else None
    texts = [json.loads(to_json(result)) for result, _ in found]
    results = json.dumps({"models": texts, "difference": gap}, indent=1, ensure_ascii=False) + "\n"
    options.write_over(folder / RESULTS, results.encode("utf-8", "backslashreplace"))
    if len(found) == 1:
        options.write_over(folder / _name_of(found[0][0].about.images_seen), to_json(found[0][0]).encode())
    page = _page(found, before, gap)
    report = options.write_over(folder / REPORT, page.encode("utf-8", "backslashreplace"))
    said = _saved(args.models[0], found[0][0], args.save) if len(found) == 1 else []
    if args.json:
        print(results, end="")
        return 0
    for result, _ in found:
        print(f"{result.about.name}:" if len(found) == 2 else f"{result.about.name} on {result.about.data}:")
        for line in verdict(result):
            print(f"  {line.text}")
    for note in dict.fromkeys([*(note for result, _ in found for note in result.notes), *said]):
        print(f"note: {note}")
    print(f"report: {report}")
    return 0


def _page(found: list[tuple[EvalResult, ReportData]], before: dict[str, Any] | None, gap: dict[str, Any] | None) -> str:
    from tintype.evaluation.report.html import to_html

    return to_html(found, before, gap)


def _evaluated(model: str, args: Namespace, scratch: Path) -> tuple[EvalResult, ReportData]:
    from tintype.evaluation.measure import evaluate
    from tintype.training.monitor.log import read_log

    with _opened(model, args, scratch) as (place, pipeline, material, display):
        result, shown = display.follow(evaluate(pipeline, material, _images_seen(place), _settings(args)))
    rows = [row for row in read_log((place.run or place.folder) / "log.jsonl") if row.get("noise_error")]
    return result, replace(shown, log=rows)


@contextmanager
def _opened(model: str, args: Namespace, scratch: Path) -> Iterator[tuple[Model, Pipeline, EvalData, Display]]:
    """A model and its pictures, as long as the `with` block lasts, and a display that tells how far work is."""
    from tintype.evaluation.eval_data import open_eval_data
    from tintype.model import store
    from tintype.pipeline.pipeline import Pipeline

    place = store.find(model)
    pipeline = Pipeline.load(model, args.device)
    with Display() as display:
        cache = args.cache or _cache() or scratch
        material = display.follow(open_eval_data(place, pipeline.config, pipeline.denoiser.encoder, args.data, cache))
        yield place, pipeline, material, display


def _tune(args: Namespace) -> int:
    """Only choose guidance and steps, and write them into the model if asked. Returns the exit code."""
    from tintype.errors import ConfigError
    from tintype.evaluation.report.tables import tuning_lines
    from tintype.evaluation.results import to_json
    from tintype.evaluation.save import save_settings
    from tintype.evaluation.tuning import tune

    if len(args.models) > 1:
        raise ConfigError("--tune takes one model")
    notes: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="tintype-") as scratch,
        _opened(args.models[0], args, Path(scratch)) as (_, pipeline, material, display),
    ):
        choice = display.follow(tune(pipeline, material, _settings(args), notes))
        own = pipeline.config.sample
    said = save_settings(_own_folder(args.models[0]), choice) if args.save else []
    if args.json:
        print("null" if choice is None else to_json(choice), end="\n" if choice is None else "")
        return 0
    for line in [] if choice is None else tuning_lines(choice, own.steps, own.guidance):
        print(line)
    if choice is not None and not args.save:
        said = ["--save writes them into the model"]
    for note in [*notes, *said]:
        print(f"note: {note}")
    return 0


def _settings(args: Namespace) -> EvalSettings:
    from tintype.evaluation.results import EvalSettings

    names = ("num", "samples", "asked", "features", "seed")
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    return EvalSettings(choose=args.save, **given)


def _cache() -> Path | None:
    folder = os.environ.get("TINTYPE_CACHE")
    return Path(folder) if folder else None


def _images_seen(place: Any) -> int:
    """How many images the model has been shown, as far as it is on record."""
    from tintype.model import store

    try:
        return int(json.loads((place.folder / "state.json").read_text(encoding="utf-8"))["images_seen"])
    except (OSError, ValueError, KeyError, TypeError):
        return store.read_config(place).train.images


def _own_folder(model: str) -> Path | None:
    """The folder that a model was given as. None for a name of the package: it wins over a folder that is called so."""
    from tintype.model import store

    return None if model in store.shipped() else Path(model)


def _folder(given: list[str], names: list[str]) -> Path:
    """Where a report goes that no folder was named for: into a model's own folder, else beside the user."""
    own = _own_folder(given[0])
    if len(given) == 1 and own is not None and own.is_dir():
        return own / FOLDER
    return Path("-".join([FOLDER, *names]))


def _name_of(images_seen: int) -> str:
    return f"seen-{images_seen:09d}.json"


def _previous(folder: Path, now: EvalResult) -> dict[str, Any] | None:
    """The newest earlier evaluation in the folder of the same run, on the same data, in the same way."""
    for path in sorted(folder.glob("seen-*.json"), reverse=True):
        if path.name >= _name_of(now.about.images_seen):
            continue
        try:
            before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            about = before["about"]
            if about["fingerprint"] == now.about.fingerprint and before["sigmas"] == now.sigmas:
                return before
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _saved(model: str, result: EvalResult, settings_too: bool) -> list[str]:
    """Fill the model card, and write the chosen settings if asked. Returns what there is to say about it."""
    from tintype.evaluation.save import fill_card, save_settings

    folder = _own_folder(model)
    said = fill_card(folder, result) if folder is not None else []
    return said + (save_settings(folder, result.choice) if settings_too else [])


class Display:
    """A bar on a terminal; elsewhere a line now and then. On stderr."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("loading", total=None)
        self._spoken = time.monotonic()

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(self, *failed: object) -> None:
        self._bar.stop()

    def follow(self, work: Generator[Any, None, T]) -> T:
        """Run work that yields (stage, done, total) to its end."""
        while True:
            try:
                stage, done, total = next(work)
            except StopIteration as end:
                found: T = end.value
                return found
            self._bar.update(self._task, description=stage, completed=done, total=total)
            if not self._console.is_terminal and time.monotonic() - self._spoken >= SPOKEN_SECONDS:
                self._spoken = time.monotonic()
                self._console.print(f"{stage}: {done:,} of {total:,}", markup=False, highlight=False)
