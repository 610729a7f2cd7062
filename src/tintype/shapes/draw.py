"""Drawings of scenes: unambiguous positions and sizes, antialiased outlines.

Lengths are in units of 1/32 of the picture's side, one pixel of a picture with 32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from tintype.shapes.scenes import BACKGROUNDS, COLORS, RGB, ObjectSpec, Scene, pick

Point = tuple[float, float]

SIDE = 32.0  # of every picture, in units
GAP = 2.0  # minimum background between two objects
MARGIN = 0.75  # minimum background between an object and the edge
JITTER = 1.0  # maximum random offset of an object from its anchor, in x and y
SUPERSAMPLE = 8  # pictures are drawn this many times larger, then averaged down

# Radius of an object by size word, alone and among others. Small ends well below 4.6 and large begins well above 5.85.
RADIUS_ALONE = {"small": (3.9, 4.2), None: (5.6, 6.2), "large": (7.8, 8.4)}
RADIUS_AMONG_OTHERS = {"small": (3.9, 4.1), None: (5.0, 5.4), "large": (6.3, 6.5)}


def _star() -> tuple[Point, ...]:
    angles = [math.radians(-90 + 36 * k) for k in range(10)]
    radii = [1.12 if k % 2 == 0 else 0.50 for k in range(10)]
    return tuple((r * math.cos(a), r * math.sin(a) + 0.10) for r, a in zip(radii, angles, strict=True))


def _circle() -> tuple[Point, ...]:
    return tuple((math.cos(math.tau * k / 72), math.sin(math.tau * k / 72)) for k in range(72))


# Outlines of radius about 1 with y downward, their bounding boxes centered on the origin.
_ARM = 0.34
OUTLINES: dict[str, tuple[Point, ...]] = {
    "circle": _circle(),
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "triangle": ((0.0, -0.95), (1.06, 0.95), (-1.06, 0.95)),
    "star": _star(),
    "cross": (
        (-_ARM, -1.0), (_ARM, -1.0), (_ARM, -_ARM), (1.0, -_ARM), (1.0, _ARM), (_ARM, _ARM),
        (_ARM, 1.0), (-_ARM, 1.0), (-_ARM, _ARM), (-1.0, _ARM), (-1.0, -_ARM), (-_ARM, -_ARM),
    ),
}  # fmt: skip
HALF_EXTENT: dict[str, Point] = {
    shape: (max(abs(x) for x, _ in outline), max(abs(y) for _, y in outline)) for shape, outline in OUTLINES.items()
}


class PlacedObject(NamedTuple):
    """An object with its position and size: center and radius, in units."""

    spec: ObjectSpec
    x: float
    y: float
    radius: float


def _anchors(scene: Scene) -> list[Point]:
    """The positions of the objects of a scene before `JITTER`."""
    near, middle, far = 0.26 * SIDE, 0.5 * SIDE, 0.74 * SIDE
    if scene.relation:
        pair = (
            [(near, middle), (far, middle)] if scene.relation in ("left", "right") else [(middle, near), (middle, far)]
        )
        return pair if scene.relation in ("left", "above") else pair[::-1]
    if scene.count == 3:
        return [(middle, near), (near, far), (far, far)]
    return [(near, middle), (far, middle)] if scene.count == 2 else [(middle, middle)]


def place_objects(scene: Scene, rng: np.random.Generator) -> list[PlacedObject]:
    """Place a scene's objects near their anchors, `GAP` apart, with unambiguous relations and the specified sizes."""
    radii = RADIUS_ALONE if scene.kind == "single" else RADIUS_AMONG_OTHERS
    specs = scene.objects
    if scene.kind == "count":  # identical objects have the same size
        low, high = radii[scene.specs[0].size]
        radius = np.full(len(specs), low + (high - low) * rng.random())
    else:
        radius = np.array([radii[spec.size][0] + np.ptp(radii[spec.size]) * rng.random() for spec in specs])
    half = radius[:, None] * np.array([HALF_EXTENT[spec.shape] for spec in specs])
    low_corner = half + MARGIN
    anchors = np.array(_anchors(scene))
    while True:  # 256 candidates per round; a second round is rare
        centers = anchors + JITTER * (2 * rng.random((256, len(specs), 2)) - 1)
        centers = np.clip(centers, low_corner, SIDE - low_corner)
        good = np.flatnonzero(_is_clear(centers, half, scene))
        if len(good):
            places = zip(specs, centers[good[0]].tolist(), radius.tolist(), strict=True)
            return [PlacedObject(spec, x, y, r) for spec, (x, y), r in places]


def _is_clear(centers: np.ndarray, half: np.ndarray, scene: Scene) -> np.ndarray:
    """Which candidates [N, objects, 2] keep all objects apart and the relation unambiguous: bool [N]."""
    clear = np.ones(len(centers), dtype=bool)
    if scene.relation:
        first, second = (0, 1) if scene.relation in ("left", "above") else (1, 0)
        offset = centers[:, second] - centers[:, first]
        along, across = (0, 1) if scene.relation in ("left", "right") else (1, 0)
        apart = offset[:, along] >= half[0, along] + half[1, along] + GAP
        return np.asarray(apart & (offset[:, along] >= 2 * np.abs(offset[:, across])))
    for i in range(len(half)):
        for j in range(i):
            distance = np.abs(centers[:, i] - centers[:, j])
            clear &= (distance >= half[i] + half[j] + GAP).any(axis=1)
    return clear


def draw(scene: Scene, size: int, rng: np.random.Generator) -> Image.Image:
    """An antialiased RGB picture of the scene, `size` pixels square, everything unspecified drawn from `rng`."""
    background = scene.background or pick(rng, tuple(BACKGROUNDS))
    return render(place_objects(scene, rng), BACKGROUNDS[background], size)


def render(placed: Sequence[PlacedObject], background: RGB, size: int) -> Image.Image:
    """Placed objects on a plain background, as an RGB picture `size` pixels square."""
    scale = size * SUPERSAMPLE / SIDE
    canvas = Image.new("RGB", (size * SUPERSAMPLE, size * SUPERSAMPLE), background)
    pen = ImageDraw.Draw(canvas)
    for spec, x, y, radius in placed:
        pen.polygon(outline_at(spec.shape, x * scale, y * scale, radius * scale), fill=COLORS[spec.color])
    return canvas.reduce(SUPERSAMPLE)


def outline_at(shape: str, x: float, y: float, radius: float) -> list[Point]:
    """The corners of a shape for Pillow; center and radius are in pixels of the canvas."""
    # Pillow's coordinates start at the center of the first pixel.
    return [(x + radius * u - 0.5, y + radius * v - 0.5) for u, v in OUTLINES[shape]]
