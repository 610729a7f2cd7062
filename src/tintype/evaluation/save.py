"""Results saved with the model: the verdict in its card, the best guidance and steps in its config.json."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tintype.errors import TintypeError
from tintype.evaluation.results import EvalResult, TuningResult
from tintype.evaluation.tuning import apply_setting
from tintype.evaluation.verdict import verdict
from tintype.model import file_names, manifest, store
from tintype.model.checkpoint import write_text
from tintype.printable import printable

CARD = "README.md"
BEGIN, END = "<!-- evaluation -->", "<!-- /evaluation -->"


def fill_card(folder: Path, result: EvalResult) -> list[str]:
    """Write the verdict into the card of a finished model, replacing an earlier one. Returns notes for the user.

    The cards of shipped models and of unfinished runs stay as they are.
    """
    card = folder / CARD
    if not folder.is_dir() or not card.is_file() or not (folder / file_names.WEIGHTS).is_file():
        return []
    try:
        text = card.read_text(encoding="utf-8")
        write_text(card, with_evaluation(text, result))
    except (OSError, UnicodeDecodeError, TintypeError) as error:
        return [f"could not update the model card {card}: {error}"]
    return [f"updated the model card {card}"]


def with_evaluation(card: str, result: EvalResult) -> str:
    """The card with the verdict at the end of its section on quality, or of the card."""
    lines = "\n".join(f"- {finding.text}" for finding in verdict(result))
    about = result.about
    block = (
        f"{BEGIN}\nMeasured by `tintype evaluate` after {about.images_seen:,} images, on {about.num_measured_unseen} "
        f"unseen pictures of {printable(about.data)}; intervals are 95 %.\n\n{lines}\n{END}"
    )
    start, end = card.find(BEGIN), card.find(END)
    if 0 <= start < end:
        return card[:start] + block + card[end + len(END) :]
    quality = card.find("\n## Quality")
    next_section = card.find("\n## ", quality + 1) if quality >= 0 else -1
    if next_section < 0:
        return card.rstrip("\n") + f"\n\n{block}\n"
    return f"{card[:next_section].rstrip()}\n\n{block}\n{card[next_section:]}"


def save_settings(folder: Path | None, tuning: TuningResult | None) -> list[str]:
    """Write the best guidance and steps into config.json of a finished model. Returns notes for the user.

    folder: None for a shipped model, which stays as it is.
    """
    if tuning is None:
        return ["nothing to save: guidance and steps were not compared"]
    if folder is None:
        return ["nothing saved: this model came with the package; copy its folder and give ./COPY"]
    if not (folder / file_names.WEIGHTS).is_file() or not (folder / file_names.CONFIG).is_file():
        return [f"nothing saved: {folder} is not the folder of a finished model"]
    config = store.read_config(store.Model(folder.name, folder, None))
    best = tuning.best
    write_text(folder / file_names.CONFIG, replace(config, sample=apply_setting(config.sample, best)).to_json())
    manifest.update(folder, file_names.CONFIG)
    return [f"saved {best.steps} steps and guidance {best.guidance:g} in {folder / file_names.CONFIG}"]
