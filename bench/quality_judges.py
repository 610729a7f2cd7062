"""Judges of pictures for bench/quality.py: of what a caption names, of sharpness, of a mesh."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MIN_TRAINING = 10  # pictures of a kind, or nobody can learn to recognize it
SMALL_SIDE = 64  # pixels of the pictures that the small network sees
EPOCHS = 40  # of the small network
SMALL_BATCH = 64
DECAYS = (0.003, 0.03, 0.3, 3.0)  # weight decay of the linear judge, chosen on a fifth of its training pictures
COLORS = "black blue brown gray green orange pink purple red white yellow".split()
ARTICLE = r"(?:a pair of |an? |the )?"
CAPTION = re.compile(
    rf"{ARTICLE}(?:photo|picture|watercolor|drawing) of {ARTICLE}(?:child's )?(?:pair of )?"
    rf"(?:(?P<color>{'|'.join(COLORS)}) )?(?P<kind>[\w' -]+?)(?: on .*| in .*)?"
)


class Subject(NamedTuple):
    """What a caption names."""

    kind: str
    color: str = ""


def subject_of(caption: str) -> Subject | None:
    """Kind and color in captions such as "a photo of a red tulip"; None for other captions."""
    match = CAPTION.fullmatch(caption.strip())
    return Subject(match["kind"], match["color"] or "") if match else None


def labels_of(subjects: Sequence[Subject | None], training: Sequence[int]) -> tuple[list[str], list[int]]:
    """The kinds that enough training pictures have, and the label of each subject; -1: none of them."""
    counts = Counter(subject.kind for index in training if (subject := subjects[index]) is not None)
    kinds = sorted(kind for kind, num in counts.items() if num >= MIN_TRAINING)
    index = {kind: number for number, kind in enumerate(kinds)}
    return kinds, [-1 if subject is None else index.get(subject.kind, -1) for subject in subjects]


class LinearJudge:
    """Logistic regression on fixed features [N, D], standardized; its decay is chosen on pictures left out."""

    def __init__(self, features: Tensor, labels: Tensor, num_kinds: int) -> None:
        self._mean, self._scale = features.mean(0), features.std(0).clamp(min=1e-6)
        x = self._standardized(features)
        left_out = torch.arange(len(x)) % 5 == 0
        accuracies = []
        for decay in DECAYS:
            weights = self._fit(x[~left_out], labels[~left_out], num_kinds, decay)
            accuracies.append(float((self._logits(x[left_out], weights).argmax(1) == labels[left_out]).float().mean()))
        self._weights = self._fit(x, labels, num_kinds, DECAYS[accuracies.index(max(accuracies))])

    def __call__(self, features: Tensor) -> Tensor:
        """The most probable label of each picture: int64 [N]."""
        return self._logits(self._standardized(features), self._weights).argmax(1)

    def _standardized(self, features: Tensor) -> Tensor:
        return (features - self._mean) / self._scale / math.sqrt(features.shape[1])

    @staticmethod
    def _logits(x: Tensor, weights: Tensor) -> Tensor:
        return x @ weights[:-1] + weights[-1]

    def _fit(self, x: Tensor, labels: Tensor, num_kinds: int, decay: float) -> Tensor:
        weights = torch.zeros(x.shape[1] + 1, num_kinds, requires_grad=True)
        optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            penalty = decay * weights[:-1].square().sum() / len(x)
            total: Tensor = F.cross_entropy(self._logits(x, weights), labels) + penalty
            total.backward()  # type: ignore[no-untyped-call]
            return total

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        return weights.detach()


class SmallNetworkJudge:
    """A convolution network trained from scratch on the same pictures: it shares no features with `LinearJudge`."""

    def __init__(self, pictures: Tensor, labels: Tensor, num_kinds: int, seed: int = 0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._network = _small_network(num_kinds)
            self._train(_small(pictures), labels)

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """The most probable label of each picture uint8 [N, 3, H, W]: int64 [N]."""
        return torch.cat([self._network(part).argmax(1) for part in _small(pictures).split(256)])

    def _train(self, x: Tensor, labels: Tensor) -> None:
        steps = EPOCHS * max(1, len(x) // SMALL_BATCH)
        optimizer = torch.optim.AdamW(self._network.parameters(), lr=2e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
        self._network.train()
        for _ in range(steps):
            rows = torch.randint(len(x), (SMALL_BATCH,))
            loss = F.cross_entropy(self._network(_varied(x[rows])), labels[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        self._network.eval()


def _small(pictures: Tensor) -> Tensor:
    size = (SMALL_SIDE, SMALL_SIDE)
    parts = [F.interpolate(part.float(), size=size, mode="area") for part in pictures.split(256)]
    return torch.cat(parts) / 127.5 - 1


def _varied(x: Tensor) -> Tensor:
    """The batch mirrored or not, moved, brighter or darker, each picture in its own way."""
    num = len(x)
    scale = torch.empty(num).uniform_(0.8, 1.1)
    mirror = torch.where(torch.rand(num) < 0.5, -1.0, 1.0)
    shift = torch.empty(num, 2).uniform_(-0.12, 0.12)
    zero = torch.zeros(num)
    rows = [torch.stack([scale * mirror, zero, shift[:, 0]], 1), torch.stack([zero, scale, shift[:, 1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    gain, offset = torch.empty(2, num, 1, 1, 1).uniform_(-0.15, 0.15)
    return moved * (1 + gain) + offset


def _small_network(num_kinds: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for width in (32, 64, 128, 128):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(channels, num_kinds)
    )


class Spectrum(NamedTuple):
    """Radial power spectrum of brightness, in bands of equal width up to the highest frequency."""

    power: Tensor  # [BANDS] float64
    mesh: float  # power at the frequencies of patches, relative to that of their neighbors


BANDS = 16


def spectrum(pictures: Sequence[Tensor], patch: int) -> Spectrum:
    """The mean spectrum of uint8 pictures [N, 3, H, W] in groups of one size.

    Each group is cut to multiples of the patch, has its mean removed and fades out towards its borders. `mesh`
    compares the power on the two axes at multiples of the frequency 1 / patch with that on both sides of them.
    """
    power, lines, beside = torch.zeros(BANDS, dtype=torch.float64), 0.0, 0.0
    total = 0
    for group in pictures:
        height, width = (size // patch * patch for size in group.shape[-2:])
        x = group[..., :height, :width].double().mean(1) / 127.5
        window = torch.hann_window(height, dtype=torch.float64)[:, None] * torch.hann_window(width, dtype=torch.float64)
        x = (x - x.mean((1, 2), keepdim=True)) * window
        energy = torch.fft.fft2(x, norm="ortho").abs().square().sum(0) / window.square().mean()
        row, column = torch.fft.fftfreq(height).abs(), torch.fft.fftfreq(width).abs()
        radius = torch.hypot(row[:, None], column[None])
        band = (radius / 0.5 * BANDS).long()
        for index in range(BANDS):
            power[index] += energy[band == index].mean()
        on, off = _axes(energy, patch)
        lines, beside, total = lines + on, beside + off, total + len(group)
    return Spectrum(power / max(1, total), lines / max(beside, 1e-12))


def _axes(energy: Tensor, patch: int) -> tuple[float, float]:
    """Power at the frequencies k / patch on both axes, and the mean of that at three to five places beside each."""
    on = off = 0.0
    for axis in (energy[:, 0], energy[0]):
        step = len(axis) // patch
        for k in range(1, patch // 2):
            on += float(axis[k * step])
            near = [k * step + sign * offset for offset in (3, 4) for sign in (-1, 1)]
            off += float(axis[near].mean())
    return on, off
