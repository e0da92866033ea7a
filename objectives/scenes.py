"""Images with masks, decoded: pixels as the model takes them, in one piece or in windows, masks at their own size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from objectives.images import ListedImage, decode_first, decoding, list_hash
from objectives.masks import ClassMask, MaskSource
from pruning.preprocessing import Preprocessing
from pruning.segmentation.inference import Windows
from spaces.errors import InvalidInput

__all__ = ["PreparedScenes", "Scene", "prepare_scenes"]

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}


@dataclass(frozen=True)
class Scene:
    """One image.

    Attributes:
        size: height and width after resizing, px.
        pieces: which of the prepared pixels are its windows; one, where it is taken whole.
        classes: (height, width) at the mask's own size, class indices or ``IGNORED``.
    """

    size: tuple[int, int]
    pieces: range
    classes: ClassMask


@dataclass(frozen=True)
class PreparedScenes:
    """Decoded images with masks, as they wait for a model.

    Attributes:
        pixels: (n_piece, channel, height, width), uint8.
        scenes: the images.
        windows: how they were cut; ``None`` where each is taken whole.
        class_names: of the classes.
        list_hash: names the list.
        skipped: files that could not be decoded and were left out.
    """

    pixels: NDArray[np.uint8]
    scenes: tuple[Scene, ...]
    windows: Windows | None
    class_names: tuple[str, ...]
    list_hash: str
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.scenes)

    @property
    def has_labels(self) -> bool:
        """Whether every image has a mask: always."""
        return True


def prepare_scenes(
    source: MaskSource,
    wanted: Sequence[ListedImage],
    n: int,
    preprocessing: Preprocessing,
    *,
    windows: Windows | None = None,
    skip_bad: bool = False,
    fewer_will_do: bool = False,
) -> tuple[PreparedScenes, list[ListedImage]]:
    """Decode the first ``n`` usable images of a list, with their masks.

    Args:
        source: opens them.
        wanted: candidates, in order.
        n: how many to take.
        preprocessing: of the model. Whole, an image is resized to the input, whatever its ratio of sides; for
            windows its shorter side becomes the input's, as mmsegmentation does it.
        windows: how to cut.
        skip_bad: go on to the next image where one cannot be decoded.
        fewer_will_do: take what is left, if it is not nothing, where fewer than ``n`` are.

    Returns:
        The images, and the candidates after the last one taken.

    Raises:
        BadImage: one cannot be decoded, and ``skip_bad`` is not set.
        InvalidInput: a mask is not of its image's size or holds what is no class; or fewer than ``n`` are left.
    """
    found = decode_first(
        wanted,
        n,
        partial(_decoded, source, preprocessing, windows),
        skip_bad=skip_bad,
        fewer_will_do=fewer_will_do,
    )
    scenes: list[Scene] = []
    pixels: list[NDArray[np.uint8]] = []
    for size, pieces, classes in found.results:
        scenes.append(Scene(size, range(len(pixels), len(pixels) + len(pieces)), classes))
        pixels += pieces
    prepared = PreparedScenes(
        pixels=np.stack(pixels),
        scenes=tuple(scenes),
        windows=windows,
        class_names=source.class_names,
        list_hash=list_hash(found.images),
        skipped=tuple(found.skipped),
    )
    return prepared, found.rest


def _decoded(
    source: MaskSource, preprocessing: Preprocessing, windows: Windows | None, image: ListedImage
) -> tuple[tuple[int, int], list[NDArray[np.uint8]], ClassMask]:
    with decoding(image), source.open(image) as opened:
        picture = opened.convert("RGB")
    classes = source.open_mask(image)
    width, height = picture.size
    if classes.shape != (height, width):
        raise InvalidInput(
            f"the mask of {image.name} is {classes.shape[1]} x {classes.shape[0]} px, its image {width} x {height}: "
            f"a mask must be of its image's size"
        )
    _, input_height, input_width = preprocessing.input_size
    if windows is None:
        size = input_height, input_width
        return size, [_resized(picture, size, preprocessing)], classes
    scale = max(input_height / height, input_width / width)
    size = max(round(scale * height), input_height), max(round(scale * width), input_width)
    pieces = windows.cut(torch.from_numpy(_resized(picture, size, preprocessing)))
    return size, [piece.numpy() for piece in pieces], classes


def _resized(picture: Image.Image, size: tuple[int, int], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Give (channel, height, width) of the picture at a size."""
    height, width = size
    if picture.size != (width, height):
        picture = picture.resize((width, height), _RESAMPLING[preprocessing.interpolation])
    return np.asarray(picture).transpose(2, 0, 1).copy()
