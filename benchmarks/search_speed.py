"""A whole search against the loop that one would write by hand, and what each part of the difference is worth.

    python -m benchmarks.search_speed --output build/bench/search_speed.json

The plain loop is Optuna's ``study.optimize`` in one process with torch's default threads: each candidate is repaired
onto the budget, and measured in float32 on all images. It has the same model, images, space, trials, sampler and seed;
``--plain-sampler optuna`` gives it Optuna's own TPE instead.
Both times begin before the model and the images are loaded. Then both winners are measured in float32 on images that
neither saw, and compared image by image. The parts are timed on the same candidates, in turn.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from tabulate import tabulate

from benchmarks.results import write_results
from objectives.statistics import compare_paired
from pruning import pruned
from search import Execution, SearchSettings, Study
from search.executors import Batching
from search.sampler import Sampler, Told
from search.workbench import Workbench, load
from spaces import PruningConfig, parse_layout
from spaces.domains import Choice, IntRange, Parameter

_PLAIN_BATCH = 64


def main() -> None:
    """Run both searches for every seed in turn, then time the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--held-out", type=int, default=1024)
    parser.add_argument("--budget", default="65%")
    parser.add_argument("--plain-sampler", choices=["same", "optuna"], default="same")
    parser.add_argument("--candidates", type=int, default=24, help="On which the parts are timed.")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {"searches": []}
    for seed in options.seeds:
        results["searches"].append(compare(seed, options))
        print(json.dumps(results["searches"][-1]), flush=True)
        write_results(results, options.output)
    results["parts"] = parts(options, results["searches"])
    write_results(results, options.output)
    rows = [
        [
            each["seed"],
            f"{each['plain_s'] / each['search_s']:.2f}x",
            f"{each['plain_images'] / each['search_images']:.2f}x",
            f"{each['plain_top1']:.1f}",
            f"{each['search_top1']:.1f}",
            "{difference_pct:+.2f} [{low_pct:+.2f}, {high_pct:+.2f}]".format(**each["difference"]),
        ]
        for each in results["searches"]
    ]
    print(tabulate(rows, ["seed", "wall time", "image-forwards", "plain winner", "our winner", "ours - plain, points"]))
    print(f"median wall time: {statistics.median(e['plain_s'] / e['search_s'] for e in results['searches']):.2f}x")
    print(tabulate([[name, f"{ratio:.2f}x"] for name, ratio in results["parts"].items()], ["part alone", "is worth"]))


def compare(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Search once by hand and once with prunefront, and compare the winners."""
    started = time.perf_counter()
    bench = load(_settings(seed, options, n_confirm=options.held_out))
    sampler = _Same(bench) if options.plain_sampler == "same" else _tpe_of_optuna(seed)
    plain_winner, plain_images = plain_search(bench, sampler, options.trials)
    plain_s = time.perf_counter() - started

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        db, execution = f"sqlite:///{folder}/b.db", Execution()
        with Study.create(_settings(seed, options), n_trials=options.trials, db=db, execution=execution) as study:
            progress = study.run(execution=execution)
            search_s = time.perf_counter() - started
            winner = study.best()
            settled = study.settings
    held_out = bench.confirm_images
    if held_out is None:
        raise RuntimeError("the comparison needs held-out images")
    evaluator = bench.evaluator(held_out)
    evaluator.measure_dense()
    ours, plain = (evaluator.measure(each) for each in (parse_layout(winner.config), plain_winner))
    return {
        "seed": seed,
        "plain_s": plain_s,
        "search_s": search_s,
        "plain_images": plain_images,
        "search_images": progress.n_images_seen,
        "stopped": progress.n_stopped,
        "duplicates": progress.n_duplicates,
        "trials": options.trials,
        "plain_sampler": options.plain_sampler,
        "overhead_share": progress.overhead_share,
        "batch_size": settled.batch_size,
        "look_ahead": settled.look_ahead,
        "precision": settled.precision,
        "plain_top1": plain.values["top1_pct"].value,
        "search_top1": ours.values["top1_pct"].value,
        "difference": asdict(compare_paired(ours.hits("top1_pct"), plain.hits("top1_pct"))),
    }


class _Same(optuna.samplers.BaseSampler):
    """The search's own sampler, as ``study.optimize`` takes one."""

    def __init__(self, bench: Workbench) -> None:
        self._problem, settings = bench.problem, bench.settings
        self._sampler = Sampler.of(self._problem, settings.sampler, seed=settings.seed)
        self._params: Mapping[str, Any] = {}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._params = self._sampler.ask(trial.number).params
        layout = self._problem.propose(self._params).config
        self._sampler.settle(trial.number, self._problem.values_of(layout, self._params))
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._params[param_name]

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        # Its cost is the budget's, give or take what rounding leaves over; under one budget no sampler looks at it.
        self._sampler.tell(trial.number, Told(None if values is None else values[0], math.nan))


def _tpe_of_optuna(seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=10, n_ei_candidates=24, multivariate=True, constant_liar=False
        )


def plain_search(bench: Workbench, sampler: optuna.samplers.BaseSampler, n_trials: int) -> tuple[PruningConfig, int]:
    """Let ``study.optimize`` measure each candidate on all images, and give the best with the images measured."""
    torch.set_num_threads(os.cpu_count() or 1)
    images, labels = bench.search_images.pixels, torch.tensor(bench.search_images.labels)
    n_images = 0

    def objective(trial: optuna.Trial) -> float:
        nonlocal n_images
        params = {parameter.name: _drawn(trial, parameter) for parameter in bench.problem.parameters()}
        n_right = 0
        with pruned(bench.loaded.model, bench.problem.propose(params).config), torch.inference_mode():
            for first in range(0, len(images), _PLAIN_BATCH):
                place = slice(first, first + _PLAIN_BATCH)
                inputs = bench.loaded.preprocessing.normalise(torch.tensor(images[place]))
                n_right += int((bench.loaded.model(inputs).argmax(1) == labels[place]).sum())
        n_images += len(images)
        return n_right / len(images)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=n_trials)
    return bench.problem.propose(study.best_params).config, n_images


