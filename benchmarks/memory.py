"""What a worker and a driver keep in memory: images, kept tokens, trials.

    python -m benchmarks.memory --output build/bench/memory.json

Each line is a process of its own; what is printed is how much its resident memory grew, beside what it should take.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.results import write_results

_N_IMAGES, _N_DEPTHS = 512, 6


def main() -> None:
    """Measure each thing in a process of its own, and print what it takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    results = {name: _alone(measure) for name, measure in _MEASURES.items()}
    rows = [
        [name, f"{each['mb']:.0f}", "" if each["expected_mb"] is None else f"{each['expected_mb']:.0f}"]
        for name, each in results.items()
    ]
    print(tabulate(rows, ["", "MB", "by size"]))
    write_results(results, options.output)


def program() -> dict[str, Any]:
    """Import everything that a worker needs, and load the model."""
    before = _resident_mb()
    _bench(16)
    return {"mb": _resident_mb() - before, "expected_mb": None}


def images() -> dict[str, Any]:
    """Decode the images."""
    _bench(16)
    before = _resident_mb()
    held = _bench(_N_IMAGES).search_images.pixels
    return {"mb": _resident_mb() - before, "expected_mb": held.nbytes / 1e6}


def kept_tokens() -> dict[str, Any]:
    """Keep the dense model's tokens at several depths."""
    from objectives.prefix import prefix_bytes
    from spaces import RandomDrop

    bench = _bench(_N_IMAGES)
    evaluator = bench.evaluator(bench.search_images, cache_bytes=10**10, batch_size=16)
    evaluator.measure_dense()
    evaluator.measure(RandomDrop(after=(1,), keep_rate=(0.9,)))
    before = _resident_mb()
    for after in range(2, 2 + _N_DEPTHS):
        evaluator.measure(RandomDrop(after=(after,), keep_rate=(0.9,)))
    # A layout that prunes after block 2 starts after block 1, whose tokens are kept from then on.
    return {
        "mb": _resident_mb() - before,
        "expected_mb": _N_DEPTHS * prefix_bytes(bench.architecture, _N_IMAGES) / 1e6,
    }


def trials() -> dict[str, Any]:
    """Drive 2,000 trials."""
    from benchmarks.driver_overhead import moments_of

    moments_of("random", "65%", 20)
    before = _resident_mb()
    moments_of("random", "65%", 2000)
    return {"mb": _resident_mb() - before, "expected_mb": None}


def _bench(n_images: int) -> Any:
    from search import SearchSettings
    from search.workbench import load

    data = {"data": "shapes", "n_search": n_images, "n_confirm": 0}
    return load(SearchSettings.parse({"study": "memory", "model": "shapes_vit_small", "data": data, "budget": "65%"}))


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def _alone(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(measure)


_MEASURES = {
    "a worker's program and model (shapes_vit_small)": program,
    f"{_N_IMAGES} images of 96 px": images,
    f"tokens of {_N_IMAGES} images after {_N_DEPTHS} blocks": kept_tokens,
    "a driver's 2,000 trials": trials,
}


if __name__ == "__main__":
    main()
