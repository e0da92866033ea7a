"""Zero-TPrune against random drop, and a search against Monte-Carlo, on ``shapes`` under one budget.

    python -m benchmarks.shapes_comparison --output results.json

For each seed: the paper's schedule scaled onto the budget, and random drop with the same token counts, on held-out
images; and 200 TPE trials against 200 Monte-Carlo candidates, both repaired onto the budget and searched on the same
images, the winners and every Monte-Carlo candidate measured again on the held-out images. Differences are paired.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from objectives.metrics import Measurement
from objectives.statistics import compare_paired
from search import Execution, SearchSettings, Study
from search.workbench import Workbench, load
from spaces import PruningConfig, RandomDrop, ZeroTPrune, parse_space
from storage import MeasurementKind

PAPER = {"after": [1, 3, 6, 9, 11], "iterations": [30, 5, 5, 1, 1]}
PAPER_RATES, PAPER_S = (1.0, 0.9, 0.8, 0.7, 1.0), 10


def main() -> None:
    """Run the comparison for every seed, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--held-out", type=int, default=1024)
    parser.add_argument("--budget", default="65%")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for seed in options.seeds:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            result = compare(seed, options, f"sqlite:///{folder}/compare.db")
        results.append(result | {"seed": seed, "minutes": round((time.perf_counter() - started) / 60, 1)})
        options.output.write_text(json.dumps(results, indent=2) + "\n")
        print(json.dumps(results[-1], indent=2), flush=True)


def compare(seed: int, options: argparse.Namespace, db: str) -> dict[str, Any]:
    """Compare on the images and with the proposals of one seed."""
    studies = {}
    for sampler in ("tpe", "random"):
        settings = SearchSettings.parse(
            {
                "study": sampler,
                "model": "shapes_vit_small",
                "data": {
                    "data": "shapes",
                    "n_search": options.images,
                    "n_confirm": options.held_out,
                    "seed": seed,
                },
                "budget": options.budget,
                "sampler": sampler,
                "seed": seed,
            }
        )
        study = Study.create(settings, n_trials=options.trials, db=db)
        with study:
            study.run(execution=Execution())
            candidates = [trial.number for trial in study.trials() if trial.duplicate_of is None]
            study.confirm([study.best().number] if sampler == "tpe" else candidates)
            studies[sampler] = (
                study.best(),
                study.trials(),
                study.dense(MeasurementKind.CONFIRM),
            )
    tpe_best, tpe_trials, dense = studies["tpe"]
    random_best, random_trials, _ = studies["random"]
    held_out = [top1(t.confirmation) for t in random_trials if t.duplicate_of is None]
    median = statistics.median(held_out)
    at_median = min(
        (t for t in random_trials if t.duplicate_of is None), key=lambda t: abs(top1(t.confirmation) - median)
    )
    return {
        "dense": described(dense),
        **fixed_layouts(load(settings), seed, options),
        "tpe winner": described(tpe_best.confirmation) | {"on search images": top1(tpe_best.measurement)},
        "tpe duplicates": sum(t.duplicate_of is not None for t in tpe_trials),
        "monte-carlo winner": described(random_best.confirmation) | {"on search images": top1(random_best.measurement)},
        "monte-carlo held-out": {"median": median, "least": min(held_out), "most": max(held_out), "n": len(held_out)},
        "tpe winner - monte-carlo median candidate": difference(tpe_best.confirmation, at_median.confirmation),
        "tpe winner - monte-carlo winner": difference(tpe_best.confirmation, random_best.confirmation),
        "tpe winner - dense": difference(tpe_best.confirmation, dense),
    }


def fixed_layouts(bench: Workbench, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure the paper's schedule on the budget, and random drop with its token counts, on the held-out images."""
    space = parse_space("zero_tprune", settings=PAPER | {"keep_rate": {"kind": "float", "low": 0.05, "high": 1.0}})
    values = {f"keep_rate_{slot + 1}": rate for slot, rate in enumerate(PAPER_RATES)}
    values |= {f"s_{slot + 1}": PAPER_S for slot in range(len(PAPER_RATES))}
    paper = space.fit(values, bench.architecture, bench.problem.budget.high_gflops)
    counts = [(stage.block, stage.n_in, stage.n_out) for stage in paper.stages(bench.architecture)]
    # Half a token more, so that no rounding error takes the last one away.
    random_drop = RandomDrop(
        after=tuple(after for after, _, _ in counts),
        keep_rate=tuple(min(1.0, (n_out + 0.5) / n_in) for _, n_in, n_out in counts),
        seed=seed,
    )
    images = bench.confirm_images
    if images is None:
        raise RuntimeError("the comparison needs held-out images")
    evaluator = bench.evaluator(images)
    evaluator.measure_dense()
    layouts: dict[str, PruningConfig] = {
        "zero-tprune, paper's schedule": paper,
        "zero-tprune-uni": ZeroTPrune.parse({**paper.model_dump(), "cls_init": "uniform"}),
        "random drop, same tokens": random_drop,
    }
    measured = {name: evaluator.measure(layout) for name, layout in layouts.items()}
    found: dict[str, Any] = {name: described(measurement) for name, measurement in measured.items()}
    found["zero-tprune - random drop"] = difference(
        measured["zero-tprune, paper's schedule"], measured["random drop, same tokens"]
    )
    return found | {"tokens": measured["zero-tprune, paper's schedule"].tokens_per_block}


def top1(measurement: Measurement) -> float:
    """Give the top-1 in percent."""
    return measurement.values["top1_pct"].value


def described(measurement: Measurement) -> dict[str, Any]:
    """Give a measurement's top-1 with its interval, and its cost."""
    return asdict(measurement.values["top1_pct"]) | {"gflops": measurement.gflops, "n_images": measurement.n_images}


def difference(first: Measurement, second: Measurement) -> dict[str, Any]:
    """Give the paired difference, first minus second."""
    return asdict(compare_paired(first.hits("top1_pct"), second.hits("top1_pct")))


if __name__ == "__main__":
    main()