def _drawn(trial: optuna.Trial, parameter: Parameter) -> Any:
    name, domain = parameter.name, parameter.domain
    if isinstance(domain, Choice):
        return trial.suggest_categorical(name, domain.values)
    suggest = trial.suggest_int if isinstance(domain, IntRange) else trial.suggest_float
    return suggest(name, domain.low, domain.high, log=domain.log)


def parts(options: argparse.Namespace, searches: list[dict[str, Any]]) -> dict[str, float]:
    """Time each part on the same candidates, with and without it in turn; the race and duplicates are counted."""
    bench = load(_settings(options.seeds[0], options))
    threads = os.cpu_count() or 1
    sampler = Sampler("random", bench.problem.parameters(), seed=0, is_front=False)
    configs = [bench.problem.propose(sampler.ask(number).params).config for number in range(options.candidates)]
    batch = int(searches[0]["batch_size"])
    held = bench.search_images
    everything = {"cache_bytes": 10**10, "precision": searches[0]["precision"], "batch_size": batch}
    arms = {
        "all": bench.evaluator(held, **everything),
        "no cache": bench.evaluator(held, **everything | {"cache_bytes": 0}),
        "float32": bench.evaluator(held, **everything | {"precision": "float32"}),
        "batch of 64": bench.evaluator(held, **everything | {"batch_size": _PLAIN_BATCH}),
    }
    torch.set_num_threads(1)
    for evaluator in arms.values():
        evaluator.measure_dense()
    total = dict.fromkeys(arms, 0.0)
    for config in configs:
        for name, evaluator in arms.items():
            total[name] += evaluator.measure(config).seconds
    alone, together = _workers(bench, configs, threads)
    return {
        "cache": total["no cache"] / total["all"],
        "race": statistics.median(
            (each["trials"] - each["duplicates"]) * options.images / each["search_images"] for each in searches
        ),
        "no duplicates": statistics.median(each["trials"] / (each["trials"] - each["duplicates"]) for each in searches),
        f"precision ({searches[0]['precision']})": total["float32"] / total["all"],
        f"batch ({batch})": total["batch of 64"] / total["all"],
        f"{threads} workers of 1 thread, not 1 of {threads}": alone / together,
    }


def _settings(seed: int, options: argparse.Namespace, n_confirm: int = 0) -> SearchSettings:
    data = {"data": "shapes", "n_search": options.images, "n_confirm": n_confirm, "seed": seed}
    return SearchSettings.parse(
        {
            "study": f"speed-{seed}",
            "model": "shapes_vit_small",
            "data": data,
            "budget": options.budget,
            "sampler": "tpe",
            "seed": seed,
        }
    )


def _workers(bench: Workbench, configs: list[PruningConfig], threads: int) -> tuple[float, float]:
    """Time the candidates in one process with all threads, and on as many Ray workers with one each."""
    from search.cluster import Cluster
    from search.workers import RayExecutor

    alone = together = 0.0
    torch.set_num_threads(threads)
    evaluator = bench.evaluator(bench.search_images)
    _, reference = evaluator.measure_dense()
    executor = RayExecutor(
        bench.loaded,
        Cluster.reach(Execution(), n_workers=threads, threads=1, on_gpus=False),
        most_workers=threads,
        device="cpu",
        threads=1,
        cache_bytes=0,
    )
    executor.hold(bench.search_images, Batching(_PLAIN_BATCH), reference)
    while executor.n_workers < threads:
        executor.next_outcome(1.0)
    _measured_by(executor, configs[:threads])  # so that the workers have the model
    for first in range(0, len(configs), 2 * threads):
        some = configs[first : first + 2 * threads]
        started = time.perf_counter()
        for config in some:
            evaluator.measure(config)
        alone += time.perf_counter() - started
        together += _measured_by(executor, some)
    executor.close()
    return alone, together


def _measured_by(executor: Any, configs: list[PruningConfig]) -> float:
    started = time.perf_counter()
    waiting, n_done = list(enumerate(configs)), 0
    while n_done < len(configs):
        while waiting and executor.has_room():
            executor.submit(*waiting.pop(0))
        n_done += executor.next_outcome(1.0) is not None
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
