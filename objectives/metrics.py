"""What is measured of a candidate, and what a search can maximise. Imports no torch."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from objectives.statistics import Estimate, unpack
from objectives.visits import Part

__all__ = [
    "BATCH_LATENCY",
    "GFLOPS",
    "LATENCY",
    "METRICS",
    "Cost",
    "Measurement",
    "Metric",
    "Precision",
    "pack_counts",
    "unpack_counts",
]

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Metric:
    """Something a search can maximise.

    Attributes:
        name: its key in a measurement's values.
        label: for people, with the unit.
        needs_labels: whether images need labels for it.
    """

    name: str
    label: str
    needs_labels: bool


Cost = Literal["gflops", "latency_ms"]
GFLOPS: Cost = "gflops"  # the name of a measured cost among the values
LATENCY: Cost = "latency_ms"  # of one image alone
BATCH_LATENCY = "batch_latency_ms"  # of a batch of the measurement's size

METRICS: Mapping[str, Metric] = {
    "top1": Metric("top1_pct", "top-1 (%)", needs_labels=True),
    "agreement": Metric("agreement_pct", "agreement with the dense model (%)", needs_labels=False),
    "miou": Metric("miou_pct", "mIoU (%)", needs_labels=True),
}


@dataclass(frozen=True)
class Measurement:
    """What one layout did on one list of images.

    Attributes:
        n_images: how many: all of the list, or the ``part`` that was seen.
        image_list_hash: which list.
        values: each metric's name and estimate: ``top1_pct`` where there are labels, ``agreement_pct`` (the same
            top class as the dense model), ``kl_nats`` (mean Kullback-Leibler divergence of the dense model's
            class probabilities from the layout's); of a segmenter ``miou_pct``, ``pixel_accuracy_pct`` and each
            class's ``iou_pct``; ``gflops`` where the cost was measured image by image; and where it was timed,
            ``latency_ms`` of a forward pass of one image and ``batch_latency_ms`` of a whole batch.
        outcomes: for a metric that is a share of images, the images that count, packed into bits; for ``miou_pct``
            the confusion counts of each image, ``Confusions.to_bytes``.
        macs: multiply-adds of one image, overhead included; counted on one of them where all images were measured. The
            mean over the images where they decide, to the nearest whole number.
        tokens_per_block: tokens, prefix included, that entered each block; likewise.
        seconds: spent in the model.
        precision: of its matrix products.
        batch_size: images of a forward pass at the end: fewer than were asked for where the memory did not suffice.
            ``None`` where nobody kept it.
        part: which images of the list were seen, where not all were; what they say of all of them are then the values.
        n_kept: where the images decide, ``pack_counts`` of the patches of each that each pruning layer kept. The store
            keeps them, and gives them back only when asked for them alone: they are much more than everything else.
    """

    n_images: int
    image_list_hash: str
    values: Mapping[str, Estimate]
    outcomes: Mapping[str, bytes] = field(repr=False)
    macs: int
    tokens_per_block: tuple[float, ...]
    seconds: float
    precision: Precision = "float32"
    n_kept: bytes | None = field(default=None, repr=False, compare=False)
    batch_size: int | None = None
    part: Part | None = field(default=None, repr=False)

    def hits(self, metric: str) -> NDArray[np.bool_]:
        """Say of each image, in the order of the list, whether it counts for a metric that is a share of images.

        Raises:
            KeyError: the metric is no such share, or was not measured.
        """
        return unpack(self.outcomes[metric], self.n_images)

    @property
    def gflops(self) -> float:
        """Multiply-adds of one image, in billions; the mean over the images where they decide."""
        measured = self.measured_gflops
        return self.macs / 1e9 if measured is None else measured.value

    @property
    def measured_gflops(self) -> Estimate | None:
        """The mean over the images with its interval, where they decide; ``None`` where the cost is of any image."""
        return self.values.get(GFLOPS)

    @property
    def latency_ms(self) -> Estimate | None:
        """The median of a forward pass of one image with its interval; ``None`` where nothing was timed."""
        return self.values.get(LATENCY)


def pack_counts(counts: NDArray[np.int64]) -> bytes:
    """Pack (n_images, n_layers) counts of tokens, each below 65,536, into few bytes.

    >>> unpack_counts(pack_counts(np.array([[120, 80], [131, 64]])), 2)
    array([[120,  80],
           [131,  64]])
    """
    return zlib.compress(counts.astype("<u2").tobytes())


def unpack_counts(packed: bytes, n_images: int) -> NDArray[np.int64]:
    """Undo ``pack_counts``."""
    return np.frombuffer(zlib.decompress(packed), dtype="<u2").reshape(n_images, -1).astype(np.int64)
