"""What stays with the model: the results in its card, the settings found best in its configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tintype.errors import TintypeError
from tintype.evaluation.results import EvalResult, TuningResult
from tintype.evaluation.tuning import apply_setting
from tintype.evaluation.verdict import verdict
from tintype.model import store
from tintype.model.checkpoint import write_text

CARD = "README.md"
BEGIN, END = "<!-- evaluation -->", "<!-- /evaluation -->"


def fill_card(folder: Path, result: EvalResult) -> list[str]:
    """Write the verdict into the card of a finished model, in place of an earlier one. Returns remarks for the user.

    Cards of models that came with the package, and of runs that still train, are left alone.
    """
    card = folder / CARD
    if not folder.is_dir() or not card.is_file() or not (folder / store.WEIGHTS).is_file():
        return []
    try:
        text = card.read_text(encoding="utf-8")
        write_text(card, with_evaluation(text, result))
    except (OSError, UnicodeDecodeError, TintypeError) as error:
        return [f"the model card {card} was not filled: {error}"]
    return [f"the model card {card} now says this too"]


def with_evaluation(card: str, result: EvalResult) -> str:
    """The card with the verdict at the end of its section on quality, or at its end."""
    lines = "\n".join(f"- {line.text}" for line in verdict(result))
    about = result.about
    block = (
        f"{BEGIN}\nMeasured by `tintype evaluate` after {about.images_seen:,} images, on {about.num_measured_unseen} "
        f"unseen pictures of {about.data}; intervals are 95 %.\n\n{lines}\n{END}"
    )
    start, end = card.find(BEGIN), card.find(END)
    if 0 <= start < end:
        return card[:start] + block + card[end + len(END) :]
    quality = card.find("\n## Quality")
    place = card.find("\n## ", quality + 1) if quality >= 0 else -1
    if place < 0:
        return card.rstrip("\n") + f"\n\n{block}\n"
    return f"{card[:place].rstrip()}\n\n{block}\n{card[place:]}"


def save_settings(folder: Path | None, choice: TuningResult | None) -> list[str]:
    """Write the chosen guidance and steps into config.json of a finished model. Returns remarks for the user.

    folder: None for a model that came with the package, which is left as it is.
    """
    if choice is None:
        return ["nothing to save: guidance and steps were not compared"]
    if folder is None:
        return ["nothing was saved: the model came with the package; copy its folder and give ./COPY"]
    if not (folder / store.WEIGHTS).is_file() or not (folder / store.CONFIG).is_file():
        return [f"nothing was saved: {folder} is not the folder of a finished model"]
    place = store.Model(folder.name, folder, None)
    config = store.read_config(place)
    chosen = choice.chosen
    write_text(folder / store.CONFIG, replace(config, sample=apply_setting(config.sample, chosen)).to_json())
    return [f"{folder / store.CONFIG} now says {chosen.steps} steps and guidance {chosen.guidance:g}"]
