"""What becomes of a layout's tokens on real images: the model is run once, and which token holds each patch is kept."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from timm.data import ImageNetInfo

from objectives.images import ImageSource, PreparedImages, prepare, stratified_order
from objectives.shapes import CLASS_NAMES
from pruning.apply import pruned
from pruning.models import LoadedModel
from search.config import SearchSettings
from search.opening import open_data, open_model
from search.scene_pictures import scene_pictures
from spaces import parse_layout

__all__ = ["take_pictures"]

_IMAGENET_CLASSES = 1000


def take_pictures(
    settings: SearchSettings, layout: Mapping[str, Any], n_images: int
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Follow a layout's tokens on the first of a study's search images.

    Returns:
        What ``dashboard.token_pictures`` reads, and the images as the model sees them, as PNG files by name; of a
        segmenter see ``scene_pictures``.
    """
    loaded = open_model(settings.model)
    source = open_data(settings.data, loaded)
    if not isinstance(source, ImageSource):
        return scene_pictures(loaded, source, settings.data, layout, n_images)
    order = stratified_order(source.images, settings.data.seed)
    images, _ = prepare(
        source,
        order,
        min(n_images, len(order)),
        loaded.preprocessing.pixel_transform(),
        skip_bad=settings.data.skip_bad,
        fewer_will_do=True,
    )
    names = {image.number: image.name for image in source.images}
    values = _followed(loaded, images, layout)
    for value, number, label in zip(values, images.numbers, images.labels, strict=True):
        value |= {"name": names[int(number)], "truth": None if label < 0 else int(label)}
    architecture = loaded.architecture
    grid = [side // patch for side, patch in zip(architecture.image_size, architecture.patch_size, strict=True)]
    result = {"grid": grid, "images": values, "classes": _class_names(settings.data.data, loaded, values)}
    return result, {f"image-{index}.png": _png(images, index) for index in range(len(images))}


def _followed(loaded: LoadedModel, images: PreparedImages, layout: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give, for each image, what the dense and the pruned model choose, and who holds each patch behind each layer."""
    inputs = loaded.preprocessing.normalise(torch.tensor(images.pixels))
    with torch.inference_mode():
        dense = loaded.model(inputs).argmax(dim=1).tolist()
        with pruned(loaded.model, parse_layout(layout), trace=True) as pruning:
            pruning.image_ids = torch.tensor(images.numbers)
            chosen = loaded.model(inputs).argmax(dim=1).tolist()
            owners = {block: held.tolist() for block, held in sorted(pruning.owners.items())}
    return [
        {
            "dense": dense[index],
            "chosen": chosen[index],
            "layers": [{"block": block, "owners": held[index]} for block, held in owners.items()],
        }
        for index in range(len(images))
    ]


def _class_names(data: str, loaded: LoadedModel, values: list[dict[str, Any]]) -> dict[str, str]:
    """Name the classes that occur, where their names are known."""
    named = {value[which] for value in values for which in ("truth", "dense", "chosen")} - {None}
    if data == "shapes":
        return {str(index): CLASS_NAMES[index] for index in named}
    if loaded.architecture.n_classes == _IMAGENET_CLASSES:
        info = ImageNetInfo()
        return {str(index): info.index_to_description(index) for index in named}
    return {}


def _png(images: PreparedImages, index: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(images.pixels[index].transpose(1, 2, 0)).save(file, format="PNG")
    return file.getvalue()
