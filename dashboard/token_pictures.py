"""Draw what becomes of an image's tokens: dropped ones are dark, merged ones share a colour."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spaces import InvalidInput

__all__ = ["BORDER", "DROPPED", "TokenImage", "borders", "draw_layer", "draw_owners", "hues", "pictures_of", "spread"]

DROPPED = 0.14  # how much of a dropped patch's brightness stays
BORDER = np.array([255, 255, 255], dtype=np.float32)
_TINT = 0.5  # of a merged patch
_GOLDEN_ANGLE = 0.61803398875  # successive hues as far apart as can be, however many there are


class TokenImage:
    """One image of a pictures job, as its result tells it.

    Attributes:
        name: of the image.
        truth: its class, ``None`` where it has no label.
        dense: the dense model's class.
        chosen: the pruned model's class.
        layers: for each pruning layer its block, and which token then holds each patch; -1 for none.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.name: str = values["name"]
        self.truth: int | None = values["truth"]
        self.dense: int = values["dense"]
        self.chosen: int = values["chosen"]
        self.layers: Sequence[tuple[int, list[int]]] = [(layer["block"], layer["owners"]) for layer in values["layers"]]


def pictures_of(result: Mapping[str, Any]) -> tuple[list[TokenImage], tuple[int, int], Mapping[str, str]]:
    """Read the result of a pictures job: its images, the patch grid (rows, columns), and the names of classes."""
    rows, columns = result["grid"]
    return [TokenImage(values) for values in result["images"]], (rows, columns), result["classes"]


def draw_layer(result: Mapping[str, Any], content: bytes, image: int, layer: int) -> bytes:
    """Draw an image of a pictures job as its ``layer``-th pruning layer, from 1, leaves it; as PNG."""
    images, grid, _ = pictures_of(result)
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    _, owners = images[image].layers[layer - 1]
    drawn = io.BytesIO()
    Image.fromarray(draw_owners(pixels, np.array(owners), grid)).save(drawn, format="PNG")
    return drawn.getvalue()


def draw_owners(pixels: NDArray[np.uint8], owners: NDArray[np.int64], grid: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw over an image which token holds each of its patches.

    Args:
        pixels: (height, width, 3).
        owners: (n_patch,), by rows; -1 for patches whose token was dropped.
        grid: rows and columns of patches.

    Returns:
        (height, width, 3): dropped patches nearly black; patches that share a token in one colour, with a border
        where another token begins; a patch with a token of its own as it is.

    Raises:
        InvalidInput: the patches do not fill the grid, or the grid not the image.
    """
    height, width, _ = pixels.shape
    rows, columns = grid
    if owners.size != rows * columns or height % rows or width % columns:
        raise InvalidInput(f"{owners.size} patches do not fill a grid of {grid} on {height} x {width} pixels")
    shares = np.bincount(owners[owners >= 0], minlength=1)
    is_shared = (owners >= 0) & (shares[np.maximum(owners, 0)] > 1)
    strength = np.where(owners < 0, 1 - DROPPED, np.where(is_shared, _TINT, 0.0)).astype(np.float32)
    colours = np.where((owners < 0)[:, None], np.float32(0), hues(owners))
    side = (height // rows, width // columns)
    alpha = spread(strength, grid, side)[..., None]
    drawn = pixels * (1 - alpha) + np.stack([spread(c, grid, side) for c in colours.T], axis=-1) * alpha
    if is_shared.any():
        edges = borders(spread(owners, grid, side)) & spread(is_shared, grid, side)
        drawn[edges] = 0.35 * drawn[edges] + 0.65 * BORDER
    painted: NDArray[np.uint8] = drawn.round().astype(np.uint8)
    return painted


def hues(numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """Give each number a colour of its own: (n, 3), from 0 to 255."""
    hue = (np.maximum(numbers, 0) * _GOLDEN_ANGLE % 1)[:, None] * 6
    waves = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    colours: NDArray[np.float32] = (255 * (0.25 + 0.75 * waves)).astype(np.float32)
    return colours


def spread(values: NDArray[Any], grid: tuple[int, int], by: tuple[int, int]) -> NDArray[Any]:
    """Give each pixel, (height, width), what its patch of ``by`` pixels has."""
    return np.kron(values.reshape(grid), np.ones(by, dtype=values.dtype))


def borders(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the pixels, (height, width), to whose right or below another value begins."""
    edges = np.zeros(values.shape, dtype=bool)
    edges[:, :-1] |= values[:, :-1] != values[:, 1:]
    edges[:-1] |= values[:-1] != values[1:]
    return edges
