"""Draw ``shapes``, the bundled image set: ten shape classes with exact masks.

Every image is a function of its index alone, so a subset is a list of integers, nothing is stored and
nothing is downloaded. One object of one class lies on a smooth background among a few thin strokes. The
classes differ in local detail (a corner, a notch, a hole), so a model that loses the wrong tokens errs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BACKGROUND",
    "CLASS_NAMES",
    "IMAGE_SIZE",
    "MASK_CLASS_NAMES",
    "N_EVALUATION_IMAGES",
    "SHAPES_VERSION",
    "ShapeImage",
    "class_masks",
    "draw",
    "draw_batch",
    "label_of",
]

FloatImage = NDArray[np.float32]
Boundary = Callable[[FloatImage, FloatImage], FloatImage]

SHAPES_VERSION = 1  # part of every image's seed: a changed drawing is a changed data set
IMAGE_SIZE = 96  # px, square
N_EVALUATION_IMAGES = 50_000  # indices below this are never trained on
OBJECT_RADIUS = (18.0, 34.0)  # px, of the circle around the object
N_STROKES = (2, 5)
STROKE_LENGTH = (8.0, 26.0)  # px
STROKE_WIDTH = (1.0, 2.4)  # px
BACKGROUND_COLOUR = (0.10, 0.45)  # of 1, in each channel
OBJECT_COLOUR = (0.60, 1.00)  # always lighter than the background: colours drawn alike are learned far more slowly
NOISE = 0.03  # full width of the uniform pixel noise, of 1

_AXIS = np.arange(IMAGE_SIZE, dtype=np.float32) + np.float32(0.5)
_X, _Y = np.meshgrid(_AXIS, _AXIS)


@dataclass(frozen=True)
class ShapeImage:
    """One drawn image.

    Attributes:
        pixels: (96, 96, 3), uint8, RGB.
        mask: (96, 96), bool, true where the pixel's centre lies inside the object.
        label: class index, see ``CLASS_NAMES``.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    label: int


def label_of(index: int) -> int:
    """Name the class of image ``index`` without drawing it.

    >>> [CLASS_NAMES[label_of(index)] for index in (0, 1, 10)]
    ['circle', 'ring', 'circle']
    """
    return index % len(CLASS_NAMES)


def draw(index: int) -> ShapeImage:
    """Draw image ``index``.

    Args:
        index: at least 0. Evaluation uses 0 to ``N_EVALUATION_IMAGES`` - 1, training the rest.

    Raises:
        ValueError: ``index`` is negative.
    """
    if index < 0:
        raise ValueError(f"an image index must be at least 0, got {index}")
    # Only random() is drawn, of which numpy promises the same stream for a bit generator and seed.
    generator = np.random.Generator(np.random.PCG64([SHAPES_VERSION, index]))
    label = label_of(index)
    radius = _between(generator.random(), OBJECT_RADIUS)
    margin = radius + 1.0
    centre_x, centre_y = margin + generator.random(2) * (IMAGE_SIZE - 2 * margin)
    angle = 2 * np.pi * generator.random()

    background = _background(generator)
    _draw_strokes(background, generator)

    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    dx, dy = _X - np.float32(centre_x), _Y - np.float32(centre_y)
    scale = np.float32(1 / radius)
    depth = _SHAPES[CLASS_NAMES[label]]((cos * dx + sin * dy) * scale, (cos * dy - sin * dx) * scale)
    coverage = np.clip(depth * np.float32(radius) + np.float32(0.5), 0, 1)[..., None]

    shade = np.float32(0.10) * (generator.random() - 0.5) * (dx * scale)[..., None]
    object_colour = _colour(generator, OBJECT_COLOUR)
    pixels = background + coverage * (object_colour + shade.astype(np.float32) - background)
    pixels += (generator.random(pixels.shape, dtype=np.float32) - np.float32(0.5)) * np.float32(NOISE)
    return ShapeImage(
        pixels=np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8),
        mask=depth > 0,
        label=label,
    )


def draw_batch(indices: Iterable[int]) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64]]:
    """Draw several images.

    Returns:
        pixels (n, 96, 96, 3) uint8, masks (n, 96, 96) bool, labels (n,) int64.
    """
    images = [draw(index) for index in indices]
    return (
        np.stack([image.pixels for image in images]),
        np.stack([image.mask for image in images]),
        np.array([image.label for image in images], dtype=np.int64),
    )


