"""Images with a class for each pixel: ``shapes``, and folders like those of ADE20K, COCO-Stuff and Pascal Context."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from objectives import shapes
from objectives.datasets import list_shapes, open_shape
from objectives.images import BadImage, ListedImage
from objectives.mask_folders import MaskFolders
from spaces.errors import InvalidInput

__all__ = ["IGNORED", "ClassMask", "MaskSource", "find_masks", "read_label_map"]

ClassMask = NDArray[np.int16]

IGNORED = -1  # of a pixel that counts for nothing
_IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"})
_SPLIT_FOLDERS = ("validation", "val", "test2014", "test")


@dataclass(frozen=True)
class MaskSource:
    """A data set: its images, and how one and its mask are opened.

    Attributes:
        images: all of them, without labels of their own.
        open: gives the PIL image of a listed image.
        open_mask: gives its mask, (height, width), class indices or ``IGNORED``.
        class_names: for people.
        layout: what was found, in words.
    """

    images: tuple[ListedImage, ...]
    open: Callable[[ListedImage], Image.Image]
    open_mask: Callable[[ListedImage], ClassMask]
    class_names: tuple[str, ...]
    layout: str


def find_masks(data: str, *, n_classes: int, folders: MaskFolders | None = None) -> MaskSource:
    """List the images of a data set that have masks.

    Args:
        data: ``shapes``, or the root of a data set.
        n_classes: of the model.
        folders: what is where below the root.

    Raises:
        InvalidInput: no such folder, no images in it, an image without a mask, or classes that do not match.
    """
    if data == "shapes":
        return _shapes(n_classes)
    folders = folders or MaskFolders()
    root = Path(data)
    split = folders.split if folders.split is not None else _usual_split(root / folders.images)
    image_folder, mask_folder = root / folders.images / split, root / folders.masks / split
    for folder in (image_folder, mask_folder):
        if not folder.is_dir():
            raise InvalidInput(f"there is no folder {folder}: name the folders of images and masks below {root}")
    files = sorted(path for path in image_folder.iterdir() if path.suffix.lower() in _IMAGE_SUFFIXES)
    if folders.list_file is not None:
        files = _listed(files, Path(folders.list_file), image_folder)
    if not files:
        raise InvalidInput(f"there are no images in {image_folder}")
    for path in files:
        if not (mask_folder / f"{path.stem}{folders.mask_suffix}").is_file():
            raise InvalidInput(f"{path.name} has no mask {path.stem}{folders.mask_suffix} in {mask_folder}")
    label_map = None if folders.label_map is None else read_label_map(folders.label_map, n_classes)
    images = tuple(ListedImage(number, path.name, None) for number, path in enumerate(files))
    return MaskSource(
        images,
        partial(_open_file, image_folder),
        partial(_open_mask, mask_folder, folders, n_classes, label_map),
        tuple(f"class {number}" for number in range(n_classes)),
        f"{len(images)} images with masks of {n_classes} classes",
    )


def read_label_map(path: str | Path, n_classes: int) -> dict[int, int]:
    """Read which class each value of a mask means.

    Raises:
        InvalidInput: a line that is no ``VALUE CLASS``, or a class that the model does not have.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    classes: dict[int, int] = {}
    for number, line in enumerate(lines, start=1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        is_entry = len(words) == 2 and words[0].isdecimal() and (words[1] == "ignore" or words[1].isdecimal())
        if not is_entry or (words[1] != "ignore" and int(words[1]) >= n_classes):
            raise InvalidInput(
                f"{path}, line {number}: a line is VALUE CLASS with a class from 0 to {n_classes - 1} or ignore, got "
                f"{line.strip()!r}"
            )
        classes[int(words[0])] = IGNORED if words[1] == "ignore" else int(words[1])
    return classes


def _shapes(n_classes: int) -> MaskSource:
    if n_classes != len(shapes.MASK_CLASS_NAMES):
        raise InvalidInput(
            f"the masks of shapes have {len(shapes.MASK_CLASS_NAMES)} classes, background included, the model "
            f"{n_classes}: use shapes_seg_small or a segmenter with --num-classes {len(shapes.MASK_CLASS_NAMES)}"
        )
    images = list_shapes()
    layout = f"{len(images)} generated images with masks of {n_classes} classes"
    return MaskSource(images, open_shape, _open_shape_mask, shapes.MASK_CLASS_NAMES, layout)


def _open_shape_mask(image: ListedImage) -> ClassMask:
    _, masks, labels = shapes.draw_batch([image.number])
    classes: ClassMask = shapes.class_masks(masks, labels)[0].astype(np.int16)
    return classes


def _usual_split(folder: Path) -> str:
    return next((name for name in _SPLIT_FOLDERS if (folder / name).is_dir()), ".")


def _listed(files: list[Path], list_file: Path, folder: Path) -> list[Path]:
    try:
        names = [line.strip() for line in list_file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {list_file}: {getattr(error, 'strerror', None) or error}") from None
    by_stem = {path.stem: path for path in files}
    missing = [name for name in names if name not in by_stem]
    if missing:
        raise InvalidInput(f"{list_file} names {missing[0]}, of which there is no image in {folder}")
    return [by_stem[name] for name in names]


def _open_file(folder: Path, image: ListedImage) -> Image.Image:
    return Image.open(folder / image.name)


def _open_mask(
    folder: Path, folders: MaskFolders, n_classes: int, label_map: Mapping[int, int] | None, image: ListedImage
) -> ClassMask:
    name = f"{Path(image.name).stem}{folders.mask_suffix}"
    try:
        with Image.open(folder / name) as opened:
            values = np.asarray(opened)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise BadImage(f"cannot decode the mask {name}: {' '.join(str(error).split())}") from None
    if values.ndim != 2:
        raise InvalidInput(f"the mask {name} must hold one value for each pixel, got {values.shape[2]} channels")
    return _classes_of(values.astype(np.int64), folders, n_classes, label_map, name)


def _classes_of(
    values: NDArray[np.int64],
    folders: MaskFolders,
    n_classes: int,
    label_map: Mapping[int, int] | None,
    name: str,
) -> ClassMask:
    """Turn the values of a mask into classes, refusing any that is none."""
    is_ignored = values == folders.ignore_index
    classes = values.copy()
    if folders.reduce_zero_label:
        is_ignored |= values == 0
        classes -= 1
    if label_map is not None:
        mapped = np.full_like(classes, n_classes)  # what no line names is out of range, and refused below
        for value, each in label_map.items():
            mapped[classes == value] = each
        is_ignored |= mapped == IGNORED
        classes = mapped
    classes[is_ignored] = IGNORED
    outside = ~is_ignored & ((classes < 0) | (classes >= n_classes))
    if outside.any():
        raise InvalidInput(
            f"the mask {name} has the value {values[outside][0]}, which is no class of {n_classes}: set "
            f"reduce_zero_label, ignore_index or a label map to what its values mean"
        )
    return classes.astype(np.int16)
