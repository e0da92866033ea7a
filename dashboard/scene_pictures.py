"""Draw what a segmenter makes of an image: a colour for each class, and patches the darker the earlier they left."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dashboard.token_pictures import BORDER, DROPPED, borders, hues, spread

__all__ = ["WAYS", "SceneImage", "draw_classes", "draw_scene", "draw_stages", "scenes_of"]

WAYS = ("truth", "dense", "pruned")  # the pictures behind the image itself, in their order; then where tokens left
_TINT = 0.55


class SceneImage:
    """One image of a pictures job of a segmenter, as its result tells it.

    Attributes:
        name: of the image.
        stage: for each patch the head that spoke last of it, counted from 0.
        right_pct: share of the pixels named right, by ``dense`` and ``pruned``; ``None`` where nothing counts.
        classes: that it shows, or that the pruned model finds.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.name: str = values["name"]
        self.stage: list[int] = values["stage"]
        self.right_pct: Mapping[str, float | None] = values["right_pct"]
        self.classes: list[int] = values["classes"]

    def n_left(self, stage: int) -> int:
        """Count the patches that left behind a head."""
        return self.stage.count(stage)


def scenes_of(result: Mapping[str, Any]) -> tuple[list[SceneImage], Sequence[int], Mapping[str, str]]:
    """Read the result of a segmenter's pictures job: images, blocks behind which heads graded, names of classes."""
    return [SceneImage(values) for values in result["images"]], result["after"], result["classes"]


def draw_scene(result: Mapping[str, Any], files: Mapping[str, bytes], image: int, layer: int) -> bytes:
    """Draw the ``layer``-th picture behind an image: of the ``WAYS``, then where its tokens left; as PNG.

    Args:
        result: of the job.
        files: ``image``, and each of the ``WAYS``.
        image: its number.
        layer: from 1 to one more than there are ``WAYS``.
    """
    pixels = np.asarray(_opened(files["image"]).convert("RGB"))
    if layer <= len(WAYS):
        drawn = draw_classes(pixels, np.asarray(_opened(files[WAYS[layer - 1]])).astype(np.int64) - 1)
    else:
        rows, columns = result["grid"]
        stage = np.array(result["images"][image]["stage"])
        drawn = draw_stages(pixels, stage, (rows, columns), n_graded=len(result["after"]))
    file = io.BytesIO()
    Image.fromarray(drawn).save(file, format="PNG")
    return file.getvalue()


def draw_classes(pixels: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Draw over an image what each pixel is said to show.

    Args:
        pixels: (height, width, 3).
        classes: (height, width); -1 for pixels that count for nothing, which become nearly black.

    Returns:
        (height, width, 3): a colour for each class, with a border between two.
    """
    alpha = np.where(classes < 0, 1 - DROPPED, _TINT)[..., None]
    colours = np.where((classes < 0)[..., None], 0.0, hues(classes.ravel()).reshape(*classes.shape, 3))
    return _bordered(pixels * (1 - alpha) + colours * alpha, classes)


def draw_stages(
    pixels: NDArray[np.uint8], stage: NDArray[np.int64], grid: tuple[int, int], *, n_graded: int
) -> NDArray[np.uint8]:
    """Draw over an image where its tokens left: the earlier, the darker.

    Args:
        pixels: (height, width, 3).
        stage: (n_patch,), by rows, from 0 to ``n_graded``: the head that spoke last of each patch.
        grid: rows and columns of patches.
        n_graded: heads that graded; patches of which the model's last head spoke stay as they are.

    Returns:
        (height, width, 3).
    """
    height, width, _ = pixels.shape
    rows, columns = grid
    of_pixels = spread(stage, grid, (height // rows, width // columns))
    brightness = DROPPED + (1 - DROPPED) * of_pixels[..., None] / max(n_graded, 1)
    return _bordered(pixels * (brightness if n_graded else 1.0), of_pixels)


def _bordered(drawn: NDArray[Any], values: NDArray[np.int64]) -> NDArray[np.uint8]:
    edges = borders(values)
    drawn[edges] = 0.35 * drawn[edges] + 0.65 * BORDER
    painted: NDArray[np.uint8] = drawn.round().astype(np.uint8)
    return painted


def _opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))
