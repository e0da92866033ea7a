"""All methods on ``shapes`` with one model: at their papers' settings, and after a search each.

    python -m benchmarks.methods_comparison --budgets 50% 70% --trials 100 --output build/bench/methods.json

The papers' settings are brought onto the budget by their keep rates (ToMe's by how much it merges) and by nothing else;
their blocks are those that the papers prune at in a model of 12 blocks. ATS, which no repair brings onto a budget, has
the largest K, the same in all layers, with which it was measured to be within it on the search images. Every search has
the same trials, images and seed. Layouts and winners are measured in float32 on images that no search saw.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from benchmarks.results import write_results
from objectives.evaluator import Evaluator
from objectives.metrics import Measurement
from search import Execution, SearchSettings, Study
from search.feasibility import overrun
from search.workbench import Workbench, load
from spaces import METHODS, Ats, PruningConfig, parse_layout, parse_space
from spaces.domains import Choice, ParameterValue

_RATE = {"kind": "float", "low": 0.05, "high": 1.0}
_ZERO_TPRUNE_RATES = (1.0, 0.9, 0.8, 0.7, 1.0)  # before the repair
_EVEN = 0.7  # of all layers of the other methods
PAPERS: dict[str, dict[str, Any]] = {
    "zero_tprune": {"after": [1, 3, 6, 9, 11], "iterations": [30, 5, 5, 1, 1], "s": 10, "keep_rate": _RATE},
    "cls_topk": {"inside": [4, 7, 10], "fuse": True, "keep_rate": _RATE},
    "attention_rank": {"after": [3, 6, 9], "score": "mean", "keep_rate": _RATE},
    "tome": {"inflection": 0.0},
    "random_drop": {"after": [3, 6, 9], "keep_rate": _RATE},
    "ats": {"in_attention": list(range(4, 13))},
    "bat": {"inside": [4, 7, 10], "c_num": 10, "p": 10, "keep_rate": _RATE},
}


def main() -> None:
    """Measure every method under every budget, and print one table a budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", nargs="+", default=["50%", "70%"])
    parser.add_argument("--methods", nargs="+", default=list(PAPERS), choices=list(PAPERS))
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--held-out", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    results = []
    for budget in options.budgets:
        for method in options.methods:
            results.append({"budget": budget, "method": method} | compare(method, budget, options))
            print(json.dumps(results[-1]), flush=True)
            write_results(results, options.output)
        rows = [
            [each["method"], _text(each["paper"]), _text(each["searched"]), each["winner"]]
            for each in results
            if each["budget"] == budget
        ]
        print(tabulate(rows, [f"at {budget}", "paper's settings", f"best of {options.trials}", "its layout"]))


def compare(method: str, budget: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a method's paper layout and its winner on held-out images."""
    settings = _settings(method, budget, options)
    bench = load(settings)
    with tempfile.TemporaryDirectory() as folder:
        study = Study.create(settings, n_trials=options.trials, db=f"sqlite:///{folder}/methods.db")
        with study:
            progress = study.run(execution=Execution())
            winner = parse_layout(study.best().config)
    if bench.confirm_images is None:
        raise RuntimeError("the comparison needs held-out images")
    torch.set_num_threads(2)
    evaluator = bench.evaluator(bench.confirm_images)
    evaluator.measure_dense()
    return {
        "paper": _described(paper_layout(method, bench), evaluator),
        "searched": _described(winner, evaluator),
        "winner": winner.canonical_json(),
        "images_seen": progress.n_images_seen,
        "stopped": progress.n_stopped,
        "infeasible": progress.n_infeasible,
        "duplicates": progress.n_duplicates,
    }


def paper_layout(method: str, bench: Workbench) -> PruningConfig:
    """Bring what the paper fixes onto the budget."""
    if METHODS[method][0].cost_is_measured:
        return _largest_within(bench, tuple(PAPERS[method]["in_attention"]))
    space = parse_space(method, settings=PAPERS[method])
    values: dict[str, ParameterValue] = {}
    for name, domain in ((each.name, each.domain) for each in space.parameters(bench.architecture)):
        values[name] = domain.values[0] if isinstance(domain, Choice) else domain.low
        if name.startswith("keep_rate_"):
            values[name] = _ZERO_TPRUNE_RATES[int(name[-1]) - 1] if method == "zero_tprune" else _EVEN
    return space.fit(values, bench.architecture, bench.problem.budget.high_gflops)


def _largest_within(bench: Workbench, blocks: tuple[int, ...]) -> Ats:
    """Bisect for the largest K of ATS that is measured to be within the budget on the search images."""
    evaluator = bench.evaluator(bench.search_images)
    evaluator.measure_dense()
    low, high = 8, bench.architecture.n_prefix + bench.architecture.n_patch
    while low < high:
        middle = (low + high + 1) // 2
        if overrun(evaluator.measure(Ats(in_attention=blocks, k=middle)), bench.problem):
            high = middle - 1
        else:
            low = middle
    return Ats(in_attention=blocks, k=low)


def _settings(method: str, budget: str, options: argparse.Namespace) -> SearchSettings:
    return SearchSettings.parse(
        {
            "study": "methods",
            "model": "shapes_vit_small",
            "data": {"data": "shapes", "n_search": options.images, "n_confirm": options.held_out, "seed": options.seed},
            "budget": budget,
            "method": method,
            "seed": options.seed,
        }
    )


def _described(layout: PruningConfig, evaluator: Evaluator) -> dict[str, Any]:
    measurement: Measurement = evaluator.measure(layout)
    return asdict(measurement.values["top1_pct"]) | {"gflops": measurement.gflops}


def _text(found: dict[str, Any]) -> str:
    return f"{found['value']:.1f} [{found['low']:.1f}, {found['high']:.1f}] at {found['gflops']:.4f}"


if __name__ == "__main__":
    main()
