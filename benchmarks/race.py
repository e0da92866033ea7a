"""What races spare and what they lose: each layout is measured twice, with its race and on all images.

    python -m benchmarks.race --samplers tpe random --budgets 65% 50%:90% --output build/bench/race.json

The layouts are those that a search proposes that measures all on all images. An error is a layout stopped that would
have beaten its rival on all images, by more than the margin. What a stopped layout's images say of all of them is held
against what all of them say.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from benchmarks.results import write_results
from objectives.metrics import Measurement
from objectives.pareto import front
from search import SearchSettings
from search.racing import Rivals
from search.sampler import Sampler, Told
from search.workbench import load


def main() -> None:
    """Run every sampler on every budget, and print what its races did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samplers", nargs="+", default=["tpe"])
    parser.add_argument("--budgets", nargs="+", default=["65%"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--layouts", type=int, default=200)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--margin", type=float, default=0.5, help="Points; under one budget alone.")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for seed in options.seeds:
        for budget in options.budgets:
            for sampler in options.samplers:
                results.append(
                    {"sampler": sampler, "budget": budget, "seed": seed} | race(sampler, budget, seed, options)
                )
                print(json.dumps(results[-1]), flush=True)
                write_results(results, options.output)
    columns = ["sampler", "budget", "seed", "stopped", "images spared", "time spared", "best kept", "front kept"]
    columns += ["stopped though winners", "figures of the stopped, off by (points)", "within their intervals"]
    rows = [
        [
            *(each[name] for name in columns[:3]),
            f"{each['n_stopped']} of {each['n_layouts']}",
            f"{each['images_spared']:.0%}",
            f"{each['time_spared']:.0%}",
            "yes" if each["best_kept"] else f"no, -{each['best_lost_by']:.1f} points",
            f"{each['n_front_kept']} of {each['n_front']}" if each["n_front"] else "none asked for",
            f"{each['n_errors']} of {each['n_would_win']}",
            f"{each['bias']:+.2f} on average, {each['off_by']:.2f} root mean square",
            f"{each['n_within']} of {each['n_stopped']}",
        ]
        for each in results
    ]
    print(tabulate(rows, columns))


def race(sampler_name: str, budget: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a search's layouts both ways."""
    settings = SearchSettings.parse(
        {
            "study": "race",
            "model": "shapes_vit_small",
            "data": {"data": "shapes", "n_search": options.images, "n_confirm": 0, "seed": seed},
            "budget": budget,
            "sampler": sampler_name,
            "seed": seed,
            "batch_size": options.batch_size,
        }
    )
    bench = load(settings)
    is_front = bench.problem.budget.is_range
    sampler = Sampler.of(bench.problem, sampler_name, seed=seed)
    evaluator = bench.evaluator(bench.search_images, cache_bytes=4 * 10**9, precision=options.precision)
    evaluator.measure_dense()
    margin_pct = 0.0 if is_front else options.margin
    rivals = Rivals("top1", is_front=is_front, margin_pct=margin_pct)
    measured: dict[str, tuple[Measurement, Measurement]] = {}  # by digest: with its race, and whole
    winners: list[bool] = []  # of those that would have beaten their rival, whether they were stopped
    told: list[Told] = []
    points: list[tuple[float, float, bool]] = []
    for number in range(options.layouts):
        if number >= settings.settled_look_ahead:
            sampler.tell(number - settings.settled_look_ahead, told[number - settings.settled_look_ahead])
        params = sampler.ask(number).params
        proposal = bench.problem.propose(params)
        sampler.settle(number, bench.problem.values_of(proposal.config, params))
        digest, gflops = proposal.config.digest(bench.architecture), proposal.cost.gflops
        if digest not in measured:
            against = rivals.race(gflops, before=number - settings.settled_look_ahead + 1)
            whole = raced = evaluator.measure(proposal.config)
            if against is not None:
                raced = evaluator.measure(proposal.config, against.is_lost, against.visits)
            measured[digest] = raced, whole
            is_stopped = raced.n_images < whole.n_images
            if not is_stopped:
                rivals.add(number, gflops, whole)
            if against is not None and (~whole.hits("top1_pct")).sum() < against.n_mistakes:
                winners.append(is_stopped)
            points.append((gflops, whole.values["top1_pct"].value, is_stopped))
        told.append(Told(measured[digest][1].values["top1_pct"].value, gflops))
    return _summary(points, winners, list(measured.values()), is_front=is_front)


def _summary(
    points: list[tuple[float, float, bool]],
    winners: list[bool],
    measured: list[tuple[Measurement, Measurement]],
    *,
    is_front: bool,
) -> dict[str, Any]:
    best = max(value for _, value, _ in points)
    best_left = max(value for _, value, is_stopped in points if not is_stopped)
    on_front = front([(gflops, value) for gflops, value, _ in points]) if is_front else []
    stopped = [
        (raced.values["top1_pct"], whole.values["top1_pct"].value)
        for raced, whole in measured
        if raced.n_images < whole.n_images
    ]
    off_by = np.array([estimate.value - truth for estimate, truth in stopped])
    return {
        "n_layouts": len(points),
        "n_stopped": len(stopped),
        "images_spared": 1 - sum(r.n_images for r, _ in measured) / sum(w.n_images for _, w in measured),
        "time_spared": 1 - sum(r.seconds for r, _ in measured) / sum(w.seconds for _, w in measured),
        "best_kept": best == best_left,
        "best_lost_by": best - best_left,
        "n_front": len(on_front),
        "n_front_kept": sum(not points[index][2] for index in on_front),
        "n_would_win": len(winners),
        "n_errors": sum(winners),
        "bias": float(off_by.mean()),
        "off_by": float(np.sqrt((off_by**2).mean())),
        "n_within": sum((each.low or 0) <= truth <= (each.high or 100) for each, truth in stopped),
    }


if __name__ == "__main__":
    main()
