"""Open what settings name: the model, the data, and the images that are taken of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from objectives.datasets import find_images
from objectives.evaluators import Measurable
from objectives.images import ImageSource, ListedImage, prepare, stratified_order
from objectives.masks import MaskSource, find_masks
from objectives.scenes import prepare_scenes
from pruning.models import LoadedModel, load_model
from pruning.segmentation.inference import Windows
from search.config import DataSettings, ModelSettings
from spaces import InvalidInput

__all__ = ["AnySource", "decode", "first_images", "open_data", "open_model", "require_device", "take_images"]

_DEFAULT_IMAGES = 1024

AnySource = ImageSource | MaskSource


def require_device(device: str) -> None:
    """Refuse a device that is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidInput(
            "cuda is asked for, but torch finds no GPU here: measure with --device cpu, or on a machine with a GPU"
        )


def open_model(settings: ModelSettings) -> LoadedModel:
    """Load the model that the settings name.

    Raises:
        InvalidInput: it does not load, or the settings have no effect on it.
    """
    loaded = load_model(
        settings.name,
        checkpoint=settings.checkpoint,
        pretrained=settings.pretrained,
        arguments=settings.arguments,
        preprocessing=settings.preprocessing,
    )
    if loaded.architecture.heads and "crop_pct" in settings.preprocessing:
        raise InvalidInput(f"{loaded.name} segments whole images, or windows of them: leave --crop-pct out")
    return loaded


def open_data(settings: DataSettings, loaded: LoadedModel) -> AnySource:
    """Find the images that the settings name; for a segmenter those with masks."""
    if loaded.architecture.heads:
        return find_masks(settings.data, n_classes=loaded.architecture.n_classes, folders=settings.masks)
    return find_images(
        settings.data,
        n_classes=loaded.architecture.n_classes,
        labels=settings.labels,
        class_map=settings.class_map,
        split=settings.split,
    )


def take_images(
    settings: DataSettings, source: AnySource, loaded: LoadedModel
) -> tuple[Measurable, list[ListedImage], int]:
    """Decode the search images and set the confirm images aside.

    Returns:
        The search images; the images left, in order; and how many of them to confirm on.

    Raises:
        InvalidInput: fewer images than asked for.
    """
    total = len(source.images)
    n_search = settings.n_search or min(_DEFAULT_IMAGES, max(1, total // 2))
    if n_search + (settings.n_confirm or 0) > total:
        asked = f"{n_search} search" + (f" and {settings.n_confirm} confirm" if settings.n_confirm else "")
        raise InvalidInput(f"{asked} images are asked for, but the data has {total}: ask for fewer")
    order = stratified_order(source.images, settings.seed)
    images, rest = decode(settings, source, order, n_search, loaded)
    n_confirm = min(n_search, len(rest)) if settings.n_confirm is None else settings.n_confirm
    return images, rest, n_confirm


def first_images(settings: DataSettings, loaded: LoadedModel, n: int) -> Measurable:
    """Decode the first images of a study: of those searched on and, of a small data set, the others; all, if fewer."""
    source = open_data(settings, loaded)
    order = stratified_order(source.images, settings.seed)
    return decode(settings, source, order, n, loaded, fewer_will_do=True)[0]


def decode(
    settings: DataSettings,
    source: AnySource,
    wanted: Sequence[ListedImage],
    n: int,
    loaded: LoadedModel,
    *,
    fewer_will_do: bool = False,
) -> tuple[Measurable, list[ListedImage]]:
    """Decode the first ``n`` usable images of a list, with their masks if they have any."""
    preprocessing, how = loaded.preprocessing, {"skip_bad": settings.skip_bad, "fewer_will_do": fewer_will_do}
    if isinstance(source, ImageSource):
        return prepare(source, wanted, n, preprocessing.pixel_transform(), **how)
    _, height, width = preprocessing.input_size
    windows = None if settings.stride is None else Windows((height, width), (settings.stride,) * 2)
    return prepare_scenes(source, wanted, n, preprocessing, windows=windows, **how)
