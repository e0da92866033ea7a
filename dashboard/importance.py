"""How much of a metric goes with each parameter alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["importances"]

_N_GROUPS = 8
_LEAST_TRIALS = 10


def importances(draws: Sequence[Mapping[str, Any]], values: Sequence[float]) -> dict[str, float]:
    """Give each parameter's share of the metric's variance, from 0 to 1, the largest first.

    The trials are put into groups of like values of the parameter (eight of equal size where it is a number with
    more values), and the share is that of the variance between groups, less what chance alone would give. A parameter
    that matters only together with another one shows little here.

    >>> draws = [{"rate": n / 40, "seed": n % 7} for n in range(40)]
    >>> [(name, round(share, 1)) for name, share in importances(draws, [n / 40 for n in range(40)]).items()]
    [('rate', 1.0), ('seed', 0.0)]

    Returns:
        Nothing where fewer than ten trials were measured, or all came out alike.

    Source: the epsilon-squared of Kelley 1935, doi:10.1073/pnas.21.9.554.
    """
    metric = np.asarray(values, dtype=np.float64)
    if len(metric) < _LEAST_TRIALS or not metric.std() > 0:
        return {}
    found = {}
    for name in sorted({name for draw in draws for name in draw}):
        groups = _groups([draw.get(name) for draw in draws])
        if groups.max() > 0:
            found[name] = _share(groups, metric)
    return dict(sorted(found.items(), key=lambda entry: -entry[1]))


def _groups(values: list[Any]) -> NDArray[np.int64]:
    """Number each trial's group."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        numbers = np.asarray(values, dtype=np.float64)
        if len(np.unique(numbers)) > _N_GROUPS:
            edges = np.unique(np.quantile(numbers, np.linspace(0, 1, _N_GROUPS + 1)[1:-1]))
            return np.searchsorted(edges, numbers, side="right")
    _, groups = np.unique(np.array([str(value) for value in values]), return_inverse=True)
    return groups


def _share(groups: NDArray[np.int64], metric: NDArray[np.float64]) -> float:
    n, n_groups = len(metric), len(np.unique(groups))
    if n_groups >= n:
        return 0.0
    counts = np.bincount(groups)
    means = np.bincount(groups, metric) / np.maximum(counts, 1)
    within = float(((metric - means[groups]) ** 2).sum())
    total = float(((metric - metric.mean()) ** 2).sum())
    return max(0.0, 1 - (within / (n - n_groups)) / (total / (n - 1)))
