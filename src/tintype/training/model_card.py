"""The model card, README.md of a finished model: data, training, quality and use."""

from __future__ import annotations

from tintype.config import Config, DistillConfig, TrainConfig
from tintype.metrics.intervals import format_proportion
from tintype.printable import one_line, shell_word
from tintype.training.console import duration
from tintype.training.core.validation_error import MAX_MEASURED, ValidationMetrics
from tintype.training.monitor.memorization_gauge import OVERALL


def model_card(
    name: str,
    config: Config,
    *,
    data: str,
    num_training: int,
    num_held_out: int,
    num_left_out: int,
    fingerprint: str,
    num_weights: int,
    images_seen: int,
    seconds: float,
    ema_width: float,
    metrics: ValidationMetrics,
    caption: str,
) -> str:
    """The model card as Markdown.

    num_training, num_held_out, num_left_out: pictures trained on, held out, and not used. fingerprint: of
    the data. seconds: training time. ema_width: of the average that is the model. metrics: of that average.

    Names and captions may come from strangers: none of them runs anything when the lines to use are copied.
    """
    net, train, sample, distill = config.net, config.train, config.sample, config.distill
    share = f"-- {shell_word(name)}" if name.startswith("-") else shell_word(name)
    return f"""# {markdown_text(name)}

A text-to-image diffusion model made with Tintype. It takes a caption and makes a picture of
{config.default_size[0]} x {config.default_size[1]} pixels out of noise.

## Data

{num_training:,} captioned pictures from `{markdown_text(data)}`; {num_held_out:,} more were held out, and
{num_left_out:,} files were left out.
[data.json](data.json) lists every picture and caption with its sha256, and what was left out with the reason; the
sha256 of it all is `{fingerprint}`. The model shows what was in these pictures and little else,
and may repeat some of them.

## Training

{images_seen:,} images were shown ({images_seen / max(num_training, 1):.1f} times each) in {duration(seconds)}.
{stopped(train)}

| setting | value |
| --- | --- |
| weights | {num_weights:,} |
| preset | {markdown_text(config.preset)}: width {net.width}, depth {net.depth}, patch {net.patch} |
| text | {markdown_text(config.text.encoder)} |
| prediction, weight | {config.noise.prediction}, {config.noise.weighting} |
{distilled_rows(distill)}| average of the weights | power function, width {ema_width:g} |
| batch size, learning rate | {train.batch_size}, {train.lr:g} |
| seed | {train.seed} |

config.json holds every setting.

## Quality

{quality_section(metrics, distill)}

## Use

    {generate_command(caption, name)}

```python
from tintype import Pipeline

pictures = Pipeline.load({name!r}).generate([{caption!r}], steps={sample.steps}, guidance={sample.guidance:g})
```

## Share

    tintype export --out FOLDER {share}

writes a folder with the model and nothing private. Do not upload the folder of the run: data.json lists every caption,
pack holds the pictures, samples holds captions and pictures, copies.safetensors, if it is there, small pictures of the
data, and this card names the data and quotes a caption.
"""


def stopped(train: TrainConfig) -> str:
    """A sentence on a run that stopped by itself; nothing for others."""
    if not train.planned_images:
        return ""
    return (
        f"Of {train.planned_images:,} that were planned: from there on it would only have learned its pictures by "
        "heart.\n"
    )


def generate_command(caption: str, model: str) -> str:
    """A command line to copy that makes a picture: `model` is a folder, and neither text can run anything."""
    word = shell_word(caption)
    if word.lstrip("'").startswith("-") or model.startswith("-"):  # neither may be taken for an option
        return f"tintype generate {shell_word('--model=' + model)} -- {word}"
    return f"tintype generate {word} --model {shell_word(model)}"


def markdown_text(text: str) -> str:
    """A name in Markdown: on one line, without what could end a code span or a cell, or begin a tag or a link."""
    return one_line(text).translate(str.maketrans("`|<[]", "'/(()"))


def distilled_rows(distill: DistillConfig) -> str:
    """Rows of the table about the teacher of a distilled model; none for other models."""
    if not distill.steps:
        return ""
    guided = f"{distill.guidance:g} at sigma {distill.guidance_min:g} to {distill.guidance_max:g}"
    return (
        f"| distilled from | {markdown_text(distill.teacher)}, sha256 `{markdown_text(distill.teacher_hash)}` |\n"
        f"| steps of the teacher, its guidance | {distill.teacher_steps} for each of {distill.steps}, {guided} |\n"
    )


def quality_section(metrics: ValidationMetrics, distill: DistillConfig) -> str:
    """The errors by noise level and the memorization gauge."""
    errors, training = metrics.noise_error, metrics.errors.get("training", {})
    if not errors:
        return "No pictures were held out, so the error on unseen pictures was not measured."
    if distill.steps:
        rows = "\n".join(f"| {level:.3g} | {error:.3g} |" for level, error in errors.items())
        return (
            "Mean squared error of the noise that leads to the end of the teacher's flow, by noise level (predicting "
            f"nothing has an error of 1), on up to {MAX_MEASURED} held-out pictures:\n\n"
            f"| sigma | error |\n| ---: | ---: |\n{rows}"
        )
    rows = "\n".join(
        f"| {level:g} | {error:.4f} | {_or_dash(training.get(level), '.4f')} | {_gauge(metrics, f'{level:g}')} |"
        for level, error in errors.items()
    )
    return (
        "Mean squared error of the predicted noise by noise level (predicting nothing has an error of 1), on up to "
        f"{MAX_MEASURED} held-out pictures and as many training pictures, and the memorization gauge, an early warning "
        "of copies: at 0 % the model does no better on training pictures than on new ones, at 100 % it has memorized "
        "them. Brackets are 95 % intervals; `tintype evaluate` counts copies among samples and measures more.\n\n"
        "| sigma | held out | training | gauge |\n| ---: | ---: | ---: | ---: |\n"
        f"{rows}\n\nThe gauge of all levels, weighted as in training, is {_gauge(metrics, OVERALL)}."
    )


def _gauge(metrics: ValidationMetrics, name: str) -> str:
    return format_proportion(metrics.memorization[name]) if name in metrics.memorization else "unknown"


def _or_dash(value: float | None, digits: str) -> str:
    return "-" if value is None else f"{value:{digits}}"
