"""What people would train instead: the recipes of diffusers and smalldiffusion, told captions as Tintype is.

    pip install -c constraints.txt -e ".[bench]" && pip install -c constraints.txt --no-deps smalldiffusion

Every recipe gets the same pictures and token numbers, and a text tower like Tintype's, so that what differs is the
network, the noise, the loss, the optimizer, the average and the sampler: theirs, with the settings of their own
examples. denoising-diffusion-pytorch is not here: its networks are told the number of a class, or nothing.
"""

from __future__ import annotations

import copy
import importlib
import math
import sys
from collections.abc import Iterator
from typing import Any, Protocol
from unittest.mock import MagicMock

import torch
from torch import Tensor, nn

from tintype.config import NetConfig, TextConfig
from tintype.model.codec import PixelCodec
from tintype.model.nets.conditioning import Conditioning
from tintype.model.nets.text import TextRefiner

EMPTY = -1  # in the place of a token number where a caption has ended
CAPTION_DROPOUT = 0.1  # share of captions hidden in training, so that there is something to guide away from
SIDE = 32  # pixels, of drawn shapes
DIFFUSERS_CHANNELS = {32: (32, 64, 96), 128: (32, 32, 64, 64, 96)}  # by the side of the pictures


class Batches:
    """Pictures uint8 [N, 3, H, W] and token numbers [N, L], in a new order every time.

    Each batch is (x0 [B, 3, H, W], tokens [B, L]).
    """

    def __init__(self, pictures: Tensor, tokens: Tensor, size: int) -> None:
        if len(pictures) < size:
            raise ValueError(f"{len(pictures)} pictures are less than one batch of {size}")
        self._pictures, self._tokens, self._size = pictures, tokens, size
        self._codec = PixelCodec()

    def __len__(self) -> int:
        return len(self._pictures) // self._size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self._pictures))
        for rows in order[: len(self) * self._size].split(self._size):
            yield self._codec.encode(self._pictures[rows]), self._tokens[rows]


