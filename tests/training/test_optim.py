"""The learning rate is a pure function; decay acts on matrices; the optimizer's state survives exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tintype.config import Config, NetConfig, TextConfig, TrainConfig
from tintype.errors import CheckpointError
from tintype.model.denoiser import Denoiser
from tintype.training.core.muon import Muon
from tintype.training.core.optim import Optimizers, load_optimizer_state, lr_at, make_optimizers, optimizer_state

CONFIG = TrainConfig(images=1000, batch_size=10, lr=0.5, warmup_images=100, decay_fraction=0.2)


@pytest.mark.parametrize(
    ("images_seen", "share"), [(0, 0.1), (40, 0.5), (90, 1), (100, 1), (799, 1), (800, 1), (900, 0.5), (990, 0.05)]
)
def test_warm_up_constant_decay(images_seen: int, share: float) -> None:
    assert lr_at(images_seen, CONFIG) == pytest.approx(0.5 * share)


def test_it_ends_at_zero_and_never_goes_below() -> None:
    assert lr_at(1000, CONFIG) == 0
    assert lr_at(5000, CONFIG) == 0


def test_without_warm_up_or_decay_it_is_constant() -> None:
    flat = replace(CONFIG, warmup_images=0, decay_fraction=0.0)
    assert {lr_at(seen, flat) for seen in range(0, 1000, 10)} == {0.5}


@given(seen=st.integers(0, 10**9), images=st.integers(1, 10**9), fraction=st.floats(0, 1), warmup=st.integers(0, 10**6))
def test_it_stays_between_zero_and_the_setting(seen: int, images: int, fraction: float, warmup: int) -> None:
    config = TrainConfig(images=images, decay_fraction=fraction, warmup_images=warmup, lr=1e-3)
    assert 0 <= lr_at(seen, config) <= 1e-3


class Small(nn.Sequential):
    def muon_matrices(self) -> dict[str, int]:
        return {"3.weight": 1}


def small_model() -> nn.Module:
    torch.manual_seed(0)
    model = Small(nn.Linear(3, 16), nn.LayerNorm(16), nn.Unflatten(1, (16, 1, 1)), nn.Conv2d(16, 16, 1))
    model.unused = nn.Parameter(torch.ones(2))
    return model


def step(model: nn.Module, optimizer: Optimizers) -> None:
    optimizer.zero_grad()
    model(torch.ones(2, 3)).square().sum().backward()
    optimizer.step()


def test_muon_steps_convolutions_and_attention_adamw_the_rest() -> None:
    net = NetConfig(resolution=16, width=32, heads=2, depth=1, stem_width=16, text_depth=1)
    text = TextConfig(encoder="learned", vocabulary=300, embedding_dim=32)
    model = Denoiser(Config(net=net, text=text))
    optimizers = make_optimizers(model, CONFIG)
    stepped = {name for name, weight in model.named_parameters() if isinstance(optimizers.optimizer_for(weight), Muon)}
    attention = {
        *("net.blocks.0.attention.qkv.weight", "net.blocks.0.attention.out.weight", "net.blocks.0.text.weight"),
        *("text.blocks.0.attention.qkv.weight", "text.blocks.0.attention.out.weight"),
    }
    convolutions = {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and min(module.in_channels, module.out_channels) >= 16
    }
    assert stepped == attention | {f"{name}.weight" for name in convolutions}
    (muon,) = (part for part in optimizers.optimizers if isinstance(part, Muon))
    parts = {weight: group["num_stacked"] for group in muon.param_groups for weight in group["params"]}
    stacked = {name: parts[weight] for name, weight in model.named_parameters() if parts.get(weight, 1) > 1}
    assert stacked == {
        "net.blocks.0.attention.qkv.weight": 3,  # queries, keys, values
        "net.blocks.0.text.weight": 2,  # keys and values
        "text.blocks.0.attention.qkv.weight": 3,
    }


def test_decay_acts_on_matrices_only() -> None:
    model = small_model()
    optimizer = make_optimizers(model, replace(CONFIG, lr=0.1, weight_decay=0.5))
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizer.step()
    for name, weight in model.named_parameters():
        assert torch.allclose(weight, before[name] * (0.95 if weight.ndim > 1 else 1.0)), name


def test_the_first_step_is_that_of_adam() -> None:
    model = nn.Linear(2, 1, bias=False)
    before = model.weight.detach().clone()
    optimizer = make_optimizers(model, replace(CONFIG, lr=0.01, weight_decay=0.0))
    model.weight.grad = torch.tensor([[3.0, -0.001]])
    optimizer.step()
    assert torch.allclose(model.weight - before, torch.tensor([[-0.01, 0.01]]), atol=1e-6)


def test_frozen_weights_are_left_out() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    assert [len(group["params"]) for group in make_optimizers(model, CONFIG).optimizers[0].param_groups] == [1]


def test_going_on_from_saved_state_is_exact() -> None:
    straight, resumed = small_model(), small_model()
    optimizer = make_optimizers(straight, CONFIG)
    for _ in range(3):
        step(straight, optimizer)
    state = {name: tensor.clone() for name, tensor in optimizer_state(optimizer, straight).items()}
    assert "exp_avg/0.weight" in state
    assert "exp_avg/unused" not in state
    resumed.load_state_dict(straight.state_dict())
    again = make_optimizers(resumed, CONFIG)
    load_optimizer_state(again, resumed, state)
    for _ in range(3):
        step(straight, optimizer)
        step(resumed, again)
    for left, right in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(left, right)


def test_state_of_another_model_is_refused() -> None:
    model = small_model()
    optimizer = make_optimizers(model, CONFIG)
    step(model, optimizer)
    state = optimizer_state(optimizer, model)
    for wrong in (
        {**state, "exp_avg/other": torch.ones(1)},
        {**state, "exp_avg/0.weight": torch.ones(1)},
        {name: tensor for name, tensor in state.items() if name != "step/0.weight"},
    ):
        with pytest.raises(CheckpointError):
            load_optimizer_state(make_optimizers(model, CONFIG), model, wrong)
