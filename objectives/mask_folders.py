"""Where a data set with masks keeps what. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MaskFolders"]


@dataclass(frozen=True)
class MaskFolders:
    """Where a data set keeps what, and what the values of its masks mean.

    The defaults are ADE20K's but for ``reduce_zero_label``, which it needs. COCO-Stuff-10K has ``mask_suffix``
    ``_labelTrainIds.png``. Pascal Context has ``images`` JPEGImages, ``masks`` SegmentationClassContext,
    ``reduce_zero_label`` for its 59 classes, and a list file.

    Attributes:
        images: the folder of images below the root.
        masks: the folder of masks below the root.
        split: the folder below both to take; by default the first usual name there is, or none.
        mask_suffix: what a mask's name has in the place of its image's suffix.
        list_file: names of the images to take, one a line, without suffix; by default all.
        reduce_zero_label: whether value 0 counts for nothing, and class 0 is value 1.
        ignore_index: the value that counts for nothing.
        label_map: a text file of lines ``VALUE CLASS``, with ``ignore`` for a class that counts for nothing.
    """

    images: str = "images"
    masks: str = "annotations"
    split: str | None = None
    mask_suffix: str = ".png"
    list_file: str | None = None
    reduce_zero_label: bool = False
    ignore_index: int = 255
    label_map: str | None = None
