"""Caption accuracy of a model of the drawn world, where a program checks every picture."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence

from tintype.evaluation.progress import Progress, with_progress
from tintype.evaluation.results import CaptionAccuracy, EvalSettings
from tintype.evaluation.samples import sample_images
from tintype.evaluation.shapes_accuracy import (
    SPLITS,
    CaptionTask,
    Score,
    attribute_score,
    attribute_scores,
    caption_tasks,
    chance_scores,
    concept_distance,
    judge_pictures,
)
from tintype.pipeline.pipeline import Pipeline
from tintype.shapes.judge import Verdict


def choose_tasks(
    seen: Collection[str], num: int, num_apart: int
) -> tuple[dict[str, list[CaptionTask]], list[CaptionTask]]:
    """Captions that are not in `seen`, trained on: `num` of each split, and `num_apart` others of both together."""
    asked = {name: caption_tasks(split, num + num_apart // 2, seen) for name, split in SPLITS.items()}
    return {name: own[:num] for name, own in asked.items()}, [ask for own in asked.values() for ask in own[num:]]


def measure_caption_accuracy(
    pipeline: Pipeline, asked: dict[str, list[CaptionTask]], settings: EvalSettings
) -> Generator[Progress, None, CaptionAccuracy]:
    """How often the model draws what the captions of each split say, with its own guidance and steps."""
    table: dict[str, dict[str, Score]] = {}
    every: tuple[list[Verdict], list[CaptionTask]] = ([], [])
    steps = pipeline.config.sample.steps
    for name, own in asked.items():
        work = sample_images(pipeline, [ask.caption for ask in own], settings.seed)
        verdicts = judge_pictures((yield from with_progress(f"caption accuracy, {name}", steps * len(own), work)), own)
        table[name] = attribute_scores(verdicts, [ask.scene for ask in own])
        every[0].extend(verdicts)
        every[1].extend(own)
    table["chance"] = chance_scores(every[1], pipeline.config.net.resolution, settings.seed)
    return CaptionAccuracy(scores=table, by_distance=_by_distance(*every))


def _by_distance(verdicts: Sequence[Verdict], asked: Sequence[CaptionTask]) -> dict[int, Score]:
    found = {}
    for distance in sorted({concept_distance(ask.scene) for ask in asked}):
        own = [place for place, ask in enumerate(asked) if concept_distance(ask.scene) == distance]
        found[distance] = attribute_score(
            [verdicts[place] for place in own], [asked[place].scene for place in own], "all"
        )
    return found
