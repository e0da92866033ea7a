"""What a trial costs its driver (ask, record, tell) after 100, 1,000 and 5,000 finished trials.

    python -m benchmarks.driver_overhead --samplers tpe random --output build/bench/driver_overhead.json

The whole driver runs, with its sampler, its space and its SQLite rows; only the workers are replaced, by a formula that
answers at once, so that nothing else takes time. CPU seconds, so that other load on the machine does not count.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tabulate import tabulate

from benchmarks.results import write_results
from objectives.evaluator import DenseReference
from objectives.evaluators import Measurable
from objectives.metrics import Measurement
from objectives.statistics import pack, proportion_pct
from search import Study
from search.executors import Batching, Outcome
from search.loop import SearchLoop
from search.progress import Audience, Progress
from search.racing import Race
from search.sampler import Sampler
from spaces import PruningConfig, dense_cost

N_IMAGES = 512
HALF_WINDOW = 25  # trials on either side of each count over which the mean is taken


class Formula:
    """An executor whose accuracy falls with the tokens that a layout removes early, plus noise of its own."""

    def __init__(self, study: Study) -> None:
        """Take the study's architecture."""
        self._architecture = study.architecture
        self._waiting: list[tuple[int, PruningConfig]] = []

    def hold(self, images: Measurable, batching: Batching, reference: DenseReference | None = None) -> None:
        """Take no images: there is nothing to measure."""

    def measure_dense(self) -> tuple[Measurement, DenseReference]:
        """Refuse: there is no model."""
        raise NotImplementedError

    def has_room(self) -> bool:
        """Say whether one of two workers is free."""
        return len(self._waiting) < 2

    def submit(self, number: int, config: PruningConfig, race: Race | None = None) -> None:
        """Take a candidate, which is measured on all images whatever its race."""
        self._waiting.append((number, config))

    def next_outcome(self, timeout_s: float) -> Outcome | None:
        """Answer for the oldest candidate."""
        number, config = self._waiting.pop(0)
        cost = config.cost(self._architecture)
        share = cost.gflops / dense_cost(self._architecture).gflops
        noise = np.random.default_rng(number).normal(0, 0.02)
        hits = np.arange(N_IMAGES) < N_IMAGES * min(1.0, max(0.0, 0.6 + 0.4 * share + noise))
        return Outcome(
            number,
            "formula",
            Measurement(
                n_images=N_IMAGES,
                image_list_hash="formula",
                values={"top1_pct": proportion_pct(int(hits.sum()), N_IMAGES)},
                outcomes={"top1_pct": pack(hits)},
                macs=cost.macs,
                tokens_per_block=cost.tokens_per_block,
                seconds=0.0,
            ),
        )

    def close(self) -> None:
        """Stop nothing."""


def main() -> None:
    """Drive one study with each sampler, and print what its trials cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samplers", nargs="+", default=["tpe"])
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--budget", default="65%")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    results = []
    for sampler in options.samplers:
        spent = moments_of(sampler, options.budget, max(options.counts) + HALF_WINDOW)
        at = {count: _around(spent, count) for count in options.counts}
        results.append({"sampler": sampler, "ms_a_trial": at, "s_in_all": spent[-1][1] - spent[0][1]})
        print(f"{sampler} done", flush=True)
    rows = [
        [each["sampler"], *(f"{ms:.1f}" for ms in each["ms_a_trial"].values()), f"{each['s_in_all']:.0f}"]
        for each in results
    ]
    print(tabulate(rows, ["sampler", *(f"ms at {count}" for count in options.counts), "s in all"]))
    write_results(results, options.output)


def drive(
    sampler: str, budget: str, n_trials: int, url: str, on_progress: Callable[[Progress], None] = lambda _: None
) -> Progress:
    """Run a study whose measurements come from a formula, in a new database."""
    study = Study.create(
        study="overhead",
        model="shapes_vit_small",
        data={"data": "shapes", "n_search": 16, "n_confirm": 0},
        budget=budget,
        sampler=sampler,
        n_trials=n_trials,
        db=url,
    )
    bench = study._workbench()
    progress = SearchLoop(
        study._store,
        study.record,
        Sampler.of(bench.problem, sampler, seed=0),
        bench.problem,
        Formula(study),
        audience=Audience(on_progress=on_progress),
    ).run()
    study.close()
    return progress


def moments_of(sampler: str, budget: str, n_trials: int) -> list[tuple[int, float]]:
    """Drive a study, and give its finished trials with the CPU seconds so far."""
    moments: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        note = lambda progress: moments.append((progress.n_finished, time.process_time()))  # noqa: E731
        drive(sampler, budget, n_trials, f"sqlite:///{folder}/overhead.db", note)
    return moments


def _around(spent: list[tuple[int, float]], count: int) -> float:
    """Give the milliseconds of a trial near ``count``; trials equal to earlier ones cost no measurement, but count."""
    (first, started), *_, (last, ended) = [at for at in spent if abs(at[0] - count) <= HALF_WINDOW]
    return 1000 * (ended - started) / (last - first)


if __name__ == "__main__":
    main()
