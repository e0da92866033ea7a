"""How long a model takes on the machine at hand: several ways of running it in turn, or one alone."""

from __future__ import annotations

import platform
import socket
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from objectives.machine import Machine
from objectives.runtimes import Run
from objectives.statistics import Estimate, median_of

__all__ = ["Latency", "machine_at_hand", "time_alone", "time_in_turn"]

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
        _warm_up(run, [images])
    times: dict[Name, list[float]] = {name: [] for name in runs}
    until = time.perf_counter() + seconds * len(runs)
    for n_round in range(_MOST_ROUNDS):
        if n_round >= _LEAST_ROUNDS and time.perf_counter() > until:
            break
        for name, run in runs.items():
            times[name].append(_time_once(run, images))
    return {name: _latency(images.shape[0], taken) for name, taken in times.items()}


def time_alone(run: Run, batches: Sequence[Tensor], *, seconds: float, least_rounds: int = _LEAST_ROUNDS) -> Estimate:
    """Time one way of running a model, on one batch after the other and from the first again, after a warm-up.

    Args:
        run: what is timed.
        batches: of one size, on the device that it runs on: several, where the images decide how long it takes.
        seconds: to spend, on at most 1000 rounds.
        least_rounds: to be timed even if that takes longer.

    Returns:
        The median of a forward pass in ms, with its 95 % interval. It covers what runs at this time scatter by; that
        the machine is slower or faster at another time it cannot know.
    """
    _warm_up(run, batches)
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < least_rounds or (len(times) < _MOST_ROUNDS and time.perf_counter() < until):
        times.append(_time_once(run, batches[len(times) % len(batches)]))
    return median_of(np.array(times))


def _warm_up(run: Run, batches: Sequence[Tensor]) -> None:
    for number in range(_WARM_UP):
        run(batches[number % len(batches)])


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


def machine_at_hand(device: str, threads: int) -> Machine:
    """Describe this machine and torch as it runs a model here, in float32.

    Args:
        device: ``cpu`` or ``cuda``.
        threads: that torch has of the CPU.
    """
    processor = str(torch.cuda.get_device_name()) if device == "cuda" else _processor()
    version = torch.__version__
    return Machine(processor, threads, f"torch {version}, eager, float32", socket.gethostname())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
