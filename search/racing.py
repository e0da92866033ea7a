"""The race: a candidate is measured no further once it has lost against a better one.

For a front, against the best that costs no more: where only measuring tells what a candidate costs, no more than the
least that it can, so that few of these have a rival on a front. Under one budget it is the best of all that are within
it: their costs differ only by what repair leaves over, and it is the best that is looked for.

A candidate has lost when it has made as many mistakes as its rival made on all images: whatever it does on the others
cannot undo them. So nobody is stopped who would have won, or, less a margin, won by more than that; and what remains is
to meet the mistakes early. A candidate first sees a random sample, which tells how good it is, and then the images that
the best were wrong on, its rival's first.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from objectives.evaluator import Hits
from objectives.metrics import METRICS, Measurement
from objectives.visits import Visits

__all__ = ["Race", "Rivals"]

_LEAST_SAMPLE = 32
_SAMPLE_SHARE = 32  # of many images one in so many
_N_GUIDES = 4  # whose mistakes order the images


@dataclass(frozen=True)
class Race:
    """One candidate's race, as it travels to the worker that measures it.

    Attributes:
        metric: the metric's name in measurements.
        rival: the trial to beat.
        visits: the order in which images are seen.
        n_mistakes: with so many it is lost.
    """

    metric: str
    rival: int
    visits: Visits
    n_mistakes: int

    def is_lost(self, hits: Hits) -> bool:
        """Say whether a candidate with these outcomes, on the images seen first, need see no more of them."""
        seen = hits[self.metric]
        return len(seen) >= self.visits.n_sample and int((~seen).sum()) >= self.n_mistakes


@dataclass(frozen=True)
class _Runner:
    number: int
    gflops: float
    value: float
    n_images: int
    mistakes: NDArray[np.bool_]  # (n_images,)


class Rivals:
    """The candidates measured on all images, among which each later one finds the one it has to beat."""

    def __init__(self, metric: str, *, is_front: bool, margin_pct: float = 0.0) -> None:
        """Begin without any.

        Args:
            metric: a key of ``METRICS``.
            is_front: whether a rival may cost no more than the candidate, or just be within the budget.
            margin_pct: points of the metric; to beat a rival by no more is not worth the images.
        """
        self._is_front = is_front
        self._metric = METRICS[metric].name
        self._margin_pct = margin_pct
        self._runners: dict[int, _Runner] = {}
        self._contenders: list[_Runner] = []
        self._n_wrong: NDArray[np.int32] | int = 0  # (n_images,), how many of those considered were, on each image
        self._n_considered = 0  # trials below this

    def add(self, number: int, gflops: float, measurement: Measurement) -> None:
        """Take in a candidate that was measured on all images."""
        if self._metric in measurement.outcomes:
            hits = measurement.hits(self._metric)
            self._runners[number] = _Runner(number, gflops, float(hits.mean()), len(hits), ~hits)

    def race(self, gflops: float, *, before: int) -> Race | None:
        """Find whom a candidate of this cost has to beat, of the trials below ``before``: the best allowed.

        Of equals it is the cheapest, then the first. Nobody, where none is allowed. All trials below ``before`` must be
        finished.
        """
        self._consider(before)
        limit = gflops if self._is_front else math.inf
        allowed = (each for each in self._contenders if each.number < before and each.gflops <= limit)
        best = heapq.nsmallest(_N_GUIDES, allowed, key=lambda each: (-each.value, each.gflops, each.number))
        if not best:
            return None
        rival = best[0]
        n_sample = min(rival.n_images, max(_LEAST_SAMPLE, rival.n_images // _SAMPLE_SHARE))
        visits = Visits(n_sample, np.array([each.mistakes for each in best]), self._how_many_were_wrong(before))
        margin = math.floor(self._margin_pct / 100 * rival.n_images)
        n_mistakes = int(rival.mistakes.sum()) - margin
        return Race(self._metric, rival.number, visits, n_mistakes)

    def _consider(self, before: int) -> None:
        """Find the contenders below ``before``: who is no better than enough earlier ones is never among the best."""
        for number in range(self._n_considered, before):
            runner = self._runners.get(number)
            if runner is None:
                continue
            n_better = sum(self._is_no_better(runner, than) for than in self._contenders)
            if n_better < _N_GUIDES:
                self._contenders.append(runner)
            self._n_wrong = self._n_wrong + runner.mistakes.astype(np.int32)
        self._n_considered = max(self._n_considered, before)

    def _how_many_were_wrong(self, before: int) -> NDArray[np.int32]:
        """Count for each image who was wrong on it, of all below ``before``; later ones may have been considered."""
        later = [self._runners[number] for number in range(before, self._n_considered) if number in self._runners]
        return np.asarray(self._n_wrong - sum(runner.mistakes.astype(np.int32) for runner in later))

    def _is_no_better(self, one: _Runner, than: _Runner) -> bool:
        is_dearer = than.gflops <= one.gflops
        if self._is_front:
            return is_dearer and than.value >= one.value
        return than.value > one.value or (than.value == one.value and is_dearer)

    def n_images(self, number: int) -> int:
        """Say how many images a candidate was measured on that was measured on all."""
        return self._runners[number].n_images
