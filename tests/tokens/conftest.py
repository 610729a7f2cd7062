"""A tiny token model with random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tintype.config import TextConfig
from tintype.model.nets.tokens import learn_tokenizer
from tintype.tokens import store
from tintype.tokens.config import TokenConfig, TokenNetConfig
from tintype.tokens.model import TokenModel
from tintype.tokens.writer import TokenWriter

CAPTIONS = ["a red circle", "a blue square left of a green star", "東京"]


def tiny_config(vocabulary: int) -> TokenConfig:
    net = TokenNetConfig(resolution=8, patch=2, codes=24, width=32, depth=2, heads=2, text_depth=1)
    return TokenConfig(net=net, text=TextConfig(encoder="learned", vocabulary=vocabulary, max_tokens=16))


def tiny_token_model() -> TokenModel:
    tokenizer, vocabulary = learn_tokenizer(CAPTIONS, 300)
    config = tiny_config(vocabulary)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = TokenModel(config, torch.randint(0, 256, (24, 12), dtype=torch.uint8), tokenizer)
        for weight in model.parameters():  # a fresh network gives all tokens the same probability
            weight.add_(0.1 * torch.randn_like(weight))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_token_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny token model."""
    folder = tmp_path_factory.mktemp("token-models") / "tiny-tokens"
    folder.mkdir()
    store.write(folder, tiny_token_model())
    return folder


@pytest.fixture
def model() -> TokenModel:
    return tiny_token_model()


@pytest.fixture(scope="session")
def writer(tiny_token_folder: Path) -> TokenWriter:
    return TokenWriter.load(tiny_token_folder, "cpu")
