"""A study as pictures need it: all points in memory, brought up to date by reading only what is new."""

from __future__ import annotations

import gc
import threading
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from objectives.metrics import LATENCY, METRICS
from objectives.pareto import front, hypervolume
from objectives.statistics import Estimate
from storage import MeasurementKind, Store, StudyRecord, TrialState
from storage.axis import axis_of
from storage.browsing import MeasuredPoint, TrialPoint

__all__ = ["History", "Milestone", "Point", "StudySnapshot"]


# Looked up, for a hundred thousand trials at once: to make a state of its name takes ten times as long.
_STATES = {state.value: state for state in TrialState}
_FINISHED = frozenset(state for state in TrialState if state.is_finished)


class Point(NamedTuple):
    """A trial that was measured, on all images or until it was stopped; the estimate is of its study's metric.

    The cost is of its study's axis, see ``storage.axis``; it has an interval where it was timed.
    """

    number: int
    method: str
    cost: float
    value: float
    low: float | None
    high: float | None
    n_images: int
    cost_low: float | None = None
    cost_high: float | None = None

    @property
    def estimate(self) -> Estimate:
        """The metric with its interval."""
        return Estimate(self.value, self.low, self.high)

    @property
    def cost_estimate(self) -> Estimate:
        """The cost with its interval."""
        return Estimate(self.cost, self.cost_low, self.cost_high)


class _Measured(NamedTuple):
    """What was measured of a trial: the metric, and its latency where the study's cost is one and it was timed."""

    metric: MeasuredPoint
    latency: MeasuredPoint | None


class Milestone(NamedTuple):
    """Where a study stood when its front changed: after so many finished trials."""

    n_finished: int
    best: float
    hypervolume: float


