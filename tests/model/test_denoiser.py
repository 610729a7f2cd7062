"""The denoiser: the zero of a fresh network, captions that stay with their pictures, weights that are its own."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tintype.config import Config, NetConfig, NoiseConfig, TextConfig
from tintype.diffusion.loss import WEIGHTS, diffusion_loss
from tintype.diffusion.noise import add_noise
from tintype.model.denoiser import Denoiser
from tintype.model.nets.tokens import learn_tokenizer

CAPTIONS = ["a red circle", "a blue square left of a star", ""]
TOKENIZER, VOCABULARY = learn_tokenizer(CAPTIONS, 300)
CONFIG = Config(
    net=NetConfig(resolution=8, patch=4, width=32, depth=2, heads=2, stem_width=16, text_depth=1),
    text=TextConfig(encoder="learned", vocabulary=VOCABULARY, max_tokens=16),
)


def scrambled(config: Config = CONFIG) -> Denoiser:
    torch.manual_seed(0)
    denoiser = Denoiser(config, TOKENIZER).eval()
    with torch.no_grad():
        for weight in denoiser.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    return denoiser


def test_first_velocity_loss_is_one_plus_the_power_of_the_data() -> None:
    """A fresh network says 0, so its error is the velocity itself: E (noise - x0)^2 = 1 + var + mean^2."""
    noise = dataclasses.replace(CONFIG.noise, prediction="velocity")
    denoiser = Denoiser(dataclasses.replace(CONFIG, noise=noise), TOKENIZER)
    draw = torch.Generator().manual_seed(0)
    x0 = 0.3 + 0.5 * torch.randn(4096, 3, 8, 8, generator=draw)
    noise_drawn = torch.randn(4096, 3, 8, 8, generator=draw)
    sigma = torch.exp(torch.randn(4096, generator=draw)).clamp(min=0.1)
    cond = denoiser.encode([""]).expand(4096)
    with torch.no_grad():
        weight = WEIGHTS["velocity"](sigma, 0.5)
        loss = diffusion_loss(lambda x, s: denoiser(x, s, cond), add_noise(x0, noise_drawn, sigma), x0, sigma, weight)
    assert float(loss.mean()) == pytest.approx(1 + 0.25 + 0.09, rel=5e-3)


@pytest.mark.parametrize("prediction", ["noise", "velocity", "image", "edm"])
def test_given_is_forward_with_the_text_computed_once(prediction: str) -> None:
    denoiser = scrambled(dataclasses.replace(CONFIG, noise=NoiseConfig(prediction=prediction)))
    cond = denoiser.encode(CAPTIONS)
    x, sigma = torch.randn(3, 3, 8, 8), torch.tensor([0.1, 1.0, 20.0])
    with torch.no_grad():
        assert torch.equal(denoiser.conditioned(cond)(x, sigma), denoiser(x, sigma, cond))


def test_pictures_keep_their_captions_in_any_order_and_alone() -> None:
    denoiser = scrambled()
    x, sigma = torch.randn(3, 3, 8, 8), torch.tensor([0.3, 1.0, 5.0])
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        together = denoiser(x, sigma, denoiser.encode(CAPTIONS))
        shuffled = denoiser(x[order], sigma[order], denoiser.encode([CAPTIONS[i] for i in order.tolist()]))
        alone = denoiser(x[1:2], sigma[1:2], denoiser.encode(CAPTIONS[1:2]))
    torch.testing.assert_close(shuffled, together[order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone, together[1:2], atol=1e-5, rtol=1e-5)


def test_a_frozen_encoder_is_never_saved_with_the_model() -> None:
    denoiser = Denoiser(Config(net=CONFIG.net, text=TextConfig(encoder="minilm")))
    before = set(denoiser.state_dict())
    denoiser.encode(["a red circle"])
    assert set(denoiser.state_dict()) == before
    assert sum(weight.numel() for weight in denoiser.parameters()) < 200_000
