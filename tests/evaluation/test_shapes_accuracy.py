"""Caption accuracy on pictures that are known to be right, known to be wrong, and settings chosen from known scores."""

from __future__ import annotations

import pytest
from PIL import Image

from tintype.evaluation.shapes_accuracy import (
    SEED,
    attribute_score,
    attribute_scores,
    caption_tasks,
    chance_scores,
    concept_distance,
    fraction_correct,
    is_correct,
    is_shapes_data,
    judge_pictures,
)
from tintype.shapes.captions import captioned_scenes
from tintype.shapes.draw import draw
from tintype.shapes.scenes import ObjectSpec, RandomStream, Scene, make_rng
from tintype.shapes.write import example


def test_drawn_pictures_are_right_in_everything_and_blank_ones_in_next_to_nothing() -> None:
    tasks = caption_tasks("train", 40, set())
    drawn = [draw(task.scene, 32, make_rng(SEED, task.number, RandomStream.PICTURE)) for task in tasks]
    scenes = [task.scene for task in tasks]
    scores = attribute_scores(judge_pictures(drawn, tasks), scenes)
    assert all(score.right.value == 1 for score in scores.values())
    assert scores["binding"].num == scores["relation"].num == sum(scene.relation is not None for scene in scenes)
    blank = judge_pictures([Image.new("RGB", (32, 32), "white")] * 40, tasks)
    assert attribute_score(blank, scenes, "all").right.value == 0
    assert all(fraction_correct(verdict, scene) < 0.5 for verdict, scene in zip(blank, scenes, strict=True))


def test_colors_that_change_places_are_not_bound() -> None:
    red, blue = ObjectSpec("red", "circle"), ObjectSpec("blue", "square")
    tasks = Scene((red, blue), 2, "left", "white")
    swapped = Scene((ObjectSpec("blue", "circle"), ObjectSpec("red", "square")), 2, "left", "white")
    for scene, expected in ((tasks, True), (swapped, False)):
        picture = draw(scene, 64, make_rng(0, 0, RandomStream.PICTURE))
        (verdict,) = judge_pictures([picture], [caption_tasks("train", 1, set())[0]._replace(scene=tasks)])
        assert is_correct(verdict, tasks, "binding") is expected
    assert is_correct(verdict, Scene((red,)), "binding") is None


def test_chance_is_far_below_what_is_right_and_not_nothing() -> None:
    tasks = caption_tasks("train", 60, set())
    scores = chance_scores(tasks, 32, seed=0)
    assert scores["all"].right.value < 0.1
    assert 0.05 < scores["background"].right.value < 0.6  # four of them, said by half of the captions
    assert 0.2 < scores["count"].right.value < 0.7


def test_captions_asked_for_are_new() -> None:
    first = caption_tasks("train", 30, set())
    seen = {task.caption for task in first[:10]}
    assert [task.caption for task in caption_tasks("train", 20, seen)] == [task.caption for task in first[10:]]
    assert all(example(SEED, task.number, "train", 16).caption == task.caption for task in first[:5])


@pytest.mark.parametrize(
    ("scene", "distance"),
    [
        (Scene((ObjectSpec("red", "circle"),)), 0),
        (Scene((ObjectSpec("red", "star"),)), 1),
        (Scene((ObjectSpec("blue", "circle"),), 3), 1),
        (Scene((ObjectSpec("red", "circle"), ObjectSpec("blue", "square")), 2, "left"), 1),
        (Scene((ObjectSpec("blue", "square"), ObjectSpec("red", "circle")), 2, "right"), 1),  # the same arrangement
        (Scene((ObjectSpec("red", "star"), ObjectSpec("blue", "circle")), 2, "above"), 3),
    ],
)
def test_concept_distance_counts_what_no_training_picture_shows(scene: Scene, distance: int) -> None:
    assert concept_distance(scene) == distance


def test_only_captions_of_the_world_are_taken_for_it() -> None:
    assert all(is_shapes_data([caption]) for caption, _ in captioned_scenes(1000, 8))
    assert not is_shapes_data(["a photo of a cat", "a red circle", "a dog on white"])
    assert not is_shapes_data([])


@pytest.mark.parametrize(
    "captions",
    [["红色的圆", "蓝色的方块"], ["🍕", "🐱"], ["12, 13", "7."], [""], ["a red красный circle"] * 9, ["red"]],
)
def test_captions_without_the_words_of_the_drawn_world_are_not_of_it(captions: list[str]) -> None:
    assert not is_shapes_data(captions)
