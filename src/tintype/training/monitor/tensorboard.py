"""TensorBoard: the rows of the log as curves. Needs the extra `tensorboard`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tintype.errors import MissingExtraError

FOLDER = "tensorboard"
_PLOTTED = ("loss", "lr", "grad_norm", "images_per_second")


class TensorBoardWriter:
    """Writes curves over images seen to RUN/tensorboard. Raises MissingExtraError without its package."""

    def __init__(self, run: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingExtraError("tensorboard", "tintype[tensorboard]") from None
        self._writer: Any = SummaryWriter(str(run / FOLDER))

    def row(self, row: Mapping[str, Any]) -> None:
        """Add a row of log.jsonl."""
        for name in _PLOTTED:
            if row.get(name) is not None:
                self._writer.add_scalar(name, row[name], row["images_seen"])
        for name in (name for name in row if name.startswith("noise_error")):
            for level, error in row[name].items():
                if error is not None:
                    self._writer.add_scalar(f"{name}/{level}", error, row["images_seen"])
        for name, (gauge, *_) in row.get("memorization", {}).items():
            self._writer.add_scalar(f"memorization/{name}", gauge, row["images_seen"])
        self._writer.flush()
