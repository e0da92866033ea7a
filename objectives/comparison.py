"""Compare two measurements on the same images by the metric that is looked at. Imports no torch."""

from __future__ import annotations

from objectives.confusion import Confusions, MIoUComparison, compare_miou
from objectives.metrics import METRICS, Measurement
from objectives.statistics import PairedComparison, compare_paired

__all__ = ["Comparison", "compare_on"]

Comparison = PairedComparison | MIoUComparison


def compare_on(metric: str, first: Measurement, second: Measurement) -> Comparison:
    """Compare two measurements image by image: by McNemar's test, or for ``miou`` by a paired bootstrap.

    Args:
        metric: a key of ``METRICS``, that both were measured by.
        first: on some images.
        second: on the same ones.

    Raises:
        KeyError: one of them was not measured by it.
        ValueError: they are not of as many images.
    """
    name = METRICS[metric].name
    if metric == "miou":
        return compare_miou(*(Confusions.from_bytes(each.outcomes[name]) for each in (first, second)))
    return compare_paired(first.hits(name), second.hits(name))
