"""Trials as a pandas table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from objectives.metrics import Measurement
from storage.records import TrialRecord

__all__ = ["dataframe_of"]


def dataframe_of(trials: Sequence[TrialRecord]) -> pd.DataFrame:
    """Make one row a trial: state and cost, metrics with their intervals, and the layout's settings.

    A column of a metric is called after it (``top1_pct``), its interval ``_low`` and ``_high``; what was measured
    on the confirm images begins with ``confirmed_``; the layout's settings begin with ``config_``. The metrics of a
    stopped trial are what the ``n_images`` that it saw, a random sample and the hardest, say of all.
    """
    return pd.DataFrame([_row(trial) for trial in trials])


def _row(trial: TrialRecord) -> dict[str, Any]:
    row: dict[str, Any] = {
        "number": trial.number,
        "state": trial.state.value,
        "method": trial.method,
        "gflops": trial.gflops,
        "overhead_gflops": trial.overhead_gflops,
        "drawn_gflops": trial.drawn_gflops,
    }
    row |= _columns("", trial.measurement) | _columns("confirmed_", trial.confirmation)
    row |= {
        "seconds": None if trial.measurement is None else trial.measurement.seconds,
        "batch_size": None if trial.measurement is None else trial.measurement.batch_size,
        "worker": trial.worker,
        "duplicate_of": trial.duplicate_of,
        "rival": trial.rival,
        "started_at": trial.started_at,
        "finished_at": trial.finished_at,
        "error": trial.error,
        "digest": trial.digest,
    }
    return row | {f"config_{name}": value for name, value in trial.config.items() if name != "method"}


def _columns(prefix: str, measurement: Measurement | None) -> dict[str, Any]:
    if measurement is None:
        return {}
    columns: dict[str, Any] = {}
    for name, estimate in measurement.values.items():
        columns[f"{prefix}{name}"] = estimate.value
        if estimate.low is not None:
            columns[f"{prefix}{name}_low"] = estimate.low
            columns[f"{prefix}{name}_high"] = estimate.high
    return columns | {f"{prefix}n_images": measurement.n_images}