def class_masks(masks: NDArray[np.bool_], labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Give each pixel the class of what it shows: the object's, or ``BACKGROUND``.

    >>> class_masks(np.array([[[True, False]]]), np.array([3])).tolist()
    [[[3, 10]]]

    Args:
        masks: (n, height, width).
        labels: (n,).

    Returns:
        (n, height, width), indices into ``MASK_CLASS_NAMES``.
    """
    return np.where(masks, labels[:, None, None], BACKGROUND).astype(np.uint8)


def _between(unit: float, bounds: tuple[float, float]) -> float:
    low, high = bounds
    return low + unit * (high - low)


def _background(generator: np.random.Generator) -> FloatImage:
    """Mix a base colour with three slow waves."""
    colour = _colour(generator, BACKGROUND_COLOUR)
    frequency_x, frequency_y = (generator.random((2, 3, 1)) - 0.5).astype(np.float32) * np.float32(0.1)
    phase = (2 * np.pi * generator.random((3, 1))).astype(np.float32)
    tint = ((generator.random((3, 3)) - 0.5) * 0.12).astype(np.float32)
    # cos(a + b) as two products of vectors: an image of cosines costs more than everything else here.
    x, y = frequency_x * _AXIS + phase, frequency_y * _AXIS  # each (3 waves, 96)
    along_x = np.concatenate([np.cos(x), -np.sin(x)])
    along_y = np.concatenate([np.cos(y), np.sin(y)])
    tinted = along_y.T[:, :, None] * np.concatenate([tint, tint])  # (96, 6, 3)
    waves = np.tensordot(tinted, along_x, axes=(1, 0))  # (96, 3, 96)
    background: FloatImage = colour + waves.transpose(0, 2, 1)
    return background


def _draw_strokes(image: FloatImage, generator: np.random.Generator) -> None:
    low, high = N_STROKES
    for _ in range(low + int(generator.random() * (high - low + 1))):
        x, y = generator.random(2) * IMAGE_SIZE
        angle = np.pi * generator.random()
        half_length = _between(generator.random(), STROKE_LENGTH) / 2
        half_width = _between(generator.random(), STROKE_WIDTH) / 2
        colour = generator.random(3).astype(np.float32)
        reach = half_length + half_width + 1
        rows = slice(max(0, int(y - reach)), int(y + reach) + 1)
        columns = slice(max(0, int(x - reach)), int(x + reach) + 1)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        dx, dy = _X[rows, columns] - np.float32(x), _Y[rows, columns] - np.float32(y)
        along = np.abs(cos * dx + sin * dy) - np.float32(half_length)
        across = np.abs(cos * dy - sin * dx) - np.float32(half_width)
        coverage = np.clip(np.float32(0.5) - np.maximum(along, across), 0, 1)[..., None]
        image[rows, columns] += coverage * (colour - image[rows, columns])


def _colour(generator: np.random.Generator, bounds: tuple[float, float]) -> FloatImage:
    low, high = bounds
    return (low + (high - low) * generator.random(3)).astype(np.float32)


# Each boundary maps coordinates, in which the object lies inside the unit circle, to a depth: positive
# inside, negative outside, and near the edge the distance to it.


def _disk(x: FloatImage, y: FloatImage, radius: float = 1.0) -> FloatImage:
    depth: FloatImage = np.float32(radius) - np.sqrt(x * x + y * y)
    return depth


def _polygon(n_sides: int) -> Boundary:
    apothem = np.float32(np.cos(np.pi / n_sides))
    angles = 2 * np.pi * np.arange(n_sides) / n_sides

    def depth(x: FloatImage, y: FloatImage) -> FloatImage:
        edges = [np.float32(np.cos(a)) * x + np.float32(np.sin(a)) * y for a in angles]
        inside: FloatImage = apothem - np.maximum.reduce(edges)
        return inside

    return depth


def _ring(x: FloatImage, y: FloatImage) -> FloatImage:
    return np.minimum(_disk(x, y), -_disk(x, y, 0.45))


def _crescent(x: FloatImage, y: FloatImage) -> FloatImage:
    return np.minimum(_disk(x, y), -_disk(x - np.float32(0.55), y, 0.75))


def _notched(x: FloatImage, y: FloatImage) -> FloatImage:
    """A disk that lacks a wedge of 70 degrees."""
    half_angle = np.deg2rad(35)
    wedge = np.float32(np.sin(half_angle)) * x - np.float32(np.cos(half_angle)) * np.abs(y)
    depth: FloatImage = np.minimum(_disk(x, y), -wedge)
    return depth


def _star(x: FloatImage, y: FloatImage) -> FloatImage:
    """Five points; the inner corners lie at 0.5 of the outer radius."""
    sector = np.float32(2 * np.pi / 5)
    radius = np.sqrt(x * x + y * y)
    angle = np.abs(np.mod(np.arctan2(y, x) + sector / 2, sector) - sector / 2)
    px, py = radius * np.cos(angle), radius * np.sin(angle)
    # The edge runs from the point at (1, 0) to the inner corner; its normal points outwards.
    edge_x, edge_y = 0.5 * np.cos(np.pi / 5) - 1, 0.5 * np.sin(np.pi / 5)
    length = np.hypot(edge_x, edge_y)
    depth = (np.float32(1.0) - px) * np.float32(edge_y / length) + py * np.float32(edge_x / length)
    return depth.astype(np.float32, copy=False)


def _cross(x: FloatImage, y: FloatImage) -> FloatImage:
    """Two bars of 0.56 by 1.92, whose ends lie on the unit circle."""
    wide, narrow = np.float32(0.96), np.float32(0.28)
    ax, ay = np.abs(x), np.abs(y)
    return np.maximum(np.minimum(wide - ax, narrow - ay), np.minimum(narrow - ax, wide - ay))


def _heart(x: FloatImage, y: FloatImage) -> FloatImage:
    """A square on its corner with a half disk on each upper side."""
    half = np.float32(0.52)
    u, v = (x + y) * np.float32(np.sqrt(0.5)), (y - x) * np.float32(np.sqrt(0.5))
    u, v = u - np.float32(0.17), v - np.float32(0.17)
    square = half - np.maximum(np.abs(u), np.abs(v))
    depth: FloatImage = np.maximum.reduce([square, _disk(u + half, v, 0.52), _disk(u, v + half, 0.52)])
    return depth


_SHAPES: dict[str, Boundary] = {
    "circle": _disk,
    "ring": _ring,
    "crescent": _crescent,
    "notched": _notched,
    "triangle": _polygon(3),
    "square": _polygon(4),
    "pentagon": _polygon(5),
    "star": _star,
    "cross": _cross,
    "heart": _heart,
}
CLASS_NAMES = tuple(_SHAPES)
BACKGROUND = len(CLASS_NAMES)
MASK_CLASS_NAMES = (*CLASS_NAMES, "background")
