"""The model card of an export: metadata that the Hugging Face Hub reads, and what a stranger should know.

A run's own card names its data and quotes a caption. The card of an export is therefore written anew, from the settings
and the errors alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from tintype._version import __version__
from tintype.config import Config
from tintype.export.options import ExportOptions
from tintype.metrics.intervals import Estimate
from tintype.model.file_names import EVALUATION
from tintype.model.read_file import MAX_CONFIG_BYTES, read_text
from tintype.printable import shell_word
from tintype.training.core.validation_error import ValidationMetrics
from tintype.training.model_card import distilled_rows, markdown_text, quality_section

HUB_NAME = "hf:OWNER/NAME"  # in the card; `tintype push` puts the real name in its place
TAGS = ("text-to-image", "diffusion", "pixel-space", "tintype")
# The licenses that the Hub knows under their SPDX identifier in small letters; it calls all others "other".
HUB_LICENSES = frozenset(
    "apache-2.0 mit bsd-2-clause bsd-3-clause isc unlicense wtfpl zlib mpl-2.0 artistic-2.0 bsl-1.0 ecl-2.0 epl-2.0 "
    "gpl-2.0 gpl-3.0 lgpl-2.1 lgpl-3.0 agpl-3.0 ofl-1.1 openrail creativeml-openrail-m cc0-1.0 cc-by-2.0 cc-by-3.0 "
    "cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 "
    "cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0".split()
)


def front_matter(options: ExportOptions, pictures: dict[str, str], more_tags: Sequence[str] = ()) -> str:
    """The metadata at the head of the card, as YAML between two lines of dashes.

    pictures: caption -> path of its picture in the export. Texts are JSON strings, which are YAML too.
    """
    lines = ["---"]
    spdx = options.license.removesuffix("-only").removesuffix("-or-later").lower()
    if spdx in HUB_LICENSES:
        lines.append(f"license: {spdx}")
    elif options.license:
        lines += ["license: other", f"license_name: {_quoted(options.license)}"]
    lines += ["library_name: tintype", "pipeline_tag: text-to-image", "tags:"]
    lines += [f"- {tag}" for tag in (*TAGS, *more_tags)]
    if pictures:
        lines.append("widget:")
    for caption, path in pictures.items():
        lines += [f"- text: {_quoted(caption)}", "  output:", f"    url: {path}"]
    return "\n".join([*lines, "---", ""])


def without_front_matter(card: str) -> str:
    """The text of a card after its metadata, if it has any."""
    _, dashes, rest = card.removeprefix("---\n").partition("\n---\n")
    return rest.lstrip("\n") if card.startswith("---\n") and dashes else card


def export_card(
    config: Config, options: ExportOptions, *, num_weights: int, images_seen: int, metrics: ValidationMetrics
) -> str:
    """The card of an exported folder as Markdown, without its metadata."""
    net, sample = config.net, config.sample
    width, height = config.default_size
    caption = next(iter(options.examples), "a caption like those of its training")
    # Hugging Face shows the pictures of the metadata in place of this tag.
    gallery = "<Gallery />\n\n" if options.examples else ""
    planned = f" of {config.train.images:,} planned" if images_seen < config.train.images else ""
    quality = "The errors of this model were not measured."
    if metrics.errors:
        quality = quality_section(metrics, config.distill)
    terms = f"Its license is {options.license}." if options.license else "Its author has given it no license."
    return f"""# {markdown_text(options.name)}

A text-to-image diffusion model made with Tintype. It takes a caption and makes a picture of
{width} x {height} pixels out of noise. {terms}

{gallery}## Use

    pip install tintype
    tintype generate {shell_word(caption)} --model {HUB_NAME}

```python
from tintype import Pipeline

pictures = Pipeline.load({HUB_NAME!r}).generate([{caption!r}], steps={sample.steps}, guidance={sample.guidance:g})
```

A downloaded folder is a model too: give its path in place of `{HUB_NAME}`. Loading it runs no code.

## Data

The pictures and captions that it was trained on do not come with it. It shows what was in them and little else, and
may repeat some of them.

## Training

{images_seen:,}{planned} images were shown.

| setting | value |
| --- | --- |
| weights | {num_weights:,}, stored as {options.precision} |
| preset | {markdown_text(config.preset)}: width {net.width}, depth {net.depth}, patch {net.patch} |
| text | {markdown_text(config.text.encoder)} |
| prediction, weight | {config.noise.prediction}, {config.noise.weighting} |
{distilled_rows(config.distill)}| batch size, learning rate | {config.train.batch_size}, {config.train.lr:g} |
| exported by | Tintype {__version__} |

config.json holds every setting.

## Quality

{quality}
"""


def read_metrics(folder: Path) -> ValidationMetrics:
    """The errors in the evaluation.json of a finished model; none where it is missing or of another kind."""
    try:
        content = json.loads(read_text(folder / EVALUATION, MAX_CONFIG_BYTES))
        errors = {
            captions: {float(level): _number(error) for level, error in content[name].items()}
            for captions, name in (("true", "noise_error"), ("training", "noise_error_training"))
            if name in content
        }
        gauges = {str(name): Estimate(*map(_number, gauge)) for name, gauge in content.get("memorization", {}).items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ValidationMetrics()
    return ValidationMetrics(errors=errors, memorization=gauges)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
