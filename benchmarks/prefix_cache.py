"""What starting from the dense model's kept tokens saves: the same candidates with and without, in turn.

    python -m benchmarks.prefix_cache --candidates 40 --images 256 --output build/bench/prefix_cache.json

The candidates are a Monte-Carlo search's own proposals. One process, one thread; each candidate is measured by two
evaluators one after the other, whose results must be equal to the last bit.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from tabulate import tabulate

from benchmarks.results import write_results
from search import SearchSettings
from search.sampler import Sampler
from search.workbench import load


def main() -> None:
    """Measure every candidate both ways, and print the ratio of the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--budget", default="65%")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = [measure(seed, options) for seed in options.seeds]
    rows = [[each["seed"], f"{each['ratio']:.2f}x", f"{each['dense_blocks']:.2f} of 12"] for each in results]
    print(tabulate(rows, ["seed", "time without / with", "blocks shared with the dense model"]))
    print(f"median of the seeds: {statistics.median(each['ratio'] for each in results):.2f}x")
    write_results(results, options.output)


def measure(seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Measure one seed's candidates both ways."""
    settings = SearchSettings.parse(
        {
            "study": "prefix",
            "model": "shapes_vit_small",
            "data": {"data": "shapes", "n_search": options.images, "n_confirm": 0},
            "budget": options.budget,
            "sampler": "random",
            "seed": seed,
        }
    )
    bench = load(settings)
    sampler = Sampler("random", bench.problem.parameters(), seed=seed, is_front=False)
    without, kept = (bench.evaluator(bench.search_images, cache_bytes=size) for size in (0, 10**10))
    for evaluator in (without, kept):
        evaluator.measure_dense()
    seconds = {"without": 0.0, "kept": 0.0}
    n_dense = 0
    for number in range(options.candidates):
        config = bench.problem.propose(sampler.ask(number).params).config
        plain, quick = without.measure(config), kept.measure(config)
        if plain.outcomes != quick.outcomes:
            raise RuntimeError(f"the results of {config!r} differ with kept tokens: this is a defect")
        seconds["without"] += plain.seconds
        seconds["kept"] += quick.seconds
        n_dense += min(stage.block for stage in config.stages(bench.architecture) if stage.n_out < stage.n_in) - 1
    return {
        "seed": seed,
        "ratio": seconds["without"] / seconds["kept"],
        "dense_blocks": n_dense / options.candidates,
        **seconds,
    }


if __name__ == "__main__":
    main()
