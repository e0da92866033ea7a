"""Images with masks, decoded: pixels as the model takes them, in one piece or in windows, masks at their own size."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from objectives.images import BadImage, ListedImage, list_hash
from objectives.masks import ClassMask, MaskSource
from pruning.preprocessing import Preprocessing
from pruning.segmentation.inference import Windows
from spaces.errors import InvalidInput

__all__ = ["PreparedScenes", "Scene", "prepare_scenes"]

_N_THREADS = 4
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
    taken: list[ListedImage] = []
    scenes: list[Scene] = []
    pixels: list[NDArray[np.uint8]] = []
    skipped: list[str] = []
    rest = list(wanted)
    with ThreadPoolExecutor(_N_THREADS) as pool:
        while len(taken) < n and rest:
            batch, rest = rest[: n - len(taken)], rest[n - len(taken) :]
            decoded = pool.map(lambda image: _decoded(source, image, preprocessing, windows), batch)
            for image, result in zip(batch, decoded, strict=True):
                if not isinstance(result, BadImage):
                    size, pieces, classes = result
                    scenes.append(Scene(size, range(len(pixels), len(pixels) + len(pieces)), classes))
                    pixels += pieces
                    taken.append(image)
                elif skip_bad:
                    skipped.append(image.name)
                else:
                    raise result
    if len(taken) < (1 if fewer_will_do else n):
        left_out = f", {len(skipped)} that cannot be decoded left out" if skipped else ""
        raise InvalidInput(f"{n} images are asked for, but only {len(taken)} are left{left_out}")
    named = list_hash(taken)
    return PreparedScenes(np.stack(pixels), tuple(scenes), windows, source.class_names, named, tuple(skipped)), rest


def _decoded(
    source: MaskSource, image: ListedImage, preprocessing: Preprocessing, windows: Windows | None
) -> tuple[tuple[int, int], list[NDArray[np.uint8]], ClassMask] | BadImage:
    try:
        with source.open(image) as opened:
            picture = opened.convert("RGB")
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        return BadImage(f"cannot decode {image.name}: {reason}; leave such files out with --skip-bad-images")
    try:
        classes = source.open_mask(image)
    except BadImage as error:
        return error
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