class Captions(nn.Module):
    """Token numbers [B, L] -> Conditioning [B, 1 + L, D], by a tower of the shape that Tintype's preset nano has.

    In training a share of captions is hidden.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        net = NetConfig()
        self.width = net.width
        self.tower = TextRefiner(net, TextConfig(encoder="learned", vocabulary=vocabulary))

    def forward(self, tokens: Tensor) -> Conditioning:
        if self.training:
            hidden = torch.rand(len(tokens), 1) < CAPTION_DROPOUT
            tokens = tokens.masked_fill(hidden, EMPTY)
        conditioning: Conditioning = self.tower([row[row != EMPTY] for row in tokens])
        return conditioning


class PooledCaptions(nn.Module):
    """Token numbers [B, L] -> one vector a caption [B, D], for networks that take no more."""

    null_cond = EMPTY  # what every token number of a hidden caption is

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.captions = Captions(vocabulary)
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(self.captions.width, self.captions.width))

    def forward(self, tokens: Tensor) -> Tensor:
        cond = self.captions(tokens)
        weights = cond.mask / cond.mask.sum(1, keepdim=True)
        pooled: Tensor = self.mlp((weights[:, :, None] * cond.tokens).sum(1))
        return pooled


class Recipe(Protocol):
    """A network and how its makers train it."""

    module: nn.Module  # all that is trained, the text with it

    def losses(self, batches: Batches, lr: float) -> Iterator[float]:
        """Train for ever; one loss a step."""

    def averaged_weights(self) -> dict[str, Tensor]:
        """The averaged weights, by the names of `module`, which stays as it is: a step may be under way."""

    def sample(self, tokens: Tensor, steps: int, guidance: float) -> Tensor:
        """Pictures of captions [B, L] in `steps` guided evaluations; 1 is no guidance: x0 [B, 3, H, W]."""

    def nearest_level(self, sigma: float) -> float:
        """The noise level nearest to `sigma` that the network knows."""

    def noise_at(self, x: Tensor, sigma: float, tokens: Tensor) -> Tensor:
        """The noise it sees in x0 + sigma * noise [B, 3, H, W] of captions [B, L]; sigma is one of its levels."""


class Diffusers:
    """UNet2DConditionModel of diffusers as its `train_text_to_image.py` trains it, for pixels.

    That is 1000 levels of noise, the error of the noise, AdamW (betas .9 and .999, weight decay .01), gradients clipped
    at 1, a constant learning rate, an average of decay .9999. The noise is that of its examples on pixels, the defaults
    of DDPMScheduler. Captions are hidden now and then, which that script leaves out but guidance needs. Attention
    begins at 16 pixels a side, as in the usual networks for pictures of these sizes (Ho et al. 2020, 2006.11239), which
    have two levels more at 128 pixels.
    """

    def __init__(self, vocabulary: int, side: int = SIDE) -> None:
        diffusers = importlib.import_module("diffusers")
        captions = Captions(vocabulary)
        channels = DIFFUSERS_CHANNELS[side]
        plain = len(channels) - 2  # levels without attention
        net = diffusers.UNet2DConditionModel(
            sample_size=side,
            in_channels=3,
            out_channels=3,
            block_out_channels=channels,
            down_block_types=("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",) * 2,
            up_block_types=("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",) * plain,
            cross_attention_dim=captions.width,
        )
        self._side = side
        self.module = nn.ModuleDict({"net": net, "captions": captions})
        self._scheduler = diffusers.DDPMScheduler()
        self._average: Any = None

    def losses(self, batches: Batches, lr: float) -> Iterator[float]:
        training_utils = importlib.import_module("diffusers.training_utils")
        weights = list(self.module.train().parameters())
        optimizer = torch.optim.AdamW(weights, lr=lr, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
        self._average = training_utils.EMAModel(weights, decay=0.9999)
        while True:
            for x0, tokens in batches:
                noise = torch.randn_like(x0)
                times = torch.randint(0, self._scheduler.config.num_train_timesteps, (len(x0),))
                x = self._scheduler.add_noise(x0, noise, times)
                loss = nn.functional.mse_loss(self._noise(x, times, self.module["captions"](tokens)), noise)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(weights, 1.0)
                optimizer.step()
                optimizer.zero_grad()
                self._average.step(weights)
                yield loss.item()

    def averaged_weights(self) -> dict[str, Tensor]:
        averaged = copy.deepcopy(self.module)
        self._average.copy_to(averaged.parameters())
        return averaged.state_dict()

    @torch.no_grad()
    def sample(self, tokens: Tensor, steps: int, guidance: float) -> Tensor:
        """By DPM-Solver++ of the second order, its advice for few steps; cut to [-1, 1] as it advises for pixels."""
        diffusers = importlib.import_module("diffusers")
        scheduler = diffusers.DPMSolverMultistepScheduler.from_config(self._scheduler.config, thresholding=True)
        scheduler.set_timesteps(steps)
        self.module.eval()
        cond = self.module["captions"](torch.cat([torch.full_like(tokens, EMPTY), tokens]))
        x = torch.randn(len(tokens), 3, self._side, self._side)
        for time in scheduler.timesteps:
            uncond, text_cond = self._noise(torch.cat([x, x]), time.expand(2 * len(x)), cond).chunk(2)
            x = scheduler.step(uncond + guidance * (text_cond - uncond), time, x).prev_sample
        return x

    def nearest_level(self, sigma: float) -> float:
        return float(self._sigmas()[self._time(sigma)])

    def noise_at(self, x: Tensor, sigma: float, tokens: Tensor) -> Tensor:
        times = torch.full((len(x),), self._time(sigma))
        return self._noise(x / (1 + sigma**2) ** 0.5, times, self.module["captions"](tokens))

    def _sigmas(self) -> Tensor:
        """The noise levels of its times [1000], of pictures that are not scaled down."""
        bars: Tensor = self._scheduler.alphas_cumprod
        return ((1 - bars) / bars).sqrt()

    def _time(self, sigma: float) -> int:
        return int((self._sigmas().log() - math.log(sigma)).abs().argmin())

    def _noise(self, x: Tensor, times: Tensor, cond: Conditioning) -> Tensor:
        noise: Tensor = self.module["net"](x, times, cond.tokens, encoder_attention_mask=cond.mask).sample
        return noise


class SmallDiffusion:
    """DiT of smalldiffusion as its `fashion_mnist_dit_cond.py` trains it.

    That is noise of DDPM, the error of the noise, AdamW, an average of decay .99, patches of 2 pixels (of more where
    pictures are larger, so that there are as many tokens), 6 blocks of 6 heads of 32. Its input is scaled by the noise
    level, as in `cifar_unet.py`: there are levels up to 157. Its `cond_embed` takes one vector a caption.
    """

    def __init__(self, vocabulary: int, side: int = SIDE) -> None:
        self._library = smalldiffusion()
        self.module = self._library.Scaled(self._library.DiT)(
            in_dim=side,
            channels=3,
            patch_size=2 * side // SIDE,
            depth=6,
            head_dim=32,
            num_heads=6,
            cond_embed=PooledCaptions(vocabulary),
        )
        self._schedule = self._library.ScheduleDDPM(N=1000, beta_start=0.0001, beta_end=0.02)
        self._average = torch.optim.swa_utils.AveragedModel(self.module, multi_avg_fn=_averaged)

    def losses(self, batches: Batches, lr: float) -> Iterator[float]:
        for step in self._library.training_loop(batches, self.module, self._schedule, lr=lr, conditional=True):
            self._average.update_parameters(self.module)  # of before this step: as its examples have it
            yield step.loss.item()

    def averaged_weights(self) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = self._average.module.state_dict()
        return weights

    def sample(self, tokens: Tensor, steps: int, guidance: float) -> Tensor:
        """By its accelerated sampler with the momentum of its examples."""
        sigmas = self._schedule.sample_sigmas(steps)
        x = self.module.rand_input(len(tokens)) * sigmas[0]
        *_, x0 = self._library.samples(self.module, sigmas, gam=1.6, cfg_scale=guidance - 1, xt=x, cond=tokens)
        pictures: Tensor = x0
        return pictures

    def nearest_level(self, sigma: float) -> float:
        return sigma

    def noise_at(self, x: Tensor, sigma: float, tokens: Tensor) -> Tensor:
        noise: Tensor = self.module.predict_eps(x, torch.tensor(sigma), tokens)
        return noise


@torch.no_grad()
def _averaged(averages: list[Tensor], weights: list[Tensor], num: Tensor | int) -> None:
    """Average of decay .99, shorter at first: as `torch_ema` does it, which the examples of smalldiffusion use."""
    torch._foreach_lerp_(averages, weights, 1 - min(0.99, (1 + int(num)) / (10 + int(num))))


def smalldiffusion() -> Any:
    """The module `smalldiffusion`. It reads data sets with torchvision, which is not needed here."""
    for name in ("accelerate", "einops"):
        importlib.import_module(name)  # while torchvision is seen to be missing, if it is
    try:
        importlib.import_module("torchvision")
    except ImportError:
        names = ("torchvision", "torchvision.transforms")
        sys.modules.update({name: MagicMock() for name in names})
        try:
            return importlib.import_module("smalldiffusion")
        finally:
            for name in names:
                del sys.modules[name]
    return importlib.import_module("smalldiffusion")


RECIPES: dict[str, tuple[type[Diffusers] | type[SmallDiffusion], float]] = {  # and their own learning rates
    "diffusers": (Diffusers, 1e-4),
    "smalldiffusion": (SmallDiffusion, 1e-3),
}
