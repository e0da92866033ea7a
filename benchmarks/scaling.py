"""Parallel efficiency: the same candidates on one worker and on two, in turn, and what a trial costs its driver.

    python -m benchmarks.scaling --rounds 5 --candidates 24 --output build/bench/scaling.json

Efficiency is the throughput of two workers over twice that of one, the median over rounds; each worker has one thread.
Says the machine's load beside it: on a busy machine two workers share what one has to itself. What a trial costs is of
a driver whose workers answer at once, see ``benchmarks.trial_costs``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.results import write_results
from benchmarks.trial_costs import driving, shipped, way_and_back
from search import Execution, SearchSettings
from search.cluster import Cluster
from search.executors import Batching
from search.sampler import Sampler
from search.workbench import Workbench, load
from search.workers import RayExecutor
from spaces import PruningConfig

_BATCH = 64


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=24)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--trials", type=int, default=1000, help="over which a driver's costs are the mean")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    data = {"data": "shapes", "n_search": options.images, "n_confirm": 0}
    settings = {"study": "scaling", "model": "shapes_vit_small", "data": data, "budget": "65%", "look_ahead": 8}
    bench = load(SearchSettings.parse(settings | {"batch_size": _BATCH, "precision": "float32"}))
    sampler = Sampler("random", bench.problem.parameters(), seed=0, is_front=False)
    configs = [bench.problem.propose(sampler.ask(number).params).config for number in range(options.candidates)]
    results = efficiency(bench, configs, options.rounds) | shipped(bench) | driving(options.trials)
    print(tabulate(results.items(), headers=["", ""]))
    write_results(results, options.output)


def efficiency(bench: Workbench, configs: list[PruningConfig], rounds: int) -> dict[str, Any]:
    """Time the candidates on one worker and on both in turn."""
    evaluator = bench.evaluator(bench.search_images, batch_size=_BATCH)
    _, reference = evaluator.measure_dense()
    executor = RayExecutor(
        bench.loaded,
        Cluster.reach(Execution(), n_workers=2, threads=1, on_gpus=False),
        most_workers=2,
        device="cpu",
        threads=1,
        cache_bytes=0,
    )
    executor.hold(bench.search_images, Batching(_BATCH), reference)
    while executor.n_workers < 2:
        executor.next_outcome(1.0)
    _seconds(executor, configs[:4], n_at_once=2)  # so that both have the model
    load_before = os.getloadavg()[0]
    ratios, trips = [], []
    for _ in range(rounds):
        one, two = _seconds(executor, configs, n_at_once=1), _seconds(executor, configs, n_at_once=2)
        ratios.append(one / (2 * two))
        trips.append(one / len(configs))
    way = way_and_back(executor)
    executor.close()
    return {
        "efficiency, 1 to 2 workers": round(statistics.median(ratios), 3),
        "efficiency of each round": [round(ratio, 3) for ratio in ratios],
        "seconds a candidate": round(statistics.median(trips), 4),
        "load before": round(load_before, 1),
        "cores": os.cpu_count(),
        **way,
    }


def _seconds(executor: RayExecutor, configs: list[PruningConfig], *, n_at_once: int) -> float:
    """Measure the candidates, so many at once."""
    waiting, n_out, started = list(enumerate(configs)), 0, time.perf_counter()
    while waiting or n_out:
        while waiting and n_out < n_at_once and executor.has_room():
            executor.submit(*waiting.pop(0))
            n_out += 1
        n_out -= executor.next_outcome(1.0) is not None
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
