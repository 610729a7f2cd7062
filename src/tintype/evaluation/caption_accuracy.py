"""Caption accuracy of a model trained on shapes, where a program judges every sample."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence

from tintype.evaluation.progress import StageProgress, with_progress
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
    known: Collection[str], num: int, num_tuning: int
) -> tuple[dict[str, list[CaptionTask]], list[CaptionTask]]:
    """Captions that are not among the `known` ones: `num` of each split, and `num_tuning` others of both splits."""
    tasks = {name: caption_tasks(split, num + num_tuning // 2, known) for name, split in SPLITS.items()}
    tuning = [task for split_tasks in tasks.values() for task in split_tasks[num:]]
    return {name: split_tasks[:num] for name, split_tasks in tasks.items()}, tuning


def measure_caption_accuracy(
    pipeline: Pipeline, tasks: dict[str, list[CaptionTask]], settings: EvalSettings
) -> Generator[StageProgress, None, CaptionAccuracy]:
    """The share of captions of each split that the model draws right, with its own guidance and steps."""
    scores: dict[str, dict[str, Score]] = {}
    all_verdicts: list[Verdict] = []
    all_tasks: list[CaptionTask] = []
    steps = pipeline.config.sample.steps
    for name, split_tasks in tasks.items():
        work = sample_images(pipeline, [task.caption for task in split_tasks], settings.seed)
        images = yield from with_progress(f"caption accuracy, {name}", steps * len(split_tasks), work)
        verdicts = judge_pictures(images, split_tasks)
        scores[name] = attribute_scores(verdicts, [task.scene for task in split_tasks])
        all_verdicts += verdicts
        all_tasks += split_tasks
    scores["chance"] = chance_scores(all_tasks, pipeline.config.net.resolution, settings.seed)
    return CaptionAccuracy(scores=scores, by_distance=_by_distance(all_verdicts, all_tasks))


def _by_distance(verdicts: Sequence[Verdict], tasks: Sequence[CaptionTask]) -> dict[int, Score]:
    distances = [concept_distance(task.scene) for task in tasks]
    scores = {}
    for distance in sorted(set(distances)):
        rows = [row for row in range(len(tasks)) if distances[row] == distance]
        scores[distance] = attribute_score([verdicts[row] for row in rows], [tasks[row].scene for row in rows], "all")
    return scores
