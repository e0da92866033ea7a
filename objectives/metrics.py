"""What is measured of a candidate, and what a search can maximise. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from objectives.statistics import Estimate, unpack

__all__ = ["METRICS", "Measurement", "Metric", "Precision"]

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


METRICS: Mapping[str, Metric] = {
    "top1": Metric("top1_pct", "top-1 (%)", needs_labels=True),
    "agreement": Metric("agreement_pct", "agreement with the dense model (%)", needs_labels=False),
}


@dataclass(frozen=True)
class Measurement:
    """What one layout did on one list of images.

    Attributes:
        n_images: how many: the list's first ones.
        image_list_hash: which list.
        values: each metric's name and estimate: ``top1_pct`` where there are labels, ``agreement_pct`` (the same
            top class as the dense model), ``kl_nats`` (mean Kullback-Leibler divergence of the dense model's
            class probabilities from the layout's).
        outcomes: for a metric that is a share of images, the images that count, packed into bits.
        macs: multiply-adds of one image, overhead included; counted on one of them where all images were measured.
        tokens_per_block: tokens, prefix included, that entered each block.
        seconds: spent in the model.
        precision: of its matrix products.
    """

    n_images: int
    image_list_hash: str
    values: Mapping[str, Estimate]
    outcomes: Mapping[str, bytes] = field(repr=False)
    macs: int
    tokens_per_block: tuple[int, ...]
    seconds: float
    precision: Precision = "float32"

    def hits(self, metric: str, n_first: int | None = None) -> NDArray[np.bool_]:
        """Say of each image, or of the first ``n_first``, whether it counts for a metric that is a share of images.

        Raises:
            KeyError: the metric is no such share, or was not measured.
        """
        return unpack(self.outcomes[metric], self.n_images if n_first is None else n_first)

    @property
    def gflops(self) -> float:
        """Multiply-adds of one image, in billions."""
        return self.macs / 1e9
