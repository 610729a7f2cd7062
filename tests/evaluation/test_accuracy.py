"""Caption accuracy on pictures that are known to be right, known to be wrong, and settings chosen from known scores."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from tintype.evaluation.results import SamplingSetting
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
from tintype.evaluation.tuning import CaptionCriterion, Trial, best_trial, fewest_steps
from tintype.metrics.intervals import mean, proportion
from tintype.shapes.captions import captioned_scenes
from tintype.shapes.draw import draw
from tintype.shapes.scenes import ObjectSpec, RandomStream, Scene, make_rng
from tintype.shapes.write import example


def test_drawn_pictures_are_right_in_everything_and_blank_ones_in_next_to_nothing() -> None:
    asked = caption_tasks("train", 40, set())
    drawn = [draw(ask.scene, 32, make_rng(SEED, ask.number, RandomStream.PICTURE)) for ask in asked]
    scenes = [ask.scene for ask in asked]
    found = attribute_scores(judge_pictures(drawn, asked), scenes)
    assert all(one.right.value == 1 for one in found.values())
    assert found["binding"].num == found["relation"].num == sum(scene.relation is not None for scene in scenes)
    blank = judge_pictures([Image.new("RGB", (32, 32), "white")] * 40, asked)
    assert attribute_score(blank, scenes, "all").right.value == 0
    assert all(fraction_correct(verdict, scene) < 0.5 for verdict, scene in zip(blank, scenes, strict=True))


def test_colors_that_change_places_are_not_bound() -> None:
    red, blue = ObjectSpec("red", "circle"), ObjectSpec("blue", "square")
    asked = Scene((red, blue), 2, "left", "white")
    swapped = Scene((ObjectSpec("blue", "circle"), ObjectSpec("red", "square")), 2, "left", "white")
    for scene, expected in ((asked, True), (swapped, False)):
        picture = draw(scene, 64, make_rng(0, 0, RandomStream.PICTURE))
        (verdict,) = judge_pictures([picture], [caption_tasks("train", 1, set())[0]._replace(scene=asked)])
        assert is_correct(verdict, asked, "binding") is expected
    assert is_correct(verdict, Scene((red,)), "binding") is None


def test_chance_is_far_below_what_is_right_and_not_nothing() -> None:
    asked = caption_tasks("train", 60, set())
    found = chance_scores(asked, 32, seed=0)
    assert found["all"].right.value < 0.1
    assert 0.05 < found["background"].right.value < 0.6  # four of them, said by half of the captions
    assert 0.2 < found["count"].right.value < 0.7


def test_captions_asked_for_are_new() -> None:
    first = caption_tasks("train", 30, set())
    seen = {ask.caption for ask in first[:10]}
    assert [ask.caption for ask in caption_tasks("train", 20, seen)] == [ask.caption for ask in first[10:]]
    assert all(example(SEED, ask.number, "train", 16).caption == ask.caption for ask in first[:5])


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


def tried(steps: int, right: torch.Tensor) -> Trial:
    figure = mean(right)
    setting = SamplingSetting(steps=steps, guidance=3, score=figure, all_right=proportion(0, 1), evaluations=1)
    return Trial(setting, torch.stack([right, right], dim=1))


def test_the_fewest_steps_that_are_not_clearly_worse_are_chosen() -> None:
    noise = torch.rand(200, generator=torch.Generator().manual_seed(0)) * 0.1
    bad, good, most = (noise + level for level in (0.3, 0.8, 0.8005))
    judge = CaptionCriterion(caption_tasks("train", 1, set()))
    several = [tried(8, bad), tried(16, good + 0.01 * noise.flip(0)), tried(32, most)]
    assert best_trial(several, judge).setting.steps == 32
    assert fewest_steps(several, judge).steps == 16
    assert fewest_steps(several[:1], judge).steps == 8
