"""The parts of bench/ that train other libraries: what they are fed, and that their noise levels are read rightly."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture
def recipes(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("peer_recipes")


@pytest.fixture
def speedrun(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("speedrun")


def test_an_epoch_shows_every_picture_once_with_its_own_caption(recipes):
    numbers = torch.arange(12)
    pictures = numbers.view(-1, 1, 1, 1).expand(-1, 3, 4, 4).to(torch.uint8)
    batches = list(recipes.Batches(pictures, numbers[:, None], 4))
    assert [len(x0) for x0, _ in batches] == [4, 4, 4]
    x0, tokens = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert sorted(tokens.flatten().tolist()) == numbers.tolist()
    assert torch.equal(((x0[:, 0, 0, 0] + 1) * 127.5).round().long(), tokens.flatten())


def test_padding_behind_a_caption_says_nothing_and_a_hidden_caption_is_the_empty_one(recipes):
    torch.manual_seed(0)
    pooled = recipes.PooledCaptions(20).eval()
    tokens = torch.tensor([[3, 7, 5]])
    padded = torch.tensor([[3, 7, 5, recipes.EMPTY, recipes.EMPTY], [1, 2, 3, 4, 5]])
    torch.testing.assert_close(pooled(padded)[:1], pooled(tokens))
    hidden = torch.full_like(tokens, pooled.null_cond)
    torch.testing.assert_close(pooled(hidden), pooled(hidden[:, :1]))
    assert not torch.allclose(pooled(hidden), pooled(tokens))


def test_captions_are_hidden_in_training_only_and_one_in_ten(recipes):
    torch.manual_seed(0)
    captions = recipes.Captions(20)
    tokens = torch.full((2000, 1), 3)
    assert bool(captions.eval()(tokens).mask.all())
    lengths = captions.train()(tokens).mask.sum(1)
    assert 0.07 < float((lengths == 1).float().mean()) < 0.13  # the learned token in front is always there


def test_recipes_are_named_with_or_without_a_learning_rate(speedrun):
    parsed = speedrun.recipes("tintype,diffusers,diffusers@1e-3")
    assert [(recipe.name, recipe.lr) for recipe in parsed] == [
        ("tintype", None),
        ("diffusers", None),
        ("diffusers", 1e-3),
    ]
    assert str(parsed[2]) == "diffusers@0.001"


@pytest.mark.parametrize("text", ["", "edm", "tintype@1e-3", "diffusers@fast", "diffusers,diffusers"])
def test_what_cannot_be_run_is_refused(speedrun, text):
    with pytest.raises(argparse.ArgumentTypeError):
        speedrun.recipes(text)


def test_a_row_of_the_board_has_mean_least_and_most(speedrun):
    recipe = speedrun.Recipe("diffusers", 1e-3)
    rows = [speedrun.Row(recipe, 0, 30.0, 1000, 0.25, 0.5), speedrun.Row(recipe, 1, 31.0, 2000, 0.75, 0.5)]
    assert speedrun.board_row(rows, 2) == (
        "| diffusers@0.001 | 2 | 30.5 | 1,500 | 50.0 % (25.0 to 75.0) | 50.0 % (50.0 to 50.0) | 0, 1 |"
    )


@pytest.mark.parametrize(
    ("name", "peer_num", "num"), [("tintype", 60, "200"), ("diffusers", 60, "60"), ("diffusers", None, "200")]
)
def test_other_libraries_may_be_asked_for_fewer_pictures(speedrun, name, peer_num, num):
    options = argparse.Namespace(num=200, peer_num=peer_num, steps=12, guidance=2, peer_steps=20, peer_guidance="2,7.5")
    command = speedrun.judging(speedrun.Recipe(name), Path("data"), Path("out"), options)
    assert command[command.index("--num") + 1] == num


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # its schedulers, of numpy
def test_diffusers_takes_steps_and_draws_what_a_perfect_network_sees(recipes, monkeypatch):
    pytest.importorskip("diffusers")
    torch.manual_seed(0)
    recipe = recipes.Diffusers(20)
    _takes_steps(recipe, recipes)
    x0 = torch.rand(1, 3, recipes.SIDE, recipes.SIDE) * 2 - 1
    noise = torch.randn_like(x0)
    sigma, time = recipe.nearest_level(1.0), recipe._time(1.0)
    assert sigma == pytest.approx(1.0, rel=0.02)
    noised = recipe._scheduler.add_noise(x0, noise, torch.tensor([time]))
    torch.testing.assert_close((x0 + sigma * noise) / (1 + sigma**2) ** 0.5, noised)

    bars = recipe._scheduler.alphas_cumprod

    def perfect(x, times, cond):
        bar = bars[times].view(-1, 1, 1, 1)
        return (x - bar.sqrt() * x0) / (1 - bar).sqrt()

    monkeypatch.setattr(recipe, "_noise", perfect)
    drawn = recipe.sample(torch.tensor([[3, 4]]), 20, 3.0)
    torch.testing.assert_close(drawn, x0, atol=1e-3, rtol=0)


@pytest.mark.slow
def test_smalldiffusion_takes_steps_and_draws_what_a_perfect_network_sees(recipes, monkeypatch):
    pytest.importorskip("accelerate")
    torch.manual_seed(0)
    try:
        recipe = recipes.SmallDiffusion(20)
    except ModuleNotFoundError:
        pytest.skip("smalldiffusion is not installed")
    _takes_steps(recipe, recipes)
    x0 = torch.rand(1, 3, recipes.SIDE, recipes.SIDE) * 2 - 1
    monkeypatch.setattr(recipe.module, "predict_eps", lambda x, sigma, cond: (x - x0) / sigma)
    drawn = recipe.sample(torch.tensor([[3, 4]]), 20, 3.0)
    assert float((drawn - x0).abs().max()) < 0.1  # it stops at its lowest level, 0.01


def _takes_steps(recipe, recipes):
    """Two steps: a network that says nothing is wrong by the variance of the noise; weights and average move."""
    pictures = torch.randint(0, 256, (8, 3, recipes.SIDE, recipes.SIDE), dtype=torch.uint8)
    before = {name: weight.detach().clone() for name, weight in recipe.module.named_parameters()}
    steps = recipe.losses(recipes.Batches(pictures, torch.randint(0, 20, (8, 5)), 4), 1e-3)
    assert 0.7 < next(steps) < 2.0
    next(steps)
    next(steps)
    recipe.module.load_state_dict(recipe.averaged_weights())
    moved = [name for name, weight in recipe.module.named_parameters() if not torch.equal(weight, before[name])]
    assert any("tower" in name for name in moved)
    assert any("tower" not in name for name in moved)
