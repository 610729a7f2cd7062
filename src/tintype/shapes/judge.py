"""The judge of shapes pictures: it detects the objects in a picture and compares their attributes with a scene.

The background is the median color of the border. An object is a connected patch that contrasts with it; its color is
the nearest of the palette, its shape that of the best-fitting template, its size that of the template. Colors are
compared by distance in RGB (0..255). Lengths are in units of 1/32 of the picture's side, as in `draw`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tintype.shapes.draw import OUTLINES, SIDE, SUPERSAMPLE, outline_at
from tintype.shapes.scenes import BACKGROUNDS, COLORS, RGB, SHAPES, ObjectSpec, Scene

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

ANALYSIS_SIDE = 64  # pixels; larger pictures are averaged down to this side
MIN_CONTRAST = 36.0  # a pixel nearer than this to the background color is background
BACKGROUND_TOLERANCE = 38.0  # maximum distance from a background color; half the distance from white to cream
COLOR_TOLERANCE = 75.0  # maximum distance from an object color
OFF_COLOR = 55.0  # a pixel this far from all mixtures of patch color and background has a third color
MAX_OFF_COLOR = 0.15  # maximum share of such pixels in a patch of one color
SPECK = 6.0  # square units; smaller patches are specks, not objects (the smallest star has 25)
GRAIN = 2.0  # square units; smaller specks are ignored
MAX_SPECKS = 12.0  # square units; maximum total of larger specks in a clean picture
MAX_OBJECTS = 8  # patches to detect objects in, the largest first
SOFTEN = (
    0.6,
    0.95,
)  # Gaussian blur in units: the first for the patch, both for the template
STEEPEN = 1.5  # contrast factor of coverage about one half after the blur, against noise inside and outside
MIN_FIT = {"circle": 0.88, "square": 0.86, "triangle": 0.84, "star": 0.83, "cross": 0.82}  # true drawings: 0.92 or more
SMALL_BELOW = 4.7  # radius of a small object, in units
LARGE_ABOVE = {"single": 6.5, "count": 5.9, "relation": 5.9}  # radius of a large object, by the kind of scene


@dataclass(frozen=True, slots=True)
class Verdict:
    """The attributes of a scene that a picture has right; None for unspecified ones."""

    count: bool
    shapes: bool
    colors: bool
    sizes: bool | None
    relation: bool | None
    background: bool | None

    @property
    def all(self) -> bool:
        """Whether all specified attributes are right."""
        return False not in (self.count, self.shapes, self.colors, self.sizes, self.relation, self.background)


class DetectedObject(NamedTuple):
    """An object in a picture; None for a color or shape outside the shapes world."""

    color: str | None
    shape: str | None
    x: float  # of its center, in units, like the radius
    y: float
    radius: float  # 0 where a patch has the color of its surroundings
    fit: float  # intersection over union of patch and template, at most 1


class ParsedPicture(NamedTuple):
    """The background and objects of a picture."""

    background: str | None
    objects: list[DetectedObject]  # the largest first, at most `MAX_OBJECTS`
    clean: bool  # whether there are few specks


def check_picture(picture: Image.Image | NDArray[np.uint8], scene: Scene) -> Verdict:
    """Judge each attribute of a scene in a square picture (Pillow, or uint8 [3, S, S]).

    Raises ValueError for a picture that is not square, or smaller than 16 pixels.
    """
    view = parse_picture(picture)
    count = view.clean and len(view.objects) == scene.count
    background = None if scene.background is None else view.background == scene.background
    if scene.relation is None:
        pairs = [(scene.specs[0], detected) for detected in view.objects]
        relation = None
    else:
        matches = _best_matches(scene.specs, view.objects)
        pairs = matches[0] if matches else []
        # Objects that cannot be distinguished have no relation, and neither has a missing object.
        all_present = all(spec.color == detected.color or spec.shape == detected.shape for spec, detected in pairs)
        relation = bool(matches) and all_present and all(_is_related(match, scene.relation) for match in matches)
    sizes = [_has_size(spec.size, detected, scene.kind) for spec, detected in pairs if spec.size]
    return Verdict(
        count=count,
        shapes=bool(pairs) and all(spec.shape == detected.shape for spec, detected in pairs),
        colors=bool(pairs) and all(spec.color == detected.color for spec, detected in pairs),
        sizes=bool(pairs) and all(sizes) if any(spec.size for spec in scene.specs) else None,
        relation=relation,
        background=background,
    )


def parse_picture(picture: Image.Image | NDArray[np.uint8]) -> ParsedPicture:
    """Detect background and objects of a square picture (Pillow, or uint8 [3, S, S]); ValueError as `check_picture`."""
    pixels = _pixels(picture)
    unit = len(pixels) / SIDE
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    background = np.median(border, axis=0)
    contrast = np.linalg.norm(pixels - background, axis=-1)
    # Pixels that are half covered or more, so that soft edges do not join neighbors.
    labels = _connected_patches((contrast > MIN_CONTRAST) & (contrast > 0.5 * _dilate(contrast, max(1, round(unit)))))
    areas = np.bincount(labels.ravel()) / unit**2
    areas[0] = 0.0  # the background's
    clean = float(areas[(areas >= GRAIN) & (areas < SPECK)].sum()) <= MAX_SPECKS
    labels = np.where(areas[labels] < SPECK, 0, labels)
    largest = [int(label) for label in np.argsort(-areas, kind="stable")[:MAX_OBJECTS] if areas[label] >= SPECK]
    objects = [_detect(pixels, background, contrast, labels, label, unit) for label in largest]
    return ParsedPicture(_nearest(background, BACKGROUNDS, BACKGROUND_TOLERANCE), objects, clean)


# --- from a scene to a verdict --------------------------------------------------------------------------------------


def _best_matches(
    specs: tuple[ObjectSpec, ...], objects: list[DetectedObject]
) -> list[list[tuple[ObjectSpec, DetectedObject]]]:
    """The assignments of objects to specs with the most colors and shapes right, those with more sizes right first."""
    matches = [list(zip(specs, candidates, strict=True)) for candidates in permutations(objects, len(specs))]
    right = [
        sum((spec.color == detected.color) + (spec.shape == detected.shape) for spec, detected in match)
        for match in matches
    ]
    best = [match for match, score in zip(matches, right, strict=True) if score == max(right)]
    return sorted(
        best, key=lambda match: -sum(_has_size(t.size, detected, "relation") for t, detected in match if t.size)
    )


def _has_size(size: str | None, detected: DetectedObject, kind: str) -> bool:
    return detected.radius < SMALL_BELOW if size == "small" else detected.radius > LARGE_ABOVE[kind]


def _is_related(match: list[tuple[ObjectSpec, DetectedObject]], relation: str) -> bool:
    (_, first), (_, second) = match
    right, down = second.x - first.x, second.y - first.y
    along, across = (right, down) if relation in ("left", "right") else (down, right)
    return (along if relation in ("left", "above") else -along) > abs(across)


# --- from a picture to objects --------------------------------------------------------------------------------------


def _pixels(picture: Image.Image | NDArray[np.uint8]) -> Floats:
    """Float64 [S, S, 3] in 0..255, S at most `ANALYSIS_SIDE`."""
    if not isinstance(picture, Image.Image):
        if picture.ndim != 3 or picture.shape[0] != 3 or picture.dtype != np.uint8:
            raise ValueError(f"a picture must be uint8 [3, S, S], not {picture.dtype} {list(picture.shape)}")
        picture = Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0)))
    if picture.width != picture.height or picture.width < 16:
        raise ValueError(f"a picture must be square, 16 pixels or more, not {picture.width} x {picture.height}")
    picture = picture.convert("RGB")
    if picture.width > ANALYSIS_SIDE:
        picture = picture.resize((ANALYSIS_SIDE, ANALYSIS_SIDE), Image.Resampling.BOX)
    return np.asarray(picture, dtype=np.float64)


def _dilate(values: NDArray[Any], reach: int) -> NDArray[Any]:
    """Morphological dilation: the maximum over a square that extends `reach` pixels to each side."""
    for _ in range(reach):
        for _ in range(2):  # rows, then columns
            dilated = values.copy()
            np.maximum(dilated[1:], values[:-1], out=dilated[1:])
            np.maximum(dilated[:-1], values[1:], out=dilated[:-1])
            values = dilated.T
    return values


def _connected_patches(mask: NDArray[np.bool_]) -> Labels:
    """Label 4-connected components of a mask: 1, 2, ...; 0 elsewhere."""
    side = mask.shape[1] + 2  # a frame of background makes checks of the picture's edge unnecessary
    unlabeled = np.pad(mask, 1).ravel().tolist()
    labels = np.zeros(len(unlabeled), dtype=np.int64)
    num = 0
    for start in np.flatnonzero(unlabeled).tolist():
        if not unlabeled[start]:
            continue
        num += 1
        unlabeled[start] = False
        patch = [start]
        for pixel_index in patch:  # grows while it is read
            for neighbor in (pixel_index - 1, pixel_index + 1, pixel_index - side, pixel_index + side):
                if unlabeled[neighbor]:
                    unlabeled[neighbor] = False
                    patch.append(neighbor)
        labels[patch] = num
    return labels.reshape(-1, side)[1:-1, 1:-1]


def _nearest(color: Floats, names: Mapping[str, RGB], tolerance: float) -> str | None:
    distances = {name: math.dist(color, rgb) for name, rgb in names.items()}
    name = min(distances, key=lambda n: distances[n])
    return name if distances[name] <= tolerance else None


def _detect(
    pixels: Floats, background: Floats, contrast: Floats, labels: Labels, label: int, unit: float
) -> DetectedObject:
    """Color, shape, position and size of one patch."""
    patch = labels == label
    inside = patch & (contrast >= 0.85 * np.quantile(contrast[patch], 0.8))
    color = np.median(pixels[inside], axis=0)
    pixel = max(1, round(unit))
    ring = _dilate(patch, 4 * pixel) & ~_dilate(labels > 0, 2 * pixel)
    surroundings = np.median(pixels[ring], axis=0) if ring.sum() > 8 else background  # uneven in soft pictures
    # Coverage of each pixel by the object: least squares on the line from the surrounding color to the object's.
    line = color - surroundings
    if not line.any():  # the patch is a gap in a speckled background: no object
        rows, columns = np.nonzero(patch)
        return DetectedObject(None, None, (columns.mean() + 0.5) / unit, (rows.mean() + 0.5) / unit, 0.0, 0.0)
    coverage = (pixels - surroundings) @ line / (line @ line)
    off_line = np.linalg.norm(pixels - surroundings - coverage[..., None] * line, axis=-1)
    is_one_color = float(np.mean(off_line[patch] > OFF_COLOR)) <= MAX_OFF_COLOR
    region = _dilate(patch, 2 * pixel) & (patch | ~_dilate((labels > 0) & ~patch, pixel))
    # Compare only a window around the patch, with room for the templates.
    rows, columns = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    top, left = max(0, rows[0] - 3 * pixel), max(0, columns[0] - 3 * pixel)
    window = (slice(top, rows[-1] + 3 * pixel + 1), slice(left, columns[-1] + 3 * pixel + 1))
    window_coverage = np.where(region, coverage.clip(-0.25, 1.1), 0.0)[window]  # below 0, so that noise cancels
    fits = {shape: _fit(window_coverage, shape, unit) for shape in SHAPES}
    shape = max(fits, key=lambda name: fits[name].fit)
    fit, x, y, radius = fits[shape]
    return DetectedObject(
        color=_nearest(color, COLORS, COLOR_TOLERANCE) if is_one_color else None,
        shape=shape if fit >= MIN_FIT[shape] else None,
        x=(x + float(left)) / unit,
        y=(y + float(top)) / unit,
        radius=radius / unit,
        fit=fit,
    )


class _Fit(NamedTuple):
    """The fit of a template and its position, in pixels of the window."""

    fit: float
    x: float
    y: float
    radius: float


def _fit(coverage: Floats, shape: str, unit: float) -> _Fit:
    """Soft intersection over union of coverage [H, W] and a shape of the same area and center of mass."""
    height, width = coverage.shape
    total = max(1.0, float(coverage.sum()))
    area, center_x, center_y = _moments(shape)
    radius = math.sqrt(total / area)
    x = float(coverage.sum(axis=0) @ (np.arange(width) + 0.5)) / total - center_x * radius
    y = float(coverage.sum(axis=1) @ (np.arange(height) + 0.5)) / total - center_y * radius
    canvas = Image.new("L", (width * SUPERSAMPLE, height * SUPERSAMPLE))
    outline = outline_at(shape, x * SUPERSAMPLE, y * SUPERSAMPLE, radius * SUPERSAMPLE)
    ImageDraw.Draw(canvas).polygon(outline, fill=255)
    template = np.asarray(canvas.reduce(SUPERSAMPLE), dtype=np.float64) / 255
    soft = _soften(coverage, SOFTEN[0] * unit)
    soft_templates = [_soften(template, sigma * unit) for sigma in SOFTEN]
    fit = max(float(np.minimum(soft, drawn).sum() / np.maximum(soft, drawn).sum()) for drawn in soft_templates)
    return _Fit(fit, x, y, radius)


@cache
def _moments(shape: str) -> tuple[float, float, float]:
    """Area and center of mass (x, y) of a shape of radius 1, by Green's theorem."""
    x, y = np.array(OUTLINES[shape]).T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    cross = x * next_y - next_x * y
    area = float(cross.sum()) / 2
    center_x, center_y = (float(((a + b) * cross).sum()) / (6 * area) for a, b in ((x, next_x), (y, next_y)))
    return area, center_x, center_y


def _soften(coverage: Floats, sigma: float) -> Floats:
    """Coverage [H, W] after blur and steepening, in 0..1."""
    height, width = coverage.shape
    blurred = _gaussian(height, sigma) @ coverage @ _gaussian(width, sigma)
    return np.asarray(((blurred - 0.5) * STEEPEN + 0.5).clip(0.0, 1.0))


@cache
def _gaussian(num: int, sigma: float) -> Floats:
    """The symmetric matrix [num, num] of a Gaussian blur with zeros outside."""
    distance = np.arange(num) - np.arange(num)[:, None]
    weight = np.exp(-0.5 * (distance / sigma) ** 2)
    return np.asarray(weight / math.fsum(np.exp(-0.5 * (np.arange(-99, 100) / sigma) ** 2)))
