"""Bodies of requests to the studio."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_TEXT = 10_000  # characters of a caption, and of a text that is searched for or added
MAX_ROWS = 10_000  # that one request names
Name = Field(min_length=1, max_length=100)


class Body(BaseModel):
    """A JSON object with known fields only."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Empty(Body):
    """No fields."""


class NewDataset(Body):
    """A data set: a folder or archive below the root, or without one for uploads."""

    name: str = Name
    folder: str | None = Field(None, max_length=4096)


class Rename(Body):
    """Another name."""

    name: str = Name


class CheckBody(Body):
    """A check for training at a resolution in pixels."""

    resolution: int = Field(32, ge=8, le=2048)


class NewUpload(Body):
    """A file that will come in chunks."""

    path: str = Field(max_length=4096)
    size: int = Field(ge=1, le=2**50)


class FinishUpload(Body):
    """The hash of a whole file, if the client knows it."""

    sha256: str | None = Field(None, max_length=64)


class OneCaption(Body):
    """A caption; `before`: what the page showed, so that a change from another tab is not lost."""

    caption: str = Field(max_length=MAX_TEXT)
    before: str | None = Field(None, max_length=2**20)


Filter = Literal["all", "empty", "repeated", "edited", "left_out", "unread", "cut"]


class Where(Body):
    """A search and a filter."""

    q: str = Field("", max_length=MAX_TEXT)
    filter: Filter = "all"


class Operation(Body):
    """An edit of many captions. Which fields it needs depends on `op`."""

    op: Literal["replace", "append", "prepend", "names", "set", "reset", "use"]
    rows: list[int] | None = Field(None, max_length=MAX_ROWS)
    where: Where | None = None
    preview: bool = False
    find: str = Field("", max_length=MAX_TEXT)
    by: str = Field("", max_length=MAX_TEXT, alias="with")
    match_case: bool = False
    words: bool = False
    text: str = Field("", max_length=MAX_TEXT)
    separator: str = Field(", ", max_length=20)
    source: Literal["file", "folder", "path"] = Field("file", alias="from")
    only_empty: bool = True
    caption: str = Field("", max_length=MAX_TEXT)
    use: bool = True


class Suggest(Body):
    """Captions by a captioner: for some rows, or for all pictures without a caption."""

    captioner: str = Field(max_length=1000)
    rows: list[int] | None = Field(None, max_length=MAX_ROWS)


class PlanBody(Body):
    """Settings of a run that is planned."""

    settings: dict[str, Any] = Field(max_length=40)


class NewRun(Body):
    """A run."""

    name: str = Name
    dataset: str = Field(max_length=100)
    settings: dict[str, Any] = Field(max_length=40)


class Extend(Body):
    """The length of a run that is to go on, in images."""

    images: int = Field(ge=1, le=10**13)


class Stop(Body):
    """How a run is stopped: `now` without a checkpoint."""

    now: bool = False
