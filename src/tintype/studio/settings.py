"""Settings of a run as the page gives them, checked, and as arguments of `tintype train`. Nothing else can be given."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tintype.config import CROPS, NO_CAPTION, PRESETS, Config
from tintype.pipeline.limits import MAX_SEED
from tintype.serving.api.errors import bad_request
from tintype.training.setup.forecast import memorizing_begins

TIMES = (("10m", "a first look"), ("30m", "a good sketch"), ("2h", "a good model"), ("8h", "overnight"))
# Images that a model is shown. The shipped models were shown 224,000 (shapes) and 498,000 (emoji) in all.
QUALITIES = {"sketch": 60_000, "good": 250_000, "fine": 1_000_000}
FINE = (10_000, 10_000_000)  # the least and the most images of the quality "fine", which the pictures decide
SIZES = (32, 64, 128, 256)  # pixels
MAX_TIME = 30 * 24 * 3600  # seconds
_TIME = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Setting:
    """One advanced setting: an option of `tintype train` and what it may be."""

    name: str
    kind: str  # "integer", "number", "choice", "switch" or "time"
    help: str
    minimum: float = 0
    maximum: float = 0
    choices: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    def json(self) -> dict[str, Any]:
        content: dict[str, Any] = {"name": self.name, "type": self.kind, "help": self.help}
        if self.kind in ("integer", "number"):
            content |= {"minimum": self.minimum, "maximum": self.maximum}
        return content | ({"choices": list(self.choices)} if self.choices else {})

    def arguments(self, value: object) -> list[str]:
        """The arguments for a value. Raises ApiError."""
        if self.kind == "switch":
            if not isinstance(value, bool):
                raise bad_request(f"{self.name} must be true or false", self.name)
            return [self.option] if value else []
        return [self.option, self._text(value)]

    def _text(self, value: object) -> str:
        if self.kind == "choice":
            if value not in self.choices:
                raise bad_request(f"{self.name} must be one of {', '.join(self.choices)}", self.name)
            return str(value)
        if self.kind == "time":
            return time_text(value, self.name)
        is_number = isinstance(value, (int, float) if self.kind == "number" else int) and not isinstance(value, bool)
        if not is_number or not self.minimum <= value <= self.maximum:  # type: ignore[operator]
            raise bad_request(f"{self.name} must be from {self.minimum:g} to {self.maximum:g}", self.name)
        return repr(value)


ADVANCED = {
    setting.name: setting
    for setting in (
        Setting("preset", "choice", "size of the model", choices=("auto", *PRESETS)),
        Setting("text", "choice", "what reads the captions", choices=("auto", "minilm", "learned")),
        Setting("batch_size", "integer", "images per optimizer step", 1, 2**14),
        Setting("micro_batch", "integer", "images computed at once, to save memory", 1, 2**14),
        Setting("lr", "number", "learning rate", 1e-8, 1),
        Setting("seed", "integer", "of weights, order and noise", 0, MAX_SEED),
        Setting("threads", "integer", "of a CPU", 1, 1024),
        Setting("device", "choice", "what computes", choices=("cpu", "cuda", "mps")),
        Setting("deterministic", "switch", "the same bits each time, on a GPU too, where that is slower"),
        Setting("save_every", "time", "time between checkpoints"),
        Setting("sample_every", "time", "time between sample pictures"),
        Setting("keep", "integer", "newest checkpoints to keep", 1, 1000),
        Setting("keep_every", "integer", "also keep one checkpoint every so many images", 0, 10**13),
        Setting("crop", "choice", "the middle of each picture, or its whole shape", choices=tuple(CROPS)),
        Setting("max_aspect", "number", "largest aspect ratio; other pictures are left out", 1, 1000),
        Setting("min_size", "integer", "smallest shorter side in pixels; other pictures are left out", 0, 10_000),
        Setting("dedupe", "switch", "keep only the first of exact copies"),
        Setting("no_caption", "choice", "for pictures without a caption", choices=tuple(NO_CAPTION)),
        Setting("stream", "switch", "no cache: decode pictures at every use"),
    )
}


def qualities(different: int) -> dict[str, int]:
    """The images of each quality for a number of different pictures.

    "fine" is as good as the pictures allow: until a model of the preset `nano` begins to learn them by heart.
    """
    least, most = FINE
    return {**QUALITIES, "fine": min(max(memorizing_begins(Config.from_preset("nano"), different), least), most)}


def train_arguments(
    data: Path,
    out: Path,
    settings: Mapping[str, Any],
    starts: Mapping[str, str],
    images_of: Mapping[str, int] = QUALITIES,
) -> list[str]:
    """The arguments of `tintype train` for checked settings. Raises ApiError.

    starts: the models that a run may start from, by name, as `--from` takes them. images_of: images of each quality.
    """
    arguments = ["train", str(data), "--out", str(out)]
    lengths = [name for name in ("time", "quality", "images") if settings.get(name) is not None]
    if len(lengths) != 1:
        raise bad_request("give one of time, quality and images", lengths[1] if lengths else "time")
    for name, value in settings.items():
        if value is not None:
            arguments += _arguments(name, value, starts, images_of)
    return arguments


def extended(arguments: Sequence[str], images: int) -> list[str]:
    """The arguments of a run for another length in images, whatever its length was given as; it may have stopped."""
    at = next(place for place, argument in enumerate(arguments) if argument in ("--time", "--images"))
    rest = [argument for argument in arguments[at + 2 :] if argument != "--no-stop"]
    return [*arguments[:at], "--images", str(images), "--no-stop", *rest]


def _arguments(name: str, value: Any, starts: Mapping[str, str], images_of: Mapping[str, int]) -> Sequence[str]:
    if name == "time":
        return ["--time", time_text(value, "time")]
    if name == "quality":
        if not isinstance(value, str) or value not in images_of:
            raise bad_request(f"quality must be one of {', '.join(images_of)}", "quality")
        return ["--images", str(images_of[value])]
    if name == "images":
        return ["--images", Setting("images", "integer", "", 1, 10**13)._text(value)]
    if name == "size":
        if value != "auto" and (value not in SIZES or isinstance(value, bool)):
            raise bad_request(f"size must be auto or one of {', '.join(map(str, SIZES))}", "size")
        return ["--resolution", str(value)]
    if name == "from":
        if not isinstance(value, str) or value not in starts:
            raise bad_request("from must be the name of a model of this server", "from")
        return ["--from", starts[value]]
    if name not in ADVANCED:
        raise bad_request("there is no such setting", name[:100] if name.isidentifier() else None, "unknown_setting")
    return ADVANCED[name].arguments(value)


def time_text(value: object, name: str) -> str:
    """A time such as 30m, 2h or 1h30m, as `tintype train` takes it. Raises ApiError."""
    match = _TIME.fullmatch(value) if isinstance(value, str) and value else None
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    if not 0 < 3600 * hours + 60 * minutes + seconds <= MAX_TIME:
        raise bad_request(f"{name} must be a time such as 30m, 2h or 1h30m, of at most 30 days", name)
    return str(value)
