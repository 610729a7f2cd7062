"""Avoidance of copies while sampling: predictions that come too near to one training picture are moved away from it.

Guidance away from the nearest training picture (Chen, Liu and Xu 2024, arXiv 2404.00922, eq. 12) adds a gradient to the
prediction. It recolors a picture that a model knows by heart and leaves ghosts in it (dev/LOG.md), since the network
returns to the picture at each step. Here a prediction is moved along directions in which pictures may vary and stay
pictures: it is shifted, turned and scaled, by the least of a few random moves that takes it far enough. The network
goes on from there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tintype.copies.index import PictureIndex
from tintype.diffusion.noise import Purpose, normal

NUM_MOVES = 8  # random moves that compete
ZOOM, TURN = 1.7, 0.4  # most typical displacement at the border by scaling and by turning, in units of the shift
SIZES = tuple(0.01 * 1.3**power for power in range(14))  # of a move: root mean square displacement, share of the side


class CopyAvoidance:
    """Steers the pictures of one request; a callable that takes the predictions of one step after another.

    A prediction whose relative distance to the nearest training picture is at most `limit` is a copy in the making. The
    least of the random moves that takes it to `target` is applied to it. All others stay as they are, to the last bit.
    The last step is judged as finished pictures are, in all views.

    Args:
        index: the training pictures.
        limit: relative distance at or below which a picture is a copy.
        target: relative distance to move to, above the limit.
        seeds, indices: [B] int64, those of the pictures; their moves are drawn from them.
        last_sigma: noise level of the last step.

    Attributes:
        turned: bool [B], which pictures were moved in a step so far.
    """

    def __init__(
        self, index: PictureIndex, limit: float, target: float, seeds: Tensor, indices: Tensor, last_sigma: float
    ) -> None:
        self._index, self._limit, self._target = index, limit, max(target, limit)
        self._draws = normal(seeds, Purpose.TURN, indices, (NUM_MOVES, 4))
        self._last_sigma = last_sigma
        self.turned = torch.zeros(len(indices), dtype=torch.bool)

    @torch.no_grad()
    def __call__(self, sigma: Tensor, denoised: Tensor) -> Tensor:
        """denoised [B, 3, H, W] in [-1, 1] at noise levels sigma [B] -> the same, with copies in the making moved."""
        moved: list[Tensor] = []
        for row in range(len(denoised)):  # alone, so that a picture does not depend on the others of its batch
            picture = denoised[row : row + 1]
            exact = float(sigma[row]) <= self._last_sigma * (1 + 1e-6)
            if float(self._relative(picture, exact)) > self._limit:
                moved.append(picture)
            else:
                self.turned[row] = True
                moved.append(self._moved(picture, self._draws[row], exact))
        return torch.cat(moved) if bool(self.turned.any()) else denoised

    def _relative(self, pictures: Tensor, exact: bool) -> Tensor:
        """Relative distances [Q] of pictures [Q, 3, H, W]: of their plain view, or exactly as those of an alarm."""
        pixels = (pictures.float().cpu() + 1) * 127.5
        if exact:
            return self._index.nearest(pixels.round().clamp(0, 255).to(torch.uint8)).relative
        return self._index.plain_relative(pixels)

    def _moved(self, picture: Tensor, draws: Tensor, exact: bool) -> Tensor:
        """The picture [1, 3, H, W] under the least move that takes it to the target, or the farthest of all."""
        field = displacements(draws, picture.shape[-2], picture.shape[-1])
        low, high = 0, len(SIZES) - 1  # the largest is taken whether it suffices or not
        while True:
            middle = (low + high) // 2
            candidates = displaced(picture, SIZES[middle] * field)
            relative = self._relative(candidates, exact)
            if low == high:
                best = int(relative.argmax())
                return candidates[best : best + 1]
            low, high = (low, middle) if float(relative.max()) >= self._target else (middle + 1, high)


def displacements(draws: Tensor, height: int, width: int) -> Tensor:
    """Displacements right and down [M, 2, H, W], of mean square 1, from draws [M, 4] of shifts, scale and turn."""
    down = ((torch.arange(height) + 0.5) / height * 2 - 1)[:, None].expand(height, width)
    right = ((torch.arange(width) + 0.5) / width * 2 - 1).expand(height, width)
    shift_right, scale, shift_down, turn = (draws[:, column, None, None] for column in range(4))
    scale, turn = ZOOM * scale, TURN * turn
    field = torch.stack([shift_right + scale * right - turn * down, shift_down + scale * down + turn * right], dim=1)
    return field / field.square().mean((1, 2, 3), keepdim=True).sqrt()


def displaced(picture: Tensor, by: Tensor) -> Tensor:
    """A picture [1, C, H, W] M times, each pixel taken from a place that lies `by` [M, 2, H, W] shares of the side off.

    Beyond the border the picture is mirrored.
    """
    height, width = by.shape[-2:]
    down, right = torch.meshgrid(
        (torch.arange(height) + 0.5) / height * 2 - 1, (torch.arange(width) + 0.5) / width * 2 - 1, indexing="ij"
    )
    places = torch.stack([right, down], dim=-1) + 2 * by.permute(0, 2, 3, 1)
    source = picture.float().expand(len(by), -1, -1, -1)
    return F.grid_sample(source, places.to(source.device), "bicubic", "reflection", align_corners=False).to(picture)
