"""What a segmenter makes of real images, dense and under a layout, and where it finished each token."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from objectives.images import stratified_order
from objectives.masks import IGNORED, ClassMask, MaskSource
from objectives.scenes import PreparedScenes, Scene, prepare_scenes
from pruning.apply import pruned
from pruning.models import LoadedModel
from pruning.segmentation.inference import Windows
from search.config import DataSettings
from spaces import parse_layout

__all__ = ["scene_pictures"]

Pixels = NDArray[np.uint8]


def scene_pictures(
    loaded: LoadedModel, source: MaskSource, data: DataSettings, layout: Mapping[str, Any], n_images: int
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Follow a layout's tokens on the first of a study's search images, of each its first window where it is cut.

    Returns:
        What ``dashboard.scene_pictures`` reads; and as PNG files the images as the model sees them, and what truth,
        the dense and the pruned model say of each pixel: the class's index, one higher, with 0 for what is ignored.
    """
    order = stratified_order(source.images, data.seed)
    _, height, width = loaded.preprocessing.input_size
    windows = None if data.stride is None else Windows((height, width), (data.stride,) * 2)
    n, how = min(n_images, len(order)), {"skip_bad": data.skip_bad, "fewer_will_do": True}
    scenes, rest = prepare_scenes(source, order, n, loaded.preprocessing, windows=windows, **how)
    names = [image.name for image in order[: len(order) - len(rest)] if image.name not in scenes.skipped]
    pixels = scenes.pixels[[scene.pieces.start for scene in scenes.scenes]]
    truth = np.stack([_truth(scene, (height, width)) for scene in scenes.scenes])
    dense, chosen, stage, after = _segmented(loaded, pixels, layout)
    files: dict[str, bytes] = {}
    for index in range(len(scenes)):
        files[f"image-{index}.png"] = _png(pixels[index].transpose(1, 2, 0))
        for which, classes in (("truth", truth), ("dense", dense), ("pruned", chosen)):
            files[f"{which}-{index}.png"] = _png((classes[index] + 1).astype(np.uint16))
    images = [
        {
            "name": names[index],
            "stage": stage[index].tolist(),
            "right_pct": {"dense": _right(dense[index], truth[index]), "pruned": _right(chosen[index], truth[index])},
            "classes": sorted({*np.unique(truth[index]).tolist(), *np.unique(chosen[index]).tolist()} - {IGNORED}),
        }
        for index in range(len(scenes))
    ]
    return {"grid": list(_grid(loaded)), "after": after, "images": images, "classes": _class_names(scenes)}, files


def _segmented(
    loaded: LoadedModel, pixels: Pixels, layout: Mapping[str, Any]
) -> tuple[ClassMask, ClassMask, NDArray[np.int64], list[int]]:
    """Give each pixel's class, dense and pruned; and of each patch the head that spoke last, and where heads grade."""
    inputs = loaded.preprocessing.normalise(torch.tensor(pixels))
    config = parse_layout(layout)
    with torch.inference_mode():
        dense = loaded.model(inputs).argmax(dim=1)
        with pruned(loaded.model, config) as pruning:
            chosen = loaded.model(inputs).argmax(dim=1)
            exits = None if pruning.early_exit is None else pruning.early_exit.exits
    n_patch = loaded.architecture.n_patch
    stage = torch.zeros(len(inputs), n_patch, dtype=torch.int64) if exits is None else exits.stage
    return (
        dense.numpy().astype(np.int16),
        chosen.numpy().astype(np.int16),
        stage.numpy(),
        [place.block for place in config.stages(loaded.architecture)],
    )


def _grid(loaded: LoadedModel) -> tuple[int, int]:
    (height, width), (high, wide) = loaded.architecture.image_size, loaded.architecture.patch_size
    return height // high, width // wide


def _truth(scene: Scene, size: tuple[int, int]) -> ClassMask:
    """Bring a scene's mask to what the model sees of it."""
    height, width = scene.size
    resized = Image.fromarray(scene.classes.astype(np.int32)).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(resized, np.int16)[: size[0], : size[1]]


def _right(found: ClassMask, truth: ClassMask) -> float | None:
    """Give the share of pixels that are named right, in percent; ``None`` where truth ignores all of them."""
    counted = truth != IGNORED
    return float(100 * (found[counted] == truth[counted]).mean()) if counted.any() else None


def _class_names(scenes: PreparedScenes) -> dict[str, str]:
    return {str(index): name for index, name in enumerate(scenes.class_names)}


def _png(pixels: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()
