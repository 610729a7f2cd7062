"""Data options: the settings of DataConfig that a user may give, each of them optional."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from tintype.config.check import check_data
from tintype.config.sections import DataConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class DataOptions:
    """The settings of DataConfig that a user may give; None: not given."""

    crop: str | None = None
    alpha_color: str | None = None
    min_size: int | None = None
    max_aspect: float | None = None
    animations: str | None = None
    caption_encoding: str | None = None
    no_caption: str | None = None
    dedupe: bool | None = None
    caption_from: str | None = None
    repeats: str | None = None

    def applied_to(self, data: DataConfig) -> DataConfig:
        """`data` with the settings that are given. Raises ConfigError for a value that is not allowed."""
        data = dataclasses.replace(data, **given_settings(data, self))
        check_data(data)
        return data


def given_settings(config: object, options: object) -> dict[str, Any]:
    """The settings of `config`, a dataclass, that `options` has under the same name and that are not None there."""
    names = (entry.name for entry in dataclasses.fields(config))  # type: ignore[arg-type]
    return {name: value for name in names if (value := getattr(options, name, None)) is not None}
