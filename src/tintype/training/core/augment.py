"""Augmentation: pictures mirrored, moved, of another size or in other colors, each change told to the network.

The numbers that describe the changes are a condition of the network, all zero when it samples: then it draws pictures
as they were, however strongly they are changed in training (Karras et al. 2022, arXiv 2206.00364, appendix F.2).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tintype.config import TrainConfig
from tintype.diffusion.noise import Purpose, uniform

MAX_SHIFT = 0.125  # of the side
MAX_LOG_SCALE = 0.25  # of the size
MAX_BRIGHTNESS = 25.0  # of 255, added
MAX_LOG_CONTRAST = 0.25  # of the distance from the mean color
MAX_LOG_SATURATION = 0.5  # of the distance from gray
MIRROR, SHIFT_X, SHIFT_Y, SCALE, BRIGHTNESS, CONTRAST, SATURATION = range(7)
NUM_LABELS = 7
_MIRRORED = 0.5  # share of the pictures whose captions allow it


def labels_at(train: TrainConfig, positions: Tensor, mirrorable: Tensor) -> Tensor:
    """Draw how the pictures at `positions` [B] are changed: [B, NUM_LABELS] float32 in [-1, 1], 0 for no change.

    A share `train.augment` is moved, such a share has another size, and such a share other colors, independently. Half
    of those whose caption allows it are mirrored. mirrorable: bool [B].
    """
    drawn = uniform(train.seed, Purpose.AUGMENT, positions, 4 + NUM_LABELS - 1).float()
    mirrored, moved, scaled, colored = drawn[:, :4].unbind(1)
    change = torch.stack([moved, moved, scaled, colored, colored, colored], 1) < train.augment
    mirror = (mirrored < _MIRRORED) & mirrorable.to(drawn.device)
    return torch.cat([mirror[:, None].float(), change * (2 * drawn[:, 4:] - 1)], 1)


def augmented(pictures: Tensor, labels: Tensor) -> Tensor:
    """Pictures uint8 [B, 3, H, W], changed as labels [B, NUM_LABELS] tell."""
    mirrored = (labels[:, MIRROR] > 0)[:, None, None, None]
    pictures = torch.where(mirrored, pictures.flip(-1), pictures)
    for columns, change in (([SHIFT_X, SHIFT_Y, SCALE], _moved), ([BRIGHTNESS, CONTRAST, SATURATION], _colored)):
        rows = (labels[:, columns] != 0).any(1).nonzero()[:, 0]
        if len(rows):
            changed = change(pictures[rows].float(), labels[rows]).round().clamp(0, 255).to(torch.uint8)
            pictures = pictures.index_copy(0, rows, changed)
    return pictures


def _moved(pictures: Tensor, labels: Tensor) -> Tensor:
    """Each picture moved and scaled about its center; what comes in from outside is its mirror image."""
    inverse = torch.exp(-MAX_LOG_SCALE * labels[:, SCALE])
    zero = torch.zeros_like(inverse)
    right, down = (2 * MAX_SHIFT * labels[:, [SHIFT_X, SHIFT_Y]] * inverse[:, None]).unbind(1)
    rows = torch.stack([inverse, zero, -right], 1), torch.stack([zero, inverse, -down], 1)
    grid = F.affine_grid(torch.stack(rows, 1), list(pictures.shape), align_corners=False)
    moved: Tensor = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    return moved


def _colored(pictures: Tensor, labels: Tensor) -> Tensor:
    """Each picture brighter or darker, with more or less contrast and saturation."""
    brightness, contrast, saturation = labels[:, [BRIGHTNESS, CONTRAST, SATURATION]].T[:, :, None, None, None]
    gray = pictures.mean(1, keepdim=True)
    pictures = gray + (pictures - gray) * torch.exp(MAX_LOG_SATURATION * saturation)
    mean = pictures.mean((1, 2, 3), keepdim=True)
    colored: Tensor = mean + (pictures - mean) * torch.exp(MAX_LOG_CONTRAST * contrast) + MAX_BRIGHTNESS * brightness
    return colored
