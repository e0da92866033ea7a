"""Progress for whoever waits."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

from dashboard.words import with_interval
from objectives.metrics import LATENCY, Measurement
from search.cli.output import say
from search.progress import Progress
from storage.axis import CostAxis
from storage.results import estimate_of

__all__ = ["ProgressLine"]

_SECONDS_BETWEEN_LINES = 10.0


class ProgressLine:
    """Progress on stderr: a live line on a terminal, elsewhere a line now and then."""

    def __init__(self, metric: str, axis: CostAxis) -> None:
        self._metric, self._axis = metric, axis
        self._bar: tqdm[Any] | None = None
        self._started = self._said = time.monotonic()
        self._n_at_start: int | None = None

    def __call__(self, progress: Progress) -> None:
        """Show how far a search is."""
        if self._n_at_start is None:
            self._n_at_start = progress.n_finished
        line = self._line(progress)
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = tqdm(total=progress.n_trials, bar_format="{desc}", file=sys.stderr)
            self._bar.set_description_str(line)
            return
        now = time.monotonic()
        if now - self._said >= _SECONDS_BETWEEN_LINES or progress.n_finished == progress.n_trials:
            say(line)
            self._said = now

    def close(self) -> None:
        """Leave the live line as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _line(self, progress: Progress) -> str:
        n_proposed = progress.n_proposed
        drawn = "" if not n_proposed else f" ({1 - progress.n_over_budget / n_proposed:.0%} as drawn)"
        n_measured = progress.n_finished - progress.n_failed
        feasible = 1 - progress.n_infeasible / max(1, n_measured)
        parts = [f"trials {progress.n_finished}/{progress.n_trials}", f"feasible {feasible:.0%}{drawn}"]
        if progress.best is not None:
            measurement = progress.best[1]
            best = with_interval(estimate_of(measurement, self._metric))
            parts.append(f"best {best} @ {self._cost(measurement)}")
        if progress.n_stopped:
            parts.append(f"{progress.n_stopped} stopped early, {progress.spared_share:.0%} of images spared")
        if progress.n_failed:
            parts.append(f"{progress.n_failed} failed")
        n_done = progress.n_finished - (self._n_at_start or 0)
        if n_done and progress.n_finished < progress.n_trials:
            seconds = (time.monotonic() - self._started) / n_done * (progress.n_trials - progress.n_finished)
            parts.append(f"ETA {_duration(seconds)}")
        return " · ".join(parts)

    def _cost(self, measurement: Measurement) -> str:
        latency, axis = measurement.latency_ms, self._axis
        if axis.cost == LATENCY and latency is not None:
            return f"{latency.value:.4g}" + (f"/{axis.high:.4g} ms" if axis.high is not None else " ms")
        return f"{measurement.gflops:.4g}/{axis.high:.4g} GF"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
