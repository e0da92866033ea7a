"""The race: a candidate is measured no further once it has lost against a better one.

For a front, against the best that costs no more: where only measuring tells what a candidate costs, no more than the
least that it can, so that few of these have a rival on a front. Under one budget it is the best of all that are within
it: their costs differ only by what repair leaves over, and it is the best that is looked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from objectives.evaluator import Hits
from objectives.metrics import METRICS, Measurement
from objectives.sequential import Standing, evidence_of_losing
from objectives.statistics import unpack

__all__ = ["Race", "Rivals"]


@dataclass(frozen=True)
class Race:
    """One candidate's race, as it travels to the worker that measures it.

    Attributes:
        metric: the metric's name in measurements.
        rival: the trial to beat.
        outcomes: of the rival, on all images, packed.
        n_images: how many there are.
        error_rate: how often, at most, a candidate may be stopped that would have beaten its rival on all images.
        margin: images by which it would have had to.
    """

    metric: str
    rival: int
    outcomes: bytes
    n_images: int
    error_rate: float
    margin: int

    def is_lost(self, hits: Hits) -> bool:
        """Say whether a candidate with these outcomes on the first images need see no more of them."""
        standing = Standing.of(hits[self.metric], unpack(self.outcomes, self.n_images))
        return evidence_of_losing(standing, self.margin) >= 1 / self.error_rate


@dataclass(frozen=True)
class _Runner:
    number: int
    gflops: float
    value: float
    measurement: Measurement


class Rivals:
    """The candidates measured on all images, among which each later one finds the one it has to beat."""

    def __init__(self, metric: str, error_rate: float, *, is_front: bool, margin_pct: float = 0.0) -> None:
        """Begin without any.

        Args:
            metric: a key of ``METRICS``.
            error_rate: see ``Race``.
            is_front: whether a rival may cost no more than the candidate, or just be within the budget.
            margin_pct: points of the metric; to beat a rival by no more is not worth the images.
        """
        self._is_front = is_front
        self._metric = METRICS[metric].name
        self._error_rate, self._margin_pct = error_rate, margin_pct
        self._runners: dict[int, _Runner] = {}
        self._contenders: list[_Runner] = []
        self._n_considered = 0  # trials below this

    def add(self, number: int, gflops: float, measurement: Measurement) -> None:
        """Take in a candidate that was measured on all images."""
        if self._metric in measurement.outcomes:
            value = measurement.values[self._metric].value
            self._runners[number] = _Runner(number, gflops, value, measurement)

    def race(self, gflops: float, *, before: int) -> Race | None:
        """Find whom a candidate of this cost has to beat, of the trials below ``before``: the best allowed.

        Of equals it is the cheapest, then the first. Nobody, where none is allowed. All trials below ``before`` must be
        finished.
        """
        self._consider(before)
        limit = gflops if self._is_front else math.inf
        rival = min(
            (each for each in self._contenders if each.number < before and each.gflops <= limit),
            key=lambda each: (-each.value, each.gflops, each.number),
            default=None,
        )
        if rival is None:
            return None
        outcomes, n_images = rival.measurement.outcomes[self._metric], rival.measurement.n_images
        margin = math.floor(self._margin_pct / 100 * n_images)
        return Race(self._metric, rival.number, outcomes, n_images, self._error_rate, margin)

    def _consider(self, before: int) -> None:
        """Find the contenders below ``before``: whoever is no better than an earlier one will be nobody's rival."""
        for number in range(self._n_considered, before):
            runner = self._runners.get(number)
            if runner is not None and not any(self._is_no_better(runner, than) for than in self._contenders):
                self._contenders.append(runner)
        self._n_considered = max(self._n_considered, before)

    def _is_no_better(self, one: _Runner, than: _Runner) -> bool:
        is_dearer = than.gflops <= one.gflops
        if self._is_front:
            return is_dearer and than.value >= one.value
        return than.value > one.value or (than.value == one.value and is_dearer)

    def n_images(self, number: int) -> int:
        """Say how many images a candidate was measured on that was measured on all."""
        return self._runners[number].measurement.n_images

    def expected(self, measurement: Measurement, rival: int) -> float:
        """Guess what a stopped candidate would have reached: its rival's value, changed by what lies between the two.

        For the sampler alone, which compares it with candidates that saw all images. What is stored and shown is what
        was measured.
        """
        whole = self._runners[rival]
        seen = measurement.hits(self._metric)
        of_rival = whole.measurement.hits(self._metric, measurement.n_images)
        return whole.value + 100 * float(seen.mean() - of_rival.mean())
