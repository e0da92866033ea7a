"""Predict the metric of layouts nobody measured, from what the measured ones do: Gaussian process regression.

Source: Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", algorithm 2.1 and equation 4.17 (Matérn
5/2); Jones et al. 1998, "Efficient global optimization of expensive black-box functions" (expected improvement).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotrf, dtrtrs
from scipy.special import ndtr
from threadpoolctl import ThreadpoolController

__all__ = ["Surrogate", "in_one_thread"]

_REACHES = (0.25, 0.5, 1.0, 2.0, 4.0)  # within which layouts are alike, in root mean squared standardised differences
_NOISES = (0.003, 0.03, 0.3)  # the variance of measuring, as a share of that of the layouts
_N_TO_CHOOSE_BY = 100  # of the measured, evenly: enough to choose by, and the time grows with the cube
_LEAST_SPREAD = 1e-9
_BLAS = ThreadpoolController()

Array = npt.NDArray[np.float64]


def in_one_thread() -> AbstractContextManager[Any]:
    """Keep matrix products to one thread.

    On matrices as small as these a second one gains nothing, and takes the workers' time while it waits for the next.
    """
    limited: AbstractContextManager[Any] = _BLAS.limit(limits=1, user_api="blas")
    return limited


class Surrogate:
    """A Gaussian process over profiles, which knows how far to trust itself.

    How far layouts are alike and how noisy measuring is, it takes from a few choices: what makes the measured metrics
    likeliest.
    """

    def __init__(self, profiles: Array, metrics: Array) -> None:
        """Learn from what was measured.

        Args:
            profiles: (n_measured, n_number), of at least one layout.
            metrics: (n_measured,), more is better.
        """
        self._centre, spread = profiles.mean(axis=0), profiles.std(axis=0)
        self._varies = spread > _LEAST_SPREAD
        self._spread = spread[self._varies]
        self._mean = float(metrics.mean())
        self._known = self._standardised(profiles)
        _, self._reach, self._noise, self._variance = max(self._choices(metrics - self._mean))
        likeness = _matern(self._distances(self._known, self._known), self._reach)
        self._root = cholesky(likeness + self._noise * np.eye(len(metrics)), lower=True)
        self._weights = cho_solve((self._root, True), metrics - self._mean)
        self._fitted = likeness @ self._weights  # the expected metrics of the known, less the mean

    def predict(self, profiles: Array) -> tuple[Array, Array]:
        """Give the expected metric, and its standard deviation, of (n, n_number) profiles."""
        likeness = _matern(self._distances(self._standardised(profiles), self._known), self._reach)
        unexplained = 1 - (solve_triangular(self._root, likeness.T, lower=True) ** 2).sum(axis=0)
        deviation = np.sqrt(self._variance * np.maximum(unexplained, 0.0))
        return self._mean + likeness @ self._weights, deviation

    def pretend(self, profiles: Array) -> None:
        """Take layouts that are still out as measured, with the metric that is expected of them.

        What is expected elsewhere stays; what is uncertain about them and their like goes.
        """
        known = np.concatenate((self._known, self._standardised(profiles)))
        n, n_more = len(self._known), len(profiles)
        likeness = _matern(self._distances(known[n:], known), self._reach)
        root = np.zeros((n + n_more, n + n_more))
        root[:n, :n] = self._root
        root[n:, :n] = solve_triangular(self._root, likeness[:, :n].T, lower=True).T
        left = likeness[:, n:] + self._noise * np.eye(n_more) - root[n:, :n] @ root[n:, :n].T
        root[n:, n:] = cholesky(left, lower=True)
        self._fitted = np.concatenate((self._fitted, likeness[:, :n] @ self._weights))
        self._weights = np.concatenate((self._weights, np.zeros(n_more)))  # for nothing else is expected elsewhere
        self._known, self._root = known, root

    def expected_improvement(self, profiles: Array) -> Array:
        """Say by how much each is expected to beat the best of the known ones, (n,)."""
        expected, deviation = self.predict(profiles)
        best = self._mean + self._fitted.max()
        deviation = np.maximum(deviation, _LEAST_SPREAD)
        ahead = (expected - best) / deviation
        gain: Array = deviation * (ahead * ndtr(ahead) + np.exp(-(ahead**2) / 2) / math.sqrt(2 * math.pi))
        return gain

    def _standardised(self, profiles: Array) -> Array:
        standardised: Array = (profiles - self._centre)[:, self._varies] / self._spread
        return standardised

    def _distances(self, some: Array, others: Array) -> Array:
        """Give the root mean squared difference of each pair, (n_some, n_other)."""
        squares = (some**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * some @ others.T
        distances: Array = np.sqrt(np.maximum(squares, 0.0) / max(some.shape[1], 1))
        return distances

    def _choices(self, metrics: Array) -> Iterator[tuple[float, float, float, float]]:
        """Try each reach and noise: the logarithm of how likely the metrics are, and the variance that fits best."""
        some = np.linspace(0, len(metrics) - 1, min(len(metrics), _N_TO_CHOOSE_BY)).round().astype(int)
        metrics, n_measured = metrics[some], len(some)
        distances = self._distances(self._known[some], self._known[some])
        identity = np.eye(n_measured)
        for reach in _REACHES:
            likeness = _matern(distances, reach)
            for noise in _NOISES:
                # LAPACK itself: on matrices as small as these, what scipy.linalg does around it takes as long.
                root, failed = dpotrf(likeness + noise * identity, lower=True)
                if failed:
                    raise np.linalg.LinAlgError(f"of {n_measured} layouts, those to {failed} are too much alike")
                explained, _ = dtrtrs(root, metrics, lower=True)
                variance = max(float(explained @ explained) / n_measured, _LEAST_SPREAD)
                likelihood = -n_measured / 2 * math.log(variance) - float(np.log(root.diagonal()).sum())
                yield likelihood, reach, noise, variance


def _matern(distances: Array, reach: float) -> Array:
    scaled = math.sqrt(5) * distances / reach
    likeness: Array = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
    return likeness
