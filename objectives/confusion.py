"""How classes of pixels are taken for each other, image by image, and what follows: IoU and pixel accuracy.

The counts of an image are kept sparsely: of all pairs of classes it shows a few. Imports no torch.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from objectives.statistics import CONFIDENCE, Estimate

__all__ = ["Confusions", "MIoUComparison", "compare_miou"]

N_RESAMPLES = 1000
_SEED = 0  # of the bootstrap: equal counts, equal intervals


@dataclass(frozen=True)
class Confusions:
    """Per-image confusion counts.

    Attributes:
        n_classes: of truth and prediction.
        image: (n_entry,), which image each entry belongs to, increasing.
        pair: (n_entry,), true class * n_classes + predicted class.
        count: (n_entry,), pixels; never 0.
        n_images: images, those without any entry included.
    """

    n_classes: int
    image: NDArray[np.int64]
    pair: NDArray[np.int64]
    count: NDArray[np.int64]
    n_images: int

    @classmethod
    def of(cls, pairs: Sequence[tuple[NDArray[np.int16], NDArray[np.int64]]], n_classes: int) -> Confusions:
        """Count the pixels of images.

        Args:
            pairs: for each image its true classes, negative where a pixel counts for nothing, and the predicted ones,
                of the same shape.
            n_classes: classes there are.

        Raises:
            ValueError: a truth and its prediction differ in shape.
        """
        images, keys, counts = [], [], []
        for number, (truth, found) in enumerate(pairs):
            if truth.shape != found.shape:
                raise ValueError(f"truth and prediction must have one shape, got {truth.shape} and {found.shape}")
            counted = truth >= 0
            key = truth[counted].astype(np.int64) * n_classes + found[counted]
            found_pairs, n_pixels = np.unique(key, return_counts=True)
            images.append(np.full(len(found_pairs), number))
            keys.append(found_pairs)
            counts.append(n_pixels)
        image, pair, count = (np.concatenate([np.empty(0, np.int64), *each]) for each in (images, keys, counts))
        return cls(n_classes, image, pair, count, n_images=len(pairs))

    @classmethod
    def joined(cls, parts: Sequence[Confusions]) -> Confusions:
        """Put the counts of consecutive batches of images together."""
        starts = np.cumsum([0, *(part.n_images for part in parts)])
        return cls(
            parts[0].n_classes,
            np.concatenate([part.image + start for part, start in zip(parts, starts[:-1], strict=True)]),
            np.concatenate([part.pair for part in parts]),
            np.concatenate([part.count for part in parts]),
            int(starts[-1]),
        )

    def to_bytes(self) -> bytes:
        """Write the counts, compressed."""
        head = np.array([self.n_classes, self.n_images, len(self.pair)], dtype="<u4")
        # Differences of increasing numbers are small, and compress well.
        body = [np.diff(self.image, prepend=0), self.pair, self.count]
        return zlib.compress(b"".join([head.tobytes(), *(each.astype("<u4").tobytes() for each in body)]))

    @classmethod
    def from_bytes(cls, written: bytes) -> Confusions:
        """Undo ``to_bytes``."""
        numbers = np.frombuffer(zlib.decompress(written), dtype="<u4").astype(np.int64)
        n_classes, n_images, n_entries = (int(each) for each in numbers[:3])
        steps, pair, count = numbers[3:].reshape(3, n_entries)
        return cls(n_classes, np.cumsum(steps), pair, count, n_images)

    def matrix(self) -> NDArray[np.int64]:
        """Give (true class, predicted class) counts over all images."""
        total = np.zeros(self.n_classes**2, dtype=np.int64)
        np.add.at(total, self.pair, self.count)
        return total.reshape(self.n_classes, self.n_classes)

    def iou_pct(self) -> NDArray[np.float64]:
        """Give each class's intersection over union, %; NaN for a class that is neither shown nor predicted."""
        return _iou_pct(self._areas().sum(axis=0))

    def miou_pct(self) -> Estimate:
        """Give the mean IoU over the classes that are shown or predicted, with its bootstrap interval over images."""
        return _estimate(_miou_pct(self._areas().sum(axis=0)[None])[0], _miou_pct(self._resampled()))

    def pixel_accuracy_pct(self) -> Estimate:
        """Give the share of pixels named right, with its bootstrap interval over images."""
        total = self._areas().sum(axis=0)[None]
        return _estimate(_accuracy_pct(total)[0], _accuracy_pct(self._resampled()))

    def _areas(self) -> NDArray[np.float64]:
        """Give (image, 3, class): pixels named right, shown, and predicted."""
        truth, found = np.divmod(self.pair, self.n_classes)
        right = np.where(truth == found, self.count, 0)

        def by_class(of: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.float64]:
            summed = np.bincount(self.image * self.n_classes + of, count, minlength=self.n_images * self.n_classes)
            return summed.reshape(self.n_images, self.n_classes).astype(np.float64)

        return np.stack([by_class(truth, right), by_class(truth, self.count), by_class(found, self.count)], axis=1)

    def _resampled(self) -> NDArray[np.float64]:
        """Give (resample, 3, class): the areas of images drawn with replacement, as many as there are."""
        return _resampled(self._areas())


