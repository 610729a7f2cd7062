"""The studio: data sets, tasks, uploads and runs of one folder, as the routes use them."""

from __future__ import annotations

import asyncio
import json
import shlex
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tintype.errors import ConfigError, DataError
from tintype.model import store
from tintype.serving.api.errors import ApiError, bad_request
from tintype.studio import edits, trash
from tintype.studio.access import Access
from tintype.studio.dataset import DATA, STALE, DataSet, open_dataset, prune_versions, write_version
from tintype.studio.places import MAX_ID, Places, id_of, is_id
from tintype.studio.record import RunRecord
from tintype.studio.run_list import RunList
from tintype.studio.run_queue import RunQueue
from tintype.studio.settings import qualities, train_arguments
from tintype.studio.suggest import Wish
from tintype.studio.tasks import Task, Tasks
from tintype.studio.thumbnails import Thumbnails
from tintype.studio.uploads import UploadLimits, Uploads
from tintype.studio.verdict import is_of_links

TICK_SECONDS = 0.5  # between looks at the processes that train
MAX_DATASETS = 1000
MEASURING = "measuring the speed"  # the line of a plan before those that are the plan


class Studio:
    """One studio. A second server cannot use the same folder. Raises ConfigError."""

    def __init__(
        self,
        places: Places,
        access: Access,
        limits: UploadLimits | None = None,
        captioners: Mapping[str, Path] | None = None,
    ) -> None:
        self.captioners = dict(captioners or {})  # folders by name
        self.places = places
        self.access = access
        self._lock = FileLock(places.studio / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError(f"another studio uses {places.studio}; close it, or give --studio-folder") from None
        self.tasks = Tasks()
        self.uploads = Uploads(limits)
        self.thumbnails = Thumbnails()
        self.queue = RunQueue(places)
        self.runs = RunList(places, self.queue)
        self._writing = threading.Lock()  # of a version of the data

    def close(self) -> None:
        """End tasks and let another server use the folder. Runs go on."""
        self.tasks.close()
        self._lock.release()

    # ---- data sets

    def dataset(self, number: str) -> DataSet:
        """A data set by its identifier. Raises ApiError."""
        found = open_dataset(self.places.datasets / number) if is_id(number) else None
        if found is None:
            raise ApiError(404, "unknown data set; GET /api/studio lists them", "dataset_not_found")
        return found

    def datasets(self) -> list[DataSet]:
        """All data sets, by identifier."""
        found = (open_dataset(home) for home in sorted(self.places.datasets.iterdir()))
        return [dataset for dataset in found if dataset is not None]

    def new_dataset(self, name: str, chosen: str | None) -> DataSet:
        """Make a data set of a folder below the root, or an empty one for uploads. Raises ApiError."""
        if chosen is not None and self.places.below_root(chosen) is None:
            raise ApiError(404, "there is no such folder below the root of the studio", "folder_not_found", "folder")
        if len(self.datasets()) >= MAX_DATASETS:
            raise ApiError(409, f"a studio holds at most {MAX_DATASETS} data sets; delete some", "too_many_datasets")
        stem, number = id_of(name), 1
        while True:
            home = self.places.datasets / (stem if number == 1 else f"{stem[: MAX_ID - 6]}-{number}")
            try:
                home.mkdir()
                break
            except FileExistsError:  # of another data set, or of a second tab
                number += 1
        dataset = DataSet(home.name, home, name, chosen)
        dataset.uploaded.mkdir()
        dataset.table.counts()  # makes the file of the table, before two processes open it
        dataset.save()
        return dataset

    def scan(self, dataset: DataSet, *, only_check: bool = False, resolution: int = 32) -> Task:
        """Begin a scan and a check, or a check alone."""
        self._prune(dataset)
        kind = "check" if only_check and dataset.is_scanned else "scan"
        names = (str(self.places.root), str(self.places.studio), dataset.id, str(resolution))
        return self.tasks.add(kind, dataset.id, ("-m", "tintype.studio.worker", kind, *names))

    def suggest(self, dataset: DataSet, captioner: str, rows: Sequence[int] | None) -> Task:
        """Begin to have a model write captions, for some rows or where there are none. Raises ApiError."""
        folder = self.captioners.get(captioner)
        if folder is None:
            raise ApiError(
                404, "this studio knows no such captioner; GET /api/studio lists them", "captioner_not_found"
            )
        if (task := self.tasks.of(dataset.id)) is not None and task.kind != "plan":
            raise ApiError(409, "other work on this data set is not done yet", "not_possible")
        Wish(captioner, str(folder), None if rows is None else tuple(rows)).save(dataset)
        names = (str(self.places.root), str(self.places.studio), dataset.id, "0")
        return self.tasks.add("captions", dataset.id, ("-m", "tintype.studio.worker", "captions", *names))

    def describe(self, dataset: DataSet) -> dict[str, Any]:
        """A data set, as the page shows it."""
        task = self.tasks.of(dataset.id)
        try:
            dataset.source(self.places)
            gone = False
        except DataError:
            gone = True
        counts = dataset.table.counts()
        num_edits, last, following = edits.history(dataset.table)
        return {
            "id": dataset.id,
            "name": dataset.name,
            "folder": dataset.chosen,
            "gone": gone,
            "scanned": dataset.is_scanned,
            **counts,
            "stale": (dataset.home / STALE).exists(),
            "judged": dataset.verdict.is_file(),
            "checked": dataset.table.fact("checked") == str(dataset.table.revision),
            "edits": num_edits,
            "can_undo": None if last is None else last.told,
            "can_redo": None if following is None else following.told,
            "images_of": qualities(counts["different"]),
            "task": None if task is None else task.id,
        }

    def delete_dataset(self, dataset: DataSet) -> trash.Trashed:
        """Move a data set to the trash. Raises ApiError while a run needs it."""
        if any(run.dataset == dataset.id and (run.is_at_work or run.state == "queued") for run in self.queue.records()):
            raise ApiError(409, "a run trains with this data set; stop it first", "in_use")
        if (task := self.tasks.of(dataset.id)) is not None:
            self.tasks.cancel(task)
        return trash.put(self.places, "dataset", dataset.home, {})

    # ---- plans and runs

    def starts(self) -> dict[str, str]:
        """The models that a run may start from: name -> what `--from` takes."""
        catalog = self.runs.catalog
        served = catalog.pipelines if catalog is not None else {}
        runs = catalog.runs if catalog is not None else {}
        shipped = store.shipped()
        return {
            name: name if name in shipped else str(runs[name]) for name in served if name in shipped or name in runs
        }

    def qualities(self, dataset: DataSet) -> dict[str, int]:
        """The images of each quality for the pictures of a data set."""
        return qualities(dataset.table.counts()["different"])

    def plan(self, dataset: DataSet, settings: Mapping[str, Any]) -> Task:
        """Begin to plan a run: what it is made of, how long it takes, what it needs. Raises ApiError."""
        data = self._data(dataset)
        out = self.places.plans / f"{dataset.id}-{data.name}"  # never made: a plan keeps nothing
        file = self.places.plans / f"{dataset.id}.json"
        arguments = train_arguments(data, out, settings, self.starts(), self.qualities(dataset))
        shown = shlex.join(["tintype", *arguments])

        def result(lines: Sequence[str]) -> dict[str, Any]:
            content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            notes = ["another model trains meanwhile: alone, this run is faster"] if self.queue.is_busy else []
            measured = [number for number, line in enumerate(lines) if line.startswith(MEASURING)]
            told = [line for line in lines[max(measured, default=-1) + 1 :] if not is_of_links(line)]
            return {"lines": [*told, *notes], "command": shown, **content}

        command = ("-m", "tintype", *arguments, "--dry-run", "--plan", str(file))
        return self.tasks.add("plan", dataset.id, command, result)

    def train(self, name: str, dataset: DataSet, settings: Mapping[str, Any]) -> RunRecord:
        """Put a run into the queue. Raises ApiError."""
        run = id_of(name)
        catalog = self.runs.catalog
        if catalog is not None and run in {*catalog.pipelines, *catalog.runs, *store.shipped()}:
            raise ApiError(409, "there is a model of this name already; choose another", "name_taken", "name")
        data = self._data(dataset)
        arguments = train_arguments(data, self.places.runs / run, settings, self.starts(), self.qualities(dataset))
        return self.queue.add(RunRecord(run, dataset.id, data.name, dict(settings), arguments))

    def extend(self, name: str, images: int) -> RunRecord:
        """Put a finished run into the queue again, to go on until it has seen so many images. Raises ApiError."""
        run = self.runs.get(name)
        if run["images"] is not None and images <= run["images"]:
            raise bad_request(f"images must be more than the {run['images']:,} that it has seen", "images")
        return self.queue.extend(name, images)

    def _data(self, dataset: DataSet) -> Path:
        """The version of a data set that a run reads. Raises ApiError."""
        if dataset.table.counts()["captioned"] == 0:
            raise ApiError(409, "no picture has a caption yet", "nothing_to_train_on")
        if any(task.is_open and task.dataset == dataset.id and task.kind != "plan" for task in self.tasks.all()):
            raise ApiError(409, "the data set is still being read or captioned; wait until it is done", "not_possible")
        try:
            with self._writing:
                data = write_version(dataset, self.places)
        except DataError as error:
            raise ApiError(409, str(error), "folder_not_found") from None
        except OSError as error:
            raise ApiError(507, f"the captions cannot be written: {error.strerror}", "disk_full") from None
        self._prune(dataset)
        return data

    def _prune(self, dataset: DataSet) -> None:
        """Delete versions of the data that neither a run nor an open task reads, but for the newest."""
        kept = {run.version for run in self.queue.records() if run.dataset == dataset.id}
        deleted = (item.extra for item in trash.everything(self.places) if item.kind == "run")
        kept |= {str(extra.get("version")) for extra in deleted if extra.get("dataset") == dataset.id}
        plans = (task.command for task in self.tasks.all() if task.is_open and task.dataset == dataset.id)
        kept |= {Path(argument).name for command in plans for argument in command}
        prune_versions(dataset, kept)

    # ---- trash

    def delete_run(self, name: str) -> trash.Trashed:
        """Move a run to the trash, with its record. Raises ApiError while it is at work."""
        record = self.queue.get(name) if is_id(name) else None
        folder = self.places.runs / name
        if record is None:
            raise ApiError(404, "the studio has started no run of this name", "run_not_found")
        self.queue.remove(name)
        item = trash.put(self.places, "run", folder, asdict(record))
        (self.places.jobs / f"{name}.json").unlink(missing_ok=True)
        self.runs.forget(name)
        return item

    def restore(self, number: str) -> dict[str, str]:
        """Put something back from the trash. Raises ApiError."""
        item, note = self.trashed(number), ""
        if item.kind == "dataset":
            trash.restore(self.places, item, self.places.datasets / item.name)
        else:
            record = RunRecord(**item.extra)
            if self.queue.get(record.name) is not None:
                raise ApiError(409, "there is another run of this name by now", "name_taken")
            trash.restore(self.places, item, self.places.runs / item.name)
            record.save(self.places.jobs)
            self.queue.restore(record)
            if not (self.places.datasets / record.dataset / DATA / record.version).is_dir():
                note = "its pictures are gone: it draws, but trains on only once its data set is back"
        return {"kind": item.kind, "name": item.name, "note": note}

    def trashed(self, number: str) -> trash.Trashed:
        """Something in the trash. Raises ApiError."""
        item = trash.find(self.places, number)
        if item is None:
            raise ApiError(404, "this is not in the trash", "not_in_trash")
        return item

    async def watch(self) -> None:
        """Look after the processes that train, and serve the models that they save, until cancelled."""
        while True:
            await asyncio.to_thread(self.queue.tick)
            await asyncio.to_thread(self.runs.serve)
            await asyncio.sleep(TICK_SECONDS)
