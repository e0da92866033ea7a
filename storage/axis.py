"""What a study trades its metric against: the one place that decides it, for fronts, pictures, files and samplers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from objectives.machine import Machine
from objectives.metrics import GFLOPS, LATENCY, Cost, Measurement
from objectives.statistics import Estimate
from spaces import LatencyBudget
from storage.records import NewStudy, TrialRecord

__all__ = ["CostAxis", "Timing", "axis_of", "overrun_line", "quantity", "timing_of"]


@dataclass(frozen=True)
class Timing:
    """How a study times its trials, as its ``spec`` keeps it.

    Attributes:
        machine: on what; no trial of the study was timed on another.
        dense_ms: the dense model for one image, when the study began.
        budget: what bounds a trial; ``None`` where nothing does.
        is_objective: whether latency is minimised beside the metric, on a front.
        is_front: whether a front is looked for, be it one over GFLOPs.
    """

    machine: Machine
    dense_ms: float
    budget: LatencyBudget | None
    is_objective: bool
    is_front: bool

    def overrun_ms(self, measurement: Measurement) -> float:
        """Give the ms by which a latency is over the budget, by its interval's upper end; 0 where it is not."""
        latency = measurement.latency_ms
        if self.budget is None or latency is None:
            return 0.0
        return max(0.0, (latency.value if latency.high is None else latency.high) - self.budget.high_ms)

    def to_spec(self) -> dict[str, Any]:
        """Write it as plain values."""
        return asdict(self)

    @classmethod
    def from_spec(cls, values: Mapping[str, Any]) -> Timing:
        """Undo ``to_spec``."""
        budget = None if values["budget"] is None else LatencyBudget(**values["budget"])
        return cls(**{**values, "machine": Machine(**values["machine"]), "budget": budget})


@dataclass(frozen=True)
class CostAxis:
    """The cost of a study's layouts.

    Attributes:
        cost: its name in measurements.
        unit: behind a number.
        label: of an axis.
        is_objective: whether it is minimised beside the metric; else it only bounds one best layout.
        low: where the range of budgets begins; ``None`` for a single one, or none.
        high: the budget; ``None`` where there is none of this cost.
        dense: of the dense model.
    """

    cost: Cost
    unit: str
    label: str
    is_objective: bool
    low: float | None
    high: float | None
    dense: float

    def of(self, trial: TrialRecord, measurement: Measurement | None = None) -> Estimate:
        """Give a trial's cost, with its interval where it was measured.

        Args:
            trial: a complete one, or at least a timed one where the cost is a latency.
            measurement: which of its two; by default that on the search images. Where this one was not timed, the other
                was.

        Raises:
            ValueError: the cost is a latency, and the trial was never timed.
        """
        found = measurement or trial.measurement
        if self.cost == GFLOPS:
            measured = None if found is None else found.measured_gflops
            return Estimate(trial.gflops) if measured is None else measured
        for each in (found, trial.measurement):
            if each is not None and each.latency_ms is not None:
                return each.latency_ms
        raise ValueError(f"trial {trial.number} was never timed")

    def is_known(self, trial: TrialRecord) -> bool:
        """Say whether a trial's cost is known: GFLOPs always are."""
        return self.cost == GFLOPS or (trial.measurement is not None and trial.measurement.latency_ms is not None)

    def of_dense(self, measurement: Measurement) -> Estimate:
        """Give the dense model's cost."""
        if self.cost == LATENCY:
            return measurement.latency_ms or Estimate(self.dense)
        return Estimate(measurement.gflops)


def timing_of(study: NewStudy) -> Timing | None:
    """Say how a study times its trials; ``None`` where it does not."""
    spec = study.spec.get("timing")
    return None if spec is None else Timing.from_spec(spec)


def axis_of(study: NewStudy) -> CostAxis:
    """Decide what a study trades its metric against.

    It is latency where that is an objective, or where a latency alone bounds the one best layout; else GFLOPs.
    """
    timing = timing_of(study)
    if timing is not None and (timing.is_objective or not timing.is_front):
        return CostAxis(
            LATENCY,
            "ms",
            f"latency of one image (ms, {timing.machine})",
            timing.is_objective,
            None if timing.budget is None else timing.budget.low_ms,
            None if timing.budget is None else timing.budget.high_ms,
            timing.dense_ms,
        )
    return CostAxis(
        GFLOPS,
        "GFLOPs",
        "GFLOPs an image (one multiply-add counts one)",
        study.budget_low_gflops is not None,
        study.budget_low_gflops,
        study.budget_high_gflops,
        study.dense_gflops,
    )


def overrun_line(study: NewStudy, trial: TrialRecord) -> str:
    """Say what an infeasible trial was measured to cost, and over which budget that is."""
    timing, measurement = timing_of(study), trial.measurement
    if timing is not None and timing.budget is not None and measurement is not None and timing.overrun_ms(measurement):
        taken = quantity(measurement.latency_ms)
        return f"takes {taken} ms an image on {timing.machine}, over the budget of {timing.budget.high_ms:.4g} ms"
    return f"costs {trial.gflops:.4g} GFLOPs, measured, over the budget of {study.budget_high_gflops:.4g}"


def quantity(estimate: Estimate | None) -> str:
    """Write a cost with its interval, to four digits.

    >>> quantity(Estimate(3.41637, 3.40911, 3.43048))
    '3.416 [3.409, 3.43]'
    """
    return "-" if estimate is None else estimate.text(".4g", alone=".4g")