class History:
    """The front as it grows, one measured point after another.

    >>> history = History(reference=(4.0, 0.0))
    >>> for n, (cost, merit) in enumerate([(2.0, 70.0), (3.0, 60.0), (1.0, 60.0)], start=1):
    ...     history.add(n, cost, merit)
    >>> [(m.n_finished, m.best, m.hypervolume) for m in history.milestones]
    [(1, 70.0, 140.0), (3, 70.0, 200.0)]
    """

    def __init__(self, reference: tuple[float, float]) -> None:
        """Begin an empty front; areas are measured up to ``reference``, a cost and a merit."""
        self.reference = reference
        self.milestones: list[Milestone] = []
        self._costs: list[float] = []
        self._merits: list[float] = []  # rises with the cost

    def add(self, n_finished: int, cost: float, merit: float) -> None:
        """Take in a point that was measured as the ``n_finished``-th."""
        cheaper = bisect_right(self._costs, cost)
        if cheaper and self._merits[cheaper - 1] >= merit:
            return
        first = bisect_left(self._costs, cost)
        last = max(first, bisect_right(self._merits, merit))
        self._costs[first:last], self._merits[first:last] = [cost], [merit]
        area = hypervolume(list(zip(self._costs, self._merits, strict=True)), self.reference)
        self.milestones.append(Milestone(n_finished, self._merits[-1], area))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Look for no garbage meanwhile: among a hundred thousand new points, which stay, that takes half of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class StudySnapshot:
    """All measured trials of one study. Safe to use from several threads.

    Attributes:
        study: its record.
        axis: what its metric is traded against.
        measured: complete trials, each candidate once, in the order in which they were seen to be finished.
        stopped: trials that lost their race or turned out to be over the budget, likewise; never on the front.
        front: what nothing measured dominates, by rising cost.
        confirmed: what was measured on unseen images, by trial.
        history: of the front.
        counts: trials by their state.
    """

    def __init__(self, store: Store, study: StudyRecord) -> None:
        self._store, self._lock = store, threading.Lock()
        self.study, self.axis = study, axis_of(study)
        self.measured: list[Point] = []
        self.stopped: list[Point] = []
        self.front: list[Point] = []
        self.confirmed: dict[int, Point] = {}
        self.history = History(reference=(self.axis.dense, 0.0))
        self.counts: Counter[TrialState] = Counter()
        self._metric = METRICS[study.metric].name
        self._trials: dict[int, TrialPoint] = {}  # by row: only those that may still get a measurement or be confirmed
        self._measurements: dict[int, _Measured] = {}  # by row, of trials not yet seen to be finished
        self._points: dict[int, Point] = {}  # by number
        self._unfinished: set[int] = set()
        self._n_trials = self._n_finished = self._last_measurement = 0
        self._draws: dict[int, dict[str, Any]] = {}

    def refresh(self) -> None:
        """Read what is new."""
        with self._lock, _uncollected():
            self.study = self._store.study(self.study.name)
            from_number = min(self._unfinished, default=self._n_trials)
            names = [self._metric, LATENCY] if self.axis.cost == LATENCY else [self._metric]
            trials, measurements = self._store.browse.points(
                self.study.id, names, from_number=from_number, after_measurement=self._last_measurement
            )
            n_before = len(self.measured)
            confirmations = self._take_measurements(measurements)
            for trial in trials:
                self._take_trial(trial)
            for confirmation in confirmations:
                self._take_confirmation(confirmation)
            if len(self.measured) > n_before:
                points = self.front + self.measured[n_before:]
                self.front = [points[index] for index in front([(point.cost, point.value) for point in points])]

    @property
    def parameters(self) -> tuple[str, ...]:
        """What a sampler draws: the same for all trials, so that one tells."""
        return self._store.browse.parameters(self.study.id)

    def draws(self, numbers: list[int]) -> list[dict[str, Any]]:
        """Give the sampler's draws of some trials; they are read when they are first asked for."""
        with self._lock:
            for number, draw in self._store.browse.draws(self.study.id, from_number=len(self._draws)):
                self._draws[number] = draw
            return [self._draws[number] for number in numbers]

    def point(self, number: int) -> Point | None:
        """Give a trial's point; ``None`` where it has none: it was not measured, or equals another."""
        return self._points.get(number)

    @property
    def version(self) -> tuple[int, int, int, int]:
        """Changes whenever something that is drawn has changed."""
        return self.study.id, len(self.measured), len(self.stopped), len(self.confirmed)

    @property
    def n_finished(self) -> int:
        """Trials with which nothing more will happen."""
        return self._n_finished

    @property
    def best(self) -> Point | None:
        """The point with the highest metric; of equals the cheapest, then the first."""
        return self.best_under(None)

    def best_under(self, cost: float | None) -> Point | None:
        """The point with the highest metric at no more than this cost."""
        allowed = [point for point in self.front if cost is None or point.cost <= cost]
        return allowed[-1] if allowed else None

    def hypervolume(self, reference: tuple[float, float]) -> float:
        """Measure the area under the front up to a cost and a merit."""
        return hypervolume([(point.cost, point.value) for point in self.front], reference)

    def _take_measurements(self, measurements: list[MeasuredPoint]) -> list[_Measured]:
        """Keep measurements for the trials that they are of, and give those on unseen images."""
        latencies = {each.measurement: each for each in measurements if each.metric == LATENCY}
        confirmations = []
        for measurement in measurements:
            if measurement.metric != self._metric:
                continue
            self._last_measurement = max(self._last_measurement, measurement.measurement)
            measured = _Measured(measurement, latencies.get(measurement.measurement))
            if measurement.kind == MeasurementKind.SEARCH:
                self._measurements[measurement.trial_row] = measured
            else:
                confirmations.append(measured)
        return confirmations

    def _take_confirmation(self, measured: _Measured) -> None:
        trial = self._trials[measured.metric.trial_row]
        point, searched = _point(trial, measured), self._points.get(trial.number)
        if measured.latency is None and searched is not None:  # timed on the search images alone, or never
            point = point._replace(cost=searched.cost, cost_low=searched.cost_low, cost_high=searched.cost_high)
        self.confirmed[trial.number] = point

    def _take_trial(self, trial: TrialPoint) -> None:
        state = _STATES[trial.state]
        known = self._trials.get(trial.row)
        if known is not None:
            if known.state in _FINISHED:
                return
            self.counts[_STATES[known.state]] -= 1
        self._trials[trial.row] = trial
        self.counts[state] += 1
        self._n_trials = max(self._n_trials, trial.number + 1)
        if state not in _FINISHED:
            self._unfinished.add(trial.number)
            return
        self._unfinished.discard(trial.number)
        self._n_finished += 1
        measurement = self._measurements.pop(trial.row, None)
        if measurement is None or trial.duplicate_of is not None:
            return
        if self.axis.cost == LATENCY and measurement.latency is None:
            return  # it has no place on the axis
        point = self._points[trial.number] = _point(trial, measurement)
        if state in (TrialState.STOPPED, TrialState.INFEASIBLE):
            self.stopped.append(point)
        elif state is TrialState.COMPLETE:
            self.measured.append(point)
            self.history.add(self._n_finished, point.cost, point.value)


def _point(trial: TrialPoint, measured: _Measured) -> Point:
    metric, latency = measured
    cost = (trial.gflops, None, None) if latency is None else (latency.value, latency.low, latency.high)
    about = (metric.value, metric.low, metric.high, metric.n_images)
    return Point(trial.number, trial.method, cost[0], *about, cost_low=cost[1], cost_high=cost[2])
