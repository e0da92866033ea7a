"""Which sampler, and which way into the budget: searches on ``shapes`` with all of them, over seeds.

    python -m benchmarks.samplers --seeds 0 1 2 3 4 --output build/bench/samplers.json

Every search has the same trials, images and races. Its winner is measured again in float32 on held-out images. Draws
that miss the budget cost no measurement. Run with a share of the arms, several may run beside each other: nothing is
timed. ``--summarise FILE...`` prints the table of what was written.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tabulate import tabulate

from search import Execution, SearchSettings, Study
from spaces import PrunefrontError

ARMS = [
    f"{sampler}/{way}"
    for sampler, ways in {
        "random": ("repair", "rejection"),
        "tpe": ("repair", "rejection", "constraint"),
        "nsga2": ("repair", "rejection", "constraint"),
        "gp": ("repair", "rejection"),
    }.items()
    for way in ways
]


def main() -> None:
    """Run every arm with every seed, or summarise what was run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--held-out", type=int, default=1024)
    parser.add_argument("--budget", default="65%")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--summarise", type=Path, nargs="+")
    options = parser.parse_args()
    if options.summarise:
        print(summary([json.loads(line) for path in options.summarise for line in path.read_text().splitlines()]))
        return
    results = []
    for seed in options.seeds:
        for arm in options.arms:
            results.append({"arm": arm, "seed": seed} | search(arm, seed, options))
            line = json.dumps(results[-1])
            print(line, flush=True)
            if options.output:
                options.output.parent.mkdir(parents=True, exist_ok=True)
                with options.output.open("a") as file:
                    file.write(line + "\n")
    print(summary(results))


def search(arm: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Search with one arm and one seed, and measure the winner on held-out images."""
    sampler, way = arm.split("/")
    settings = SearchSettings.parse(
        {
            "study": "arm",
            "model": "shapes_vit_small",
            "data": {"data": "shapes", "n_search": options.images, "n_confirm": options.held_out, "seed": seed},
            "budget": options.budget,
            "sampler": sampler,
            "budget_by": way,
            "seed": seed,
            "batch_size": 16,
            "precision": "bfloat16",
        }
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        Study.create(settings, n_trials=options.trials, db=f"sqlite:///{folder}/arm.db") as study,
    ):
        try:
            progress = study.run(execution=Execution(executor="local"))
        except PrunefrontError as error:
            return {"error": str(error)}
        [winner] = study.confirm([study.best().number], execution=Execution(executor="local"))
        if winner.measurement is None or winner.confirmation is None:
            raise RuntimeError("the winner was not confirmed")
        half_way = [trial for trial in study.trials() if trial.number < options.trials // 2]
        return {
            "searched": winner.measurement.values["top1_pct"].value,
            "confirmed": winner.confirmation.values["top1_pct"].value,
            "searched_half_way": max(
                trial.measurement.values["top1_pct"].value
                for trial in half_way
                if trial.measurement is not None and trial.state.value == "complete"
            ),
            "missed": progress.n_over_budget / progress.n_proposed,
            "duplicates": progress.n_duplicates,
            "images": progress.n_images_seen,
            "ask_s": progress.seconds["asking"],
        }


def summary(results: list[dict[str, Any]]) -> str:
    """Make the table: each arm's winners over the seeds."""
    rows = []
    for arm in dict.fromkeys(each["arm"] for each in results):
        runs = [each for each in results if each["arm"] == arm and "error" not in each]
        n_failed = sum(each["arm"] == arm and "error" in each for each in results)
        confirmed = sorted(each["confirmed"] for each in runs)
        rows.append(
            [
                arm,
                len(runs),
                n_failed,
                *(f"{_median(runs, name):.1f}" for name in ("searched_half_way", "searched", "confirmed")),
                f"{confirmed[0]:.1f} to {confirmed[-1]:.1f}" if confirmed else "",
                f"{_median(runs, 'missed'):.0%}",
                f"{1000 * _median(runs, 'ask_s') / 150:.0f}",
            ]
        )
    head = ["arm", "seeds", "failed", "half way", "searched", "confirmed", "from, to", "draws that missed", "ms to ask"]
    return tabulate(rows, head)


def _median(runs: list[dict[str, Any]], name: str) -> float:
    return statistics.median(each[name] for each in runs) if runs else float("nan")


if __name__ == "__main__":
    main()
