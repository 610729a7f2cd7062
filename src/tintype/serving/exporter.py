"""Exports of served models, each made by a process of its own: it can be ended, and its memory is given back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from tintype.export.options import FORMS, ExportOptions
from tintype.serving import logs

SECONDS = 600.0  # that an export may take
KEPT_SECONDS = 600.0  # that its file is kept afterwards
MAX_WEIGHTS_BYTES = 2 * 2**30  # of a model that is exported
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
DETAILS = "the server's log has the details"
_UNUSUAL = re.compile(r"[^\w.-]+")

Status = Literal["running", "done", "failed", "cancelled"]


@dataclass(slots=True)
class Export:
    """One export. Its file stands in a folder that only this server uses."""

    owner: str
    form: str
    options: ExportOptions
    folder: tempfile.TemporaryDirectory[str]
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    status: Status = "running"
    error: str = ""
    file: Path | None = None  # once it is done
    size: int = 0  # bytes
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None
    task: asyncio.Task[None] | None = None

    @property
    def seconds(self) -> float:
        """How long it takes, or took."""
        return (self.ended or time.monotonic()) - self.began


class Exporter:
    """The exports of a server: one at a time, and the newest one is kept for a while. Used on the event loop only."""

    def __init__(self) -> None:
        self._newest: Export | None = None

    @property
    def is_busy(self) -> bool:
        """Whether an export is being made."""
        return self._newest is not None and self._newest.status == "running"

    def begin(self, source: str | Path, form: str, options: ExportOptions, owner: str) -> Export:
        """Start an export, and forget the one before. Only while not `is_busy`. Raises OSError."""
        self._forget()
        export = Export(owner, form, options, tempfile.TemporaryDirectory(prefix="tintype-export-"))
        self._newest = export
        export.task = asyncio.create_task(self._make(export, source))
        return export

    def get(self, number: str, owner: str) -> Export | None:
        """A client's export; None if it has none of this number, or no longer."""
        export = self._newest
        return export if export is not None and (export.id, export.owner) == (number, owner) else None

    async def cancel(self, export: Export) -> None:
        """End an export, and delete its file."""
        if export.task is not None:
            export.task.cancel()
            await asyncio.gather(export.task, return_exceptions=True)
        if self._newest is export:
            self._forget()

    async def close(self) -> None:
        """The server stops."""
        if self._newest is not None:
            await self.cancel(self._newest)

    def _forget(self) -> None:
        if self._newest is not None:
            if self._newest.task is not None:
                self._newest.task.cancel()
            self._newest.folder.cleanup()
            self._newest = None

    async def _make(self, export: Export, source: str | Path) -> None:
        """Make the file, keep it for a while, and delete it."""
        try:
            async with asyncio.timeout(SECONDS):
                export.error = await self._run(export, source)
                if not export.error:
                    export.file = await asyncio.to_thread(_single_file, export)
                    export.size = export.file.stat().st_size
            export.status = "failed" if export.error else "done"
        except TimeoutError:
            export.status, export.error = "failed", f"the export took longer than {SECONDS:g} s, and was ended"
        except OSError as error:
            logs.log.error("export failed", extra={"fields": {"error": str(error)}})
            export.status, export.error = "failed", f"the file cannot be written; {DETAILS}"
        except asyncio.CancelledError:
            export.status = "cancelled"
            raise
        finally:
            export.ended = time.monotonic()
        logs.event(
            "export", form=export.form, status=export.status, seconds=round(export.seconds, 1), bytes=export.size
        )
        if export.status == "failed":
            export.folder.cleanup()
        await asyncio.sleep(KEPT_SECONDS)
        if self._newest is export:
            self._newest = None
        export.folder.cleanup()

    async def _run(self, export: Export, source: str | Path) -> str:
        """What was wrong, "" for nothing."""
        place = str(source) if isinstance(source, str) else os.path.abspath(source)
        options = export.options
        command = ["-m", "tintype", "export", f"--to={export.form}", f"--out={_target(export)}"]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            f"--name={options.name}",
            f"--license={options.license}",
            "--",
            place,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # the other cores draw
        )
        try:
            _, output = await process.communicate()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode == 0:
            return ""
        text = output.decode("utf-8", "replace").strip()
        logs.log.error("export failed", extra={"fields": {"error": text[-2000:]}})
        message = (text.splitlines() or [""])[-1].removeprefix("tintype: ").removeprefix("error: ")
        is_private = not message or any(part in text for part in (export.folder.name, place + os.sep, "Traceback"))
        return f"the model cannot be exported; {DETAILS}" if is_private else message


def forms() -> list[str]:
    """The forms that this installation can write."""
    has_onnx = all(find_spec(name) is not None for name in ONNX_PACKAGES)
    return [form for form in FORMS if form != "onnx" or has_onnx]


def _target(export: Export) -> Path:
    """Where the command writes: a file or a folder with the name of the model."""
    name = _UNUSUAL.sub("-", export.options.name).strip("-.") or "model"
    return Path(export.folder.name) / (f"{name}.html" if export.form == "page" else name)


def _single_file(export: Export) -> Path:
    """The file to hand out: of a folder a zip file, whose weights are stored as they are, since none gets smaller."""
    target = _target(export)
    if target.is_file():
        return target
    packed = target.with_name(f"{target.name}.zip")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(target.rglob("*")):
            archive.write(file, Path(target.name) / file.relative_to(target))
    return packed
