"""What an export may be asked for. Imports no PyTorch, so that the command line can show it at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from tintype.errors import ConfigError

PRECISIONS = ("fp16", "fp32", "int8")  # in which weights are stored


class Form(NamedTuple):
    """A form of export, as people choose it."""

    help: str  # what it is
    precision: str = PRECISIONS[0]  # of its weights, where none is asked for


# By name; the first is the default. export/forms.py has the function that writes each.
FORMS = {
    "folder": Form("a model folder with half the size and a card, for other people"),
    "diffusers": Form("the same, which Hugging Face's diffusers runs too, with its own schedulers"),
    "onnx": Form("a folder of ONNX graphs for other languages and runtimes, checked against the model"),
    "page": Form("one HTML file that opens from a disk and draws by itself", "int8"),
    "site": Form("the same as a folder for a static web server", "int8"),
}
MAX_NAME = 96  # characters
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportOptions:
    """What every form is told. Raises ConfigError for a value that cannot work.

    name: of the model, for people. license: an SPDX identifier, or "" for none. precision: of the stored weights.
    examples: captions that may be published. card: the text of the model card, or None for one made by the export.
    """

    name: str
    license: str = ""
    precision: str = PRECISIONS[0]
    examples: tuple[str, ...] = ()
    card: str | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= MAX_NAME or not self.name.isprintable():
            raise ConfigError(f"name must be 1 to {MAX_NAME} printable characters, not {self.name[:MAX_NAME]!r}")
        if self.license and not _SPDX.fullmatch(self.license):
            raise ConfigError(
                f"license must be an SPDX identifier such as Apache-2.0 or CC-BY-4.0, not {self.license[:64]!r}"
            )
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}")
        if not all(caption.strip() and caption.isprintable() for caption in self.examples):
            raise ConfigError("every example must be a caption on one line")
