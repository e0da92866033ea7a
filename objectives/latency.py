"""How long a model takes on the machine at hand: several ways of running it, timed in turn."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from objectives.runtimes import Run

__all__ = ["Latency", "time_in_turn"]

Name = TypeVar("Name", bound=Hashable)
_WARM_UP = 3
_LEAST_ROUNDS, _MOST_ROUNDS = 7, 1000


@dataclass(frozen=True)
class Latency:
    """The time of one forward pass.

    Attributes:
        batch_size: images of it.
        median_ms: over all runs.
        low_ms: the quarter of the runs that was fastest took no longer.
        high_ms: the quarter that was slowest took no less.
        n_runs: timed, after some to warm up.
    """

    batch_size: int
    median_ms: float
    low_ms: float
    high_ms: float
    n_runs: int

    @property
    def images_per_s(self) -> float:
        """Images that the median leaves for a second."""
        return 1000 * self.batch_size / self.median_ms


def time_in_turn(runs: Mapping[Name, Run], images: Tensor, *, seconds: float = 2.0) -> dict[Name, Latency]:
    """Time several ways of running a model, one run of each after the other, round by round.

    What disturbs the machine meanwhile then disturbs all of them, and their ratios stay.

    Args:
        runs: by name; each is run three times first, which compiles what is compiled at its first run.
        images: the batch, on the device that they run on.
        seconds: to spend on each, of at least 7 and at most 1000 rounds.

    Returns:
        Under each name its latency.
    """
    for run in runs.values():
        for _ in range(_WARM_UP):
            run(images)
    times: dict[Name, list[float]] = {name: [] for name in runs}
    until = time.perf_counter() + seconds * len(runs)
    for n_round in range(_MOST_ROUNDS):
        if n_round >= _LEAST_ROUNDS and time.perf_counter() > until:
            break
        for name, run in runs.items():
            times[name].append(_time_once(run, images))
    return {name: _latency(images.shape[0], taken) for name, taken in times.items()}


def _time_once(run: Run, images: Tensor) -> float:
    _wait_for(images)
    started = time.perf_counter()
    run(images)
    _wait_for(images)
    return 1000 * (time.perf_counter() - started)


def _wait_for(images: Tensor) -> None:
    """Wait until the device has done what it was given: a GPU works on while its caller goes ahead."""
    if images.is_cuda:
        torch.cuda.synchronize(images.device)


def _latency(batch_size: int, times_ms: list[float]) -> Latency:
    low, median, high = np.quantile(times_ms, (0.25, 0.5, 0.75))
    return Latency(batch_size, float(median), float(low), float(high), len(times_ms))
