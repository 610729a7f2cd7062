"""The training loop: it learns, two alike stay alike, and a resumed one is the one that went on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.tokens.conftest import CAPTIONS, tiny_token_model
from torch import Tensor

from tintype.config import TrainConfig
from tintype.data.order import Order
from tintype.tokens.trainer import TokenTrainer


class Samples:
    """Twelve pictures made of codes, each with one of three captions that says which."""

    def __init__(self) -> None:
        model = tiny_token_model()
        tokens = torch.stack([torch.full((16,), 7 * (number % 3)) for number in range(12)])
        self._pictures = model.codebook.decode(tokens)
        self._embeddings = model.encoder.text_embeddings([CAPTIONS[number % 3] for number in range(12)])

    def order(self, seed: int, indices: Tensor) -> Order:
        return Order(seed, len(indices))

    def by_shape(self, indices: Tensor) -> list[Tensor]:
        return [torch.arange(len(indices))]

    def pictures(self, indices: Tensor) -> Tensor:
        return self._pictures[indices]

    def text_embeddings(self, indices: Tensor, choice: Tensor) -> list[Tensor]:
        return [self._embeddings[index] for index in indices.tolist()]

    def split(self, share: float) -> tuple[Tensor, Tensor]:
        return torch.arange(9), torch.arange(9, 12)


def trainer(**settings: object) -> TokenTrainer:
    model = tiny_token_model().requires_grad_(True)
    train = TrainConfig(images=240, batch_size=6, lr=3e-3, warmup_images=12, **settings)  # type: ignore[arg-type]
    config = replace(model.config, train=train)
    return TokenTrainer(model, Samples(), config, torch.device("cpu"))


def test_it_learns_and_the_averaged_weights_know_held_out_pictures() -> None:
    training = trainer()
    before = training.held_out_bits()
    losses = [report.loss for report in training.steps(240)]
    after = training.held_out_bits()
    assert before is not None
    assert after is not None
    assert losses[-1] < 0.5 < losses[0]
    assert after < 0.7 < before


def test_a_resumed_trainer_is_bit_for_bit_the_one_that_went_on() -> None:
    whole = trainer()
    losses = [report.loss for report in whole.steps(60)]
    first = trainer()
    begun = [report.loss for report in first.steps(24)]
    second = trainer()
    parts = {part: {name: t.clone() for name, t in tensors.items()} for part, tensors in first.tensors().items()}
    second.load(parts, first.counts())
    assert begun + [report.loss for report in second.steps(60)] == losses
    for part, tensors in whole.tensors().items():
        for name, tensor in second.tensors()[part].items():
            assert torch.equal(tensor, tensors[name]), (part, name)


def test_micro_batches_have_the_gradient_of_the_whole_batch() -> None:
    losses = [[report.loss for report in trainer(micro_batch=size).steps(24)] for size in (0, 2)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)