@dataclass(frozen=True)
class MIoUComparison:
    """Two measurements of mIoU on the same images.

    Attributes:
        difference_pct: first minus second, percentage points.
        low_pct: lower end of its 95 % bootstrap interval over images.
        high_pct: upper end.
        n_images: images both were measured on.
    """

    difference_pct: float
    low_pct: float
    high_pct: float
    n_images: int

    @property
    def is_significant(self) -> bool:
        """Whether the interval leaves zero out."""
        return not self.low_pct <= 0 <= self.high_pct


def compare_miou(first: Confusions, second: Confusions) -> MIoUComparison:
    """Compare two measurements on the same images in the same order: each resample draws the same images of both.

    Raises:
        ValueError: they are not of as many images and classes.
    """
    if (first.n_images, first.n_classes) != (second.n_images, second.n_classes):
        raise ValueError(
            f"both must be of the same images and classes, got {first.n_images} and {second.n_images} images of "
            f"{first.n_classes} and {second.n_classes} classes"
        )
    areas = first._areas(), second._areas()
    difference = _miou_pct(areas[0].sum(axis=0)[None])[0] - _miou_pct(areas[1].sum(axis=0)[None])[0]
    estimate = _estimate(difference, _miou_pct(_resampled(areas[0])) - _miou_pct(_resampled(areas[1])))
    assert estimate.low is not None
    assert estimate.high is not None
    return MIoUComparison(estimate.value, estimate.low, estimate.high, first.n_images)


def _resampled(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    n_images = len(areas)
    generator = np.random.Generator(np.random.PCG64(_SEED))
    weights = generator.multinomial(n_images, np.full(n_images, 1 / n_images), size=N_RESAMPLES).astype(np.float64)
    return (weights @ areas.reshape(n_images, -1)).reshape(N_RESAMPLES, *areas.shape[1:])


def _iou_pct(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn (..., 3, class) areas into (..., class) IoU."""
    right, shown, found = (areas[..., number, :] for number in range(3))
    union = shown + found - right
    return np.divide(100 * right, union, out=np.full_like(union, np.nan), where=union > 0)


def _miou_pct(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    iou = _iou_pct(areas)
    is_there = ~np.isnan(iou)
    mean: NDArray[np.float64] = np.where(is_there, iou, 0).sum(axis=-1) / np.maximum(is_there.sum(axis=-1), 1)
    return mean


def _accuracy_pct(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    accuracy: NDArray[np.float64] = 100 * areas[:, 0].sum(axis=-1) / np.maximum(areas[:, 1].sum(axis=-1), 1)
    return accuracy


def _estimate(value: float, resampled: NDArray[np.float64]) -> Estimate:
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(value), float(low), float(high))
