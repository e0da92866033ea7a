"""Say why a dense model scores worse than it should: the usual mistakes, tried one by one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from objectives.images import PreparedImages
from objectives.metrics import Measurement
from objectives.statistics import Estimate, proportion_pct
from pruning.models import LoadedModel
from spaces import PrunefrontError

__all__ = ["DenseTooLow", "relabelled_top1", "require_dense_top1"]

_N_TRIED = 256


class DenseTooLow(PrunefrontError):
    """The dense model does not do what it should, so nothing measured from it would mean anything."""


def require_dense_top1(
    measurement: Measurement,
    expect_top1: float | None,
    *,
    loaded: LoadedModel,
    images: PreparedImages,
    logits: NDArray[np.float32],
) -> None:
    """Refuse a set-up whose dense model is below what is expected of it, or no better than guessing.

    Args:
        measurement: of the dense model.
        expect_top1: what it should reach, in percent; 0 accepts anything.
        loaded: the model, to try other preprocessings on.
        images: what it was measured on.
        logits: what it said of them, (n_images, n_classes).

    Raises:
        DenseTooLow: with the usual mistake that fits.
    """
    top1 = measurement.values.get("top1_pct")
    if top1 is None or top1.low is None or top1.high is None:
        return
    chance = 100 / loaded.architecture.n_classes
    if expect_top1 is None and top1.low <= chance:
        wanted = f"which is no better than guessing ({chance:.3g} %)"
    elif expect_top1 is not None and top1.high < expect_top1:
        wanted = f"not the {expect_top1:g} % expected"
    else:
        return
    raise DenseTooLow(
        f"the dense model reaches {top1.value:.1f} % top-1 ({top1.low:.1f} to {top1.high:.1f}) on "
        f"{measurement.n_images} images, {wanted}: {_diagnosis(top1, loaded, images, logits)}"
    )


def relabelled_top1(labels: NDArray[np.int64], chosen: NDArray[np.int64], n_classes: int) -> Estimate:
    """Measure top-1 under the best renaming of classes, found on one half of the images and tried on the other.

    Args:
        labels: (n_images,).
        chosen: (n_images,), the model's top class.
        n_classes: of the model.
    """
    half = np.arange(labels.size) % 2 == 0
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(counts, (chosen[half], labels[half]), 1)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    renamed = columns[np.argsort(rows)]
    hits = renamed[chosen[~half]] == labels[~half]
    return proportion_pct(int(hits.sum()), hits.size)


def _diagnosis(top1: Estimate, loaded: LoadedModel, images: PreparedImages, logits: NDArray[np.float32]) -> str:
    """Name the mistake whose correction helps most, if any helps beyond chance."""
    chosen = logits.argmax(axis=1).astype(np.int64)
    explanations = [*_other_normalisations(loaded, images)]
    if images.labels.size > 1:
        renamed = relabelled_top1(images.labels, chosen, loaded.architecture.n_classes)
        text = (
            f"with its classes in another order it would reach {renamed.value:.0f} %, so the class order is wrong: "
            f"give the model's with --class-map FILE"
        )
        explanations.append((renamed, text))
    helping = [(found.value, text) for found, text in explanations if _exceeds(found, top1)]
    if helping:
        return max(helping)[1]
    return (
        "neither another class order nor another normalisation explains it: check that the weights belong to this "
        "data, or state --expect-top1 0 to go on"
    )


def _exceeds(found: Estimate, top1: Estimate) -> bool:
    return found.low is not None and top1.high is not None and found.low > top1.high


def _other_normalisations(loaded: LoadedModel, images: PreparedImages) -> Iterator[tuple[Estimate, str]]:
    pixels = torch.tensor(images.pixels[:_N_TRIED])
    labels = torch.tensor(images.labels[:_N_TRIED])
    half = (0.5, 0.5, 0.5)
    tried = {
        "with mean and std 0.5": (half, half),
        "with ImageNet's mean and std": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
        "with CLIP's mean and std": (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
        "with pixels from 0 to 1": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    }
    for description, (mean, std) in tried.items():
        preprocessing = loaded.preprocessing.model_copy(update={"mean": mean, "std": std})
        if preprocessing == loaded.preprocessing:
            continue
        with torch.inference_mode():
            chosen = loaded.model(preprocessing.normalise(pixels)).argmax(dim=1)
        found = proportion_pct(int((chosen == labels).sum()), len(labels))
        options = " ".join(
            f"--{name} {','.join(f'{value:.4g}' for value in triple)}"
            for name, triple in (("mean", mean), ("std", std))
        )
        yield (
            found,
            f"{description} it reaches {found.value:.0f} % on {len(labels)} images, so the preprocessing is wrong: set "
            f"{options}",
        )
