"""Images a second of a pruned DeiT-S against the dense model, beside the speed-up that its GFLOPs promise.

    python -m benchmarks.pruned_speed --rounds 5 --output build/bench/pruned_speed.json

Random weights: time does not depend on them. Each round runs the dense model and every layout once, in turn; the
ratios are medians over the rounds. The share of the stages is the time inside the pruning layers themselves.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from tabulate import tabulate
from torch import nn

from benchmarks.results import write_results
from pruning import prune, read_architecture
from pruning.backbones.vit import PrunedBlock
from pruning.reduction import Reduction
from spaces import PruningConfig, RandomDrop, ZeroTPrune, dense_cost

LAYOUTS: dict[str, PruningConfig] = {
    "Zero-TPrune, paper's setting": ZeroTPrune(
        after=(1, 3, 6, 9, 11), keep_rate=(1.0, 0.9, 0.8, 0.7, 1.0), iterations=(30, 5, 5, 1, 1), s=10
    ),
    "Zero-TPrune, I stages only": ZeroTPrune(after=(3, 6, 9, 11), keep_rate=(0.8, 0.7, 0.7, 0.6), s=0),
    "random drop": RandomDrop(after=(3, 6, 9, 11), keep_rate=(0.8, 0.7, 0.7, 0.6)),
}


class Timed:
    """A pruning layer that adds up the time it takes."""

    def __init__(self, stage: Any, clock: Callable[[], float]) -> None:
        self._stage, self._clock, self.seconds = stage, clock, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)

    def __call__(self, trace: Any) -> Reduction | None:
        """Run the layer, timed."""
        started = self._clock()
        reduction: Reduction | None = self._stage(trace)
        self.seconds += self._clock() - started
        return reduction


def main() -> None:
    """Time every layout, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="deit_small_patch16_224")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    clock = _clock(options.device)

    def made() -> nn.Module:
        return timm.create_model(options.model).eval().to(options.device)

    architecture = read_architecture(made())
    dense_gflops = dense_cost(architecture).gflops
    models = {"dense": made()} | {name: prune(made(), layout) for name, layout in LAYOUTS.items()}
    stages = {name: _timed_stages(model, clock) for name, model in models.items()}
    images = torch.randn(options.batch, 3, *architecture.image_size, device=options.device)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    shares: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode():
        for round_ in range(options.rounds + 1):
            for name, model in models.items():
                before = sum(stage.seconds for stage in stages[name])
                started = clock()
                model(images)
                spent = clock() - started
                if round_ == 0:  # warms up
                    continue
                seconds[name].append(spent)
                shares[name].append((sum(stage.seconds for stage in stages[name]) - before) / spent)
    results = []
    for name, layout in LAYOUTS.items():
        ratios = [dense / pruned for dense, pruned in zip(seconds["dense"], seconds[name], strict=True)]
        promised = dense_gflops / layout.cost(architecture).gflops
        gained = statistics.median(ratios)
        results.append(
            {
                "layout": name,
                "gflops": layout.cost(architecture).gflops,
                "promised": promised,
                "gained": gained,
                "least": min(ratios),
                "most": max(ratios),
                "gained_of_promised": gained / promised,
                "stages_share": statistics.median(shares[name]),
                "images_per_s": options.batch / statistics.median(seconds[name]),
            }
        )
    rows = [
        [
            each["layout"],
            f"{each['gflops']:.3f}",
            f"{each['promised']:.2f}x",
            f"{each['gained']:.2f}x ({each['least']:.2f} to {each['most']:.2f})",
            f"{each['gained_of_promised']:.2f}",
            f"{each['stages_share']:.1%}",
        ]
        for each in results
    ]
    print(
        f"{options.model}, batch {options.batch}, {options.device}, {options.threads} threads, {options.rounds} rounds"
    )
    print(tabulate(rows, ["layout", "GFLOPs", "promised", "gained", "of promised", "stages' share"]))
    write_results(results, options.output)


def _clock(device: str) -> Callable[[], float]:
    if device == "cpu":
        return time.perf_counter

    def synchronised() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return synchronised


def _timed_stages(model: Any, clock: Callable[[], float]) -> list[Timed]:
    stages = []
    for block in model.blocks:
        if isinstance(block, PrunedBlock) and block.stage is not None:
            block.stage = Timed(block.stage, clock)
            stages.append(block.stage)
    return stages


if __name__ == "__main__":
    main()
