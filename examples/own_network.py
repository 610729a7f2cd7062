"""A network of one's own, here a small U-Net, in place of the transformer.

python examples/own_network.py [IMAGES]            default: 8000, some minutes on two cores; 64 for a first look

Text encoder, prediction, loss, optimizers, samplers, guidance and checkpoints stay as they are.
"""

import sys
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

import tintype
from tintype.shapes.write import example

IMAGES = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
CHANNELS = (32, 64, 128)  # at full size, half and a quarter


class Block(nn.Module):
    """Two convolutions, scaled and shifted by an embedding of noise level and caption."""

    def __init__(self, channels, width):
        super().__init__()
        self.norm, self.modulation = nn.GroupNorm(8, channels), nn.Linear(width, 2 * channels)
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x, embedding):
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        return x + self.second(F.silu(self.first(F.silu(self.norm(x))) * (1 + scale) + shift))


class UNet(nn.Module):
    """Fulfills `tintype.Network`: `caption_kv` reads captions once, `forward` is called at every step."""

    def __init__(self, config: tintype.Config):
        super().__init__()
        width, (small, *_, large) = config.net.width, CHANNELS
        self.noise = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width))
        self.read = nn.Conv2d(config.net.channels, small, 3, padding=1)
        self.down = nn.ModuleList(Block(channels, width) for channels in CHANNELS)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, 2) for a, b in pairwise(CHANNELS))
        self.middle = Block(large, width)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairwise(CHANNELS))
        self.up = nn.ModuleList(Block(channels, width) for channels in CHANNELS[:-1])
        self.write = nn.Conv2d(small, config.net.channels, 3, padding=1)

    def caption_kv(self, cond: tintype.Conditioning) -> tintype.CaptionKV:
        """Only the mean of the tokens [B, L, D] is used: no attention, so no keys and values."""
        mask = cond.mask[:, :, None].to(cond.tokens.dtype)
        return tintype.CaptionKV((), (), cond.mask, (cond.tokens * mask).sum(1) / mask.sum(1))

    def forward(self, x: torch.Tensor, c_noise: torch.Tensor, text: tintype.CaptionKV) -> torch.Tensor:
        """x [B, C, H, W] of unit variance, c_noise [B] -> what is predicted [B, C, H, W]."""
        angles = c_noise[:, None] * torch.logspace(-1, 1.5, 16, device=x.device)
        embedding = F.silu(self.noise(torch.cat([angles.sin(), angles.cos()], dim=1)) + text.pooled_text)
        x, skips = self.read(x), []
        for index, block in enumerate(self.down):
            x = block(x if index == 0 else self.shrink[index - 1](x), embedding)
            skips.append(x)
        x = self.middle(x, embedding)
        for index in reversed(range(len(self.up))):
            x = self.up[index](self.grow[index](x) + skips[index], embedding)
        return self.write(x)


data = [example(seed=0, index=index, size=32)[:2] for index in range(1000)]
config = tintype.Config.from_preset("nano", resolution=32)
for report in tintype.train(data, "unet-run", config, images=IMAGES, text="learned", net=UNet):
    if report.images_seen % 1600 == 0 or report.validation:
        print(f"{report.images_seen:,} images: loss {report.loss:.4f}")

pipeline = tintype.Pipeline.load("unet-run", net=UNet)
print(f"{sum(weight.numel() for weight in pipeline.denoiser.net.parameters()):,} weights in the network")
pipeline.generate("a red circle")[0].resize((256, 256)).save("unet.png")
print("unet.png: a red circle")
