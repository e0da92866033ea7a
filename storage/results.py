"""Fronts and winners over what is remembered."""

from __future__ import annotations

from collections.abc import Sequence

from objectives.metrics import METRICS, Measurement
from objectives.pareto import front
from objectives.statistics import Estimate
from storage.records import NewStudy, TrialRecord, TrialState

__all__ = ["best_of", "estimate_of", "front_of", "fronts_of", "measured"]


def estimate_of(measurement: Measurement | None, metric: str) -> Estimate | None:
    """Give a measurement's estimate of a metric, by the name that a study gives the metric."""
    return None if measurement is None else measurement.values.get(METRICS[metric].name)


def measured(trials: Sequence[TrialRecord], metric: str) -> list[TrialRecord]:
    """Keep the complete trials that have the metric, each candidate once."""
    return [
        trial
        for trial in trials
        if trial.state is TrialState.COMPLETE
        and trial.duplicate_of is None
        and estimate_of(trial.measurement, metric) is not None
    ]


def front_of(trials: Sequence[TrialRecord], metric: str) -> list[TrialRecord]:
    """Find the trials that none other beats at no greater cost, by rising cost."""
    candidates = measured(trials, metric)
    return [candidates[index] for index in front([(trial.gflops, _value(trial, metric)) for trial in candidates])]


def fronts_of(study: NewStudy, trials: Sequence[TrialRecord]) -> dict[str, list[TrialRecord]]:
    """Find each method's own front, as if it had been searched alone; one that was never measured has none."""
    return {
        method: front_of([trial for trial in trials if trial.method == method], study.metric)
        for method in study.methods
    }


def best_of(trials: Sequence[TrialRecord], metric: str, max_gflops: float | None = None) -> TrialRecord | None:
    """Find the trial with the highest metric at no more than ``max_gflops``; of equals the cheapest, then the first."""
    allowed = [trial for trial in measured(trials, metric) if max_gflops is None or trial.gflops <= max_gflops]
    return min(allowed, key=lambda trial: (-_value(trial, metric), trial.gflops, trial.number), default=None)


def _value(trial: TrialRecord, metric: str) -> float:
    estimate = estimate_of(trial.measurement, metric)
    if estimate is None:
        raise ValueError(f"trial {trial.number} has no {metric}")
    return estimate.value
