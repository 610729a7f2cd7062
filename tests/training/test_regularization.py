"""What a new run does against learning few pictures by heart, and which requests keep their own settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tintype.config import Config, TrainConfig, nano
from tintype.training.core.components import Components
from tintype.training.setup.regularization import (
    STRENGTHS,
    regularization_text,
    with_regularization,
)
from tintype.training.setup.request import DistillRequest, TrainRequest

REQUEST = TrainRequest(data="pictures", out=Path("run"), regularize=True)


def planned(images: int, num: int, request: TrainRequest = REQUEST) -> TrainConfig:
    config = nano(32)
    return with_regularization(replace(config, train=replace(config.train, images=images)), request, num).train


def test_the_more_often_pictures_are_shown_the_more_is_done() -> None:
    assert [strength.times for strength in STRENGTHS] == sorted((s.times for s in STRENGTHS), reverse=True)
    for strength in STRENGTHS:
        train = planned(int(1000 * strength.times), 1000)
        assert (train.dropout, train.augment) == (strength.dropout, strength.augment)
    rare = planned(int(1000 * STRENGTHS[-1].times) - 1, 1000)
    assert (rare.dropout, rare.augment, rare.text_noise) == (0, 0, 0)
    assert planned(10**6, 10**6) == planned(10**6, 10**6, replace(REQUEST, regularize=False))


@pytest.mark.parametrize(
    "request_",
    [
        replace(REQUEST, regularize=False),
        replace(REQUEST, config=Config()),
        replace(REQUEST, from_model="shapes"),
        replace(REQUEST, from_model="shapes", distill=DistillRequest()),
    ],
)
def test_requests_that_keep_their_settings(request_: TrainRequest) -> None:
    train = planned(10**6, 100, request_)
    assert (train.dropout, train.augment, train.text_noise) == (0, 0, 0)


def test_a_network_that_was_passed_in_has_no_dropout() -> None:
    train = planned(10**6, 100, replace(REQUEST, components=Components(net=torch.nn.Identity())))
    assert train.dropout == 0
    assert train.augment > 0


def test_the_plan_says_what_is_done_in_one_line() -> None:
    train = replace(nano(32).train, dropout=0.1, augment=0.15)
    text = regularization_text(train, 1919)
    assert text.startswith("1,919 different pictures: flips, shifts")
    assert text.endswith("dropout 0.1")
    assert regularization_text(nano(32).train, 1919) == ""
    assert regularization_text(replace(nano(32).train, flip=True), 5) == "5 different pictures: flips"
