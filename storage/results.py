"""Fronts and winners over what is remembered."""

from __future__ import annotations

from collections.abc import Sequence

from objectives.metrics import METRICS, Measurement
from objectives.pareto import front
from objectives.statistics import Estimate
from storage.axis import axis_of
from storage.records import NewStudy, TrialRecord, TrialState

__all__ = ["best_of", "estimate_of", "front_of", "fronts_of", "measured"]


def estimate_of(measurement: Measurement | None, metric: str) -> Estimate | None:
    """Give a measurement's estimate of a metric, by the name that a study gives the metric."""
    return None if measurement is None else measurement.values.get(METRICS[metric].name)


def measured(study: NewStudy, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Keep the complete trials that have the study's metric and its cost, each candidate once."""
    axis = axis_of(study)
    return [
        trial
        for trial in trials
        if trial.state is TrialState.COMPLETE
        and trial.duplicate_of is None
        and estimate_of(trial.measurement, study.metric) is not None
        and axis.is_known(trial)
    ]


def front_of(study: NewStudy, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Find the trials that none other beats at no greater cost, by rising cost."""
    axis, candidates = axis_of(study), measured(study, trials)
    points = [(axis.of(trial).value, _value(trial, study.metric)) for trial in candidates]
    return [candidates[index] for index in front(points)]


def fronts_of(study: NewStudy, trials: Sequence[TrialRecord]) -> dict[str, list[TrialRecord]]:
    """Find each method's own front, as if it had been searched alone; one that was never measured has none."""
    return {method: front_of(study, [trial for trial in trials if trial.method == method]) for method in study.methods}


def best_of(study: NewStudy, trials: Sequence[TrialRecord], max_gflops: float | None = None) -> TrialRecord | None:
    """Find the trial with the highest metric at no more than ``max_gflops``; of equals the cheapest, then the first."""
    axis = axis_of(study)
    allowed = [trial for trial in measured(study, trials) if max_gflops is None or trial.gflops <= max_gflops]
    return min(
        allowed,
        key=lambda trial: (-_value(trial, study.metric), axis.of(trial).value, trial.number),
        default=None,
    )


def _value(trial: TrialRecord, metric: str) -> float:
    estimate = estimate_of(trial.measurement, metric)
    if estimate is None:
        raise ValueError(f"trial {trial.number} has no {metric}")
    return estimate.value
