"""Make a finished run a model that comes with the package.

    tintype evaluate RUN                    # what it finds is put into the card of the run, and so comes along

    python bench/shapes_accuracy.py --model RUN --steps 16 --guidance 2 --json > scores.json
    python dev/ship.py RUN shapes --scores scores.json --steps 16 --guidance 2 --data "Drawn by tintype shapes."

    python bench/emoji.py judge RUN DATA held-out.txt --steps 16 --guidance 3 --json > scores.json
    python dev/ship.py RUN emoji --scores scores.json --steps 16 --guidance 3 --data "Noto Emoji by Google, Apache 2.0."

    python bench/quality.py judge DATA held-out.txt RUN --json > scores.json
    python dev/ship.py RUN fruit --scores scores.json --data "Watercolors, public domain."

Weights are stored as float16, half the size; they are loaded as float32. The model card of the run is kept, with the
scores put in and the steps and guidance that it was measured with (by default its own) made the model's own. In a model
that is shipped anew other settings of sampling stay as they are, and so do the captions that the page proposes, the
first four lines of `samples/captions.txt`, unless `--captions FILE` brings others. `--folder FOLDER` writes elsewhere
than into the package. A model of more than 30 MB is refused.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from tintype.config import Config
from tintype.export.folder import half, images_seen, write_model
from tintype.model import checkpoint, file_names, manifest, store

MAX_BYTES = 30e6  # of a model in the package
ROWS = ("count", "shapes", "colors", "sizes", "relation", "background", "all")


def share_text(cell: dict[str, float]) -> str:
    """A share with its interval."""
    return f"{cell['share']:.1%} [{cell['low']:.1%}, {cell['high']:.1%}]"


def accuracy(scores: dict[str, dict[str, dict[str, float]]], steps: int, guidance: float) -> str:
    """The section of the model card that says how often a picture shows what its caption says."""
    lines = [
        "## Caption accuracy",
        "",
        "Share of pictures that show what their caption says, judged by a program (`bench/shapes_accuracy.py`), with",
        f"{steps} steps and guidance {guidance:g}; 95 % intervals in brackets. *New* captions are of the kinds trained",
        "on but were not among them; *held out* ones have a color and shape, or an arrangement of two colors, that no",
        "training picture shows.",
        "",
        "| what is right | new | held out |",
        "| --- | --- | --- |",
    ]
    for row in ROWS:
        cells = [scores[split][row] for split in ("new", "held out")]
        counted = [f"{share_text(cell)} of {cell['num']:.0f}" for cell in cells]
        lines.append(f"| {row} | {' | '.join(counted)} |")
    return "\n".join(lines)


def composing(scores: dict[str, dict[str, dict[str, float]]], steps: int, guidance: float) -> str:
    """The section of the model card that says how well variants come out that were never trained on."""
    lines = [
        "## Composing",
        "",
        "One in ten of the skin-tone variants was never trained on. A picture is compared with true ones, pixel by",
        f"pixel (`bench/emoji.py judge`), {steps} steps and guidance {guidance:g}: whether, of the variants of",
        "its subject, the one with its *tone* is nearest; of the pictures with its tone, that of its *subject*; of all",
        "3,543 pictures, its own. Beside variants that were held out stand as many that were trained on, and as many",
        "pictures without a tone. 95 % intervals in brackets.",
        "",
        "| what is nearest | held out | trained on | without a tone | held out, by chance |",
        "| --- | --- | --- | --- | ---: |",
    ]
    for row in scores["held out"]:
        cells = [scores[group].get(row) for group in ("held out", "trained on", "without a tone")]
        chance = scores["held out"][row]["chance"]
        lines.append(f"| {row} | {' | '.join(share_text(cell) if cell else '' for cell in cells)} | {chance:.1%} |")
    return "\n".join(lines)


def pictures(scores: dict[str, Any], steps: int, guidance: float) -> str:
    """The section of the model card that says what judges see in samples, and in real pictures."""

    def text(values: list[float]) -> str:
        return f"{values[0]:.3g} [{values[1]:.3g}, {values[2]:.3g}]"

    lines = [
        "## Judged beside real pictures",
        "",
        f"{scores['num']} samples under captions of training pictures, {steps} steps and guidance {guidance:g}, and",
        "pictures that were never trained on (`bench/quality.py`); 95 % intervals in brackets. Two judges that learned",
        "from the training pictures read the *kind* that a caption names: logistic regression on features of",
        "EfficientNet-Lite0, and a small network. Distances are in those features; *precision* is the share of samples",
        "among real pictures, *recall* that of real pictures among samples. *Near copies* are samples nearer to a",
        "training picture than all but 1 % of real pictures are.",
        "",
        "| | samples | real pictures |",
        "| --- | --- | --- |",
    ]
    for name, key in (("kind", "kind"), ("kind, small network", "kind_network"), ("color", "color")):
        if key in scores:
            lines.append(f"| {name} | {text(scores[key])} | {text(scores[f'{key}_real'])} |")
    lines.append(f"| Fréchet distance | {text(scores['frechet'])} | {text(scores['frechet_real'])} |")
    for name in ("precision", "recall"):
        lines.append(f"| {name} | {text(scores[name])} | |")
    deviation = f"{100 * scores['spectrum']:.0f} %"
    lines.append(
        f"| largest deviation of the power spectrum, up to half of the highest frequency | {deviation} | 0 % |"
    )
    lines.append(f"| near copies | {text(scores['copies'])} | |")
    return "\n".join(lines)


def section_of(scores: dict[str, Any], steps: int, guidance: float) -> str:
    """The section on what a program judged: of drawn shapes, of pictures with kinds, or of emoji."""
    if "shares" in scores:
        return accuracy(scores["shares"], steps, guidance)
    return (pictures if "kind" in scores else composing)(scores, steps, guidance)


def card_of(options: argparse.Namespace, section: str) -> str:
    """The card of the run under its new name, with where the pictures are from and the section on accuracy put in."""
    card = (options.run / "README.md").read_text(encoding="utf-8")
    title, rest = card.partition("\n\n## Share\n")[0].split("\n", 1)
    name = title.removeprefix("# ")
    for old, new in (
        (f"--model {name}", f"--model {options.name}"),
        (f"load({name!r})", f"load({options.name!r})"),
        ("[data.json](data.json)", "data.json of the run, which does not come with the package,"),
        ("## Training\n", f"{options.data}\n\n## Training\n"),
        ("## Use\n", f"{section}\n\n## Use\n"),
    ):
        if old in rest:
            rest = rest.replace(old, new)
        elif not old.startswith("[data"):
            raise SystemExit(f"the card of {options.run} has no {old!r}")
    rest = re.sub(r"steps=[0-9]+, guidance=[0-9.]+", f"steps={options.steps}, guidance={options.guidance:g}", rest)
    return f"# {options.name}\n{rest.rstrip()}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a finished run a model that comes with the package.")
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument(
        "--scores", type=Path, required=True, help="of bench/shapes_accuracy.py, emoji.py or quality.py --json"
    )
    parser.add_argument("--steps", type=int, help="that the scores were measured with, by default the model's own")
    parser.add_argument("--guidance", type=float, help="likewise")
    parser.add_argument("--folder", type=Path, help="where to write the model, by default into the package")
    parser.add_argument("--captions", type=Path, help="a file of captions to propose, one a line")
    parser.add_argument("--data", required=True, help="a sentence for the card: where the pictures are from")
    options = parser.parse_args()

    model = store.find(options.run)
    config: Config = store.read_config(model)
    options.steps = config.sample.steps if options.steps is None else options.steps
    options.guidance = config.sample.guidance if options.guidance is None else options.guidance
    folder = (options.folder or Path(store.__file__).parent / "shipped") / options.name
    # A grid that was fitted to the shipped model stays its own.
    shipped = (
        Config.from_json((folder / file_names.CONFIG).read_text("utf-8"))
        if (folder / file_names.CONFIG).is_file()
        else config
    )
    config = replace(config, sample=replace(shipped.sample, steps=options.steps, guidance=options.guidance))
    scores = json.loads(options.scores.read_text(encoding="utf-8"))
    card = card_of(options, section_of(scores, options.steps, options.guidance))
    weights = half(store.read_weights(model))
    if sum(weight.nbytes for weight in weights.values()) > MAX_BYTES:
        raise SystemExit(f"{options.run} has more than {MAX_BYTES / 1e6:.0f} MB of weights as float16; do not ship it")

    folder.mkdir(parents=True, exist_ok=True)
    manifest.remove(folder)
    write_model(model, folder, config.to_json(), weights)
    manifest.write(folder, images_seen(model))
    checkpoint.write_text(folder / file_names.CARD, card)
    checkpoint.write_text(
        folder / file_names.EVALUATION, (options.run / file_names.EVALUATION).read_text(encoding="utf-8")
    )
    if options.captions is not None:
        captions = folder / file_names.SAMPLE_CAPTIONS
        captions.parent.mkdir(exist_ok=True)
        checkpoint.write_text(captions, options.captions.read_text(encoding="utf-8"))
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
