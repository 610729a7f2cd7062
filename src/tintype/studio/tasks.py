"""Tasks: scans, checks, captions and plans, each a process of its own. One is at work at a time; the others wait."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from queue import SimpleQueue
from typing import Any

from tintype.serving import logs

KEPT = 30  # finished tasks
OPEN = ("waiting", "running")


@dataclass(slots=True)
class Task:
    """A task. Its fields are set by the thread that runs it, and read by all."""

    id: str
    kind: str  # "scan", "check", "captions" or "plan"
    dataset: str
    command: tuple[str, ...]
    read_result: Callable[[list[str]], dict[str, Any] | None]  # from its lines that are no JSON
    state: str = "waiting"
    stage: str = ""
    done: int = 0
    total: int = 0
    error: str | None = None
    result: dict[str, Any] | None = None
    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    def json(self) -> dict[str, Any]:
        names = ("id", "kind", "dataset", "state", "stage", "done", "total", "error", "result")
        return {name: getattr(self, name) for name in names}


class Tasks:
    """Runs tasks one after another in a thread of its own."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._numbers = count(1)
        self._waiting: SimpleQueue[Task | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="studio-tasks", daemon=True)
        self._thread.start()

    def add(
        self,
        kind: str,
        dataset: str,
        command: tuple[str, ...],
        read_result: Callable[[list[str]], dict[str, Any] | None] = lambda lines: None,
    ) -> Task:
        """Begin a task, or return the one of the same command that has not begun yet."""
        with self._lock:
            for task in self._tasks.values():
                if task.state == "waiting" and task.command == command:
                    return task
            task = Task(f"t{next(self._numbers)}", kind, dataset, command, read_result)
            self._tasks[task.id] = task
            finished = [task for task in self._tasks.values() if not task.is_open]
            for old in finished[:-KEPT]:
                del self._tasks[old.id]
        self._waiting.put(task)
        return task

    def get(self, number: str) -> Task | None:
        return self._tasks.get(number)

    def all(self) -> list[Task]:
        return list(self._tasks.values())

    def of(self, dataset: str) -> Task | None:
        """The open task of a data set; None without one."""
        return next((task for task in self.all() if task.dataset == dataset and task.is_open), None)

    def cancel(self, task: Task) -> None:
        """End a task; one that is over stays as it is."""
        with self._lock:
            if task.is_open:
                task.state = "cancelled"
            if task.process is not None and task.process.poll() is None:
                task.process.kill()

    def close(self) -> None:
        """End all tasks and the thread."""
        self._is_closed = True
        for task in self.all():
            self.cancel(task)
        self._waiting.put(None)
        self._thread.join(10)

    def _work(self) -> None:
        while not self._is_closed and (task := self._waiting.get()) is not None:
            try:
                self._run(task)
            except Exception:
                logs.log.exception("a task of the studio failed")
                task.state, task.error = "failed", "it could not be started; the server's log has the details"

    def _run(self, task: Task) -> None:
        with self._lock:
            if task.state != "waiting":
                return
            task.process = subprocess.Popen(
                [sys.executable, *task.command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
            task.state = "running"
        lines: list[str] = []
        assert task.process.stdout is not None
        with task.process.stdout as output:
            for line in output:
                if not _note(task, line):
                    lines = [*lines[-200:], line.rstrip()]
        code = task.process.wait()
        result = task.read_result(lines) if code == 0 else None
        with self._lock:
            if task.state != "running":
                return
            task.result = result
            if code != 0:
                said = next((line for line in reversed(lines) if line.startswith("tintype: ")), "")
                task.error = task.error or said.removeprefix("tintype: ") or "it ended without a word"
                logs.log.error("task failed", extra={"fields": {"kind": task.kind, "output": lines[-20:]}})
            task.state = "failed" if code != 0 else "done"


def _note(task: Task, line: str) -> bool:
    """Take a report of progress or an error from a line; False for any other line."""
    if not line.startswith("{"):
        return False
    try:
        content = json.loads(line)
    except ValueError:
        return False
    if "error" in content:
        task.error = str(content["error"])
    else:
        task.stage, task.done, task.total = content["stage"], content["done"], content["total"]
    return True
