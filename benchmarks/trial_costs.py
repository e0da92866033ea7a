"""What a trial costs its driver, its store and its way to a worker and back: the figures of docs/scaling.md.

``benchmarks.scaling`` prints them. The whole driver runs, with its sampler, its space and its rows; only the workers
are replaced, by a formula that answers at once. The way to a worker is timed with a layout that it refuses at once.
"""

from __future__ import annotations

import pickle
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.driver_overhead import drive
from search.workbench import Workbench
from search.workers import RayExecutor
from spaces import RandomDrop
from tests.postgres import PostgresServer

__all__ = ["driving", "shipped", "way_and_back"]

_BUDGET = "65%"
_N_RANDOM = 300
_NOWHERE = RandomDrop(after=(99,), keep_rate=(0.5,))  # no model has so many blocks


def driving(n_trials: int) -> dict[str, float]:
    """Say what asking, telling and recording take of a trial, in milliseconds, and what it takes of the store."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for sampler in ("tpe", "nsga2", "random"):
            file = Path(folder) / f"{sampler}.db"
            progress = drive(sampler, _BUDGET, n_trials, f"sqlite:///{file}")
            found[f"ms to ask and tell, {sampler}, mean of {n_trials} trials"] = _ms(
                progress.seconds["asking"] + progress.seconds["telling"], n_trials
            )
        found["ms to record (add, start, finish), SQLite"] = _ms(progress.seconds["recording"], n_trials)
        found["bytes of a trial's rows, SQLite"] = round(file.stat().st_size / n_trials)
    with PostgresServer() as server:
        progress = drive("random", _BUDGET, _N_RANDOM, server.new_database())
        found["ms to record (add, start, finish), PostgreSQL"] = _ms(progress.seconds["recording"], _N_RANDOM)
    return found


def way_and_back(executor: RayExecutor, n_times: int = 100) -> dict[str, float]:
    """Say how long a candidate is on its way to a worker and its outcome on the way back, in milliseconds."""
    seconds = []
    for number in range(n_times):
        started = time.perf_counter()
        executor.submit(number, _NOWHERE)
        while executor.next_outcome(1.0) is None:
            pass
        seconds.append(time.perf_counter() - started)
    return {"ms to submit and fetch an outcome": round(1000 * statistics.median(seconds), 2)}


def shipped(bench: Workbench) -> dict[str, int]:
    """Say what travels to each node once."""
    with tempfile.TemporaryFile() as file:
        pickle.dump(bench.loaded, file)
        weights = file.tell()
    return {
        "bytes to each node, weights": weights,
        "bytes to each node, images": bench.search_images.pixels.nbytes,
    }


def _ms(seconds: float, n_trials: int) -> float:
    return round(1000 * seconds / n_trials, 2)
