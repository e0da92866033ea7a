"""How much compute DToP saves at no significant loss of mIoU, as it is and with its heads fine-tuned.

    prunefront search --task segmentation --model shapes_seg_small --data shapes --budget 60%:100% --study saved
    python -m benchmarks.dtop_saved saved --output build/bench/dtop_saved.json

Every layout of the study's front is compared with the dense model on the unseen images on which the study confirmed it:
as it was searched (@Direct). Some of those that lose, spread over their costs, are compared once more after their heads
were trained for a few hundred steps (@Finetune), likewise against the dense model as it was.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from benchmarks.results import write_results
from objectives.comparison import compare_on
from objectives.evaluators import evaluator_of
from objectives.finetuning import FineTuning, finetune_heads
from objectives.masks import find_masks
from objectives.metrics import Measurement
from pruning.models import load_model
from search import Study
from search.workbench import Workbench, load
from spaces import DToP, dense_cost
from storage import MeasurementKind


def main() -> None:
    """Compare every layout, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="a finished and confirmed study of a segmenter on shapes")
    parser.add_argument("--db", default="sqlite:///prunefront.db")
    parser.add_argument("--finetuned", type=int, default=3, help="layouts to fine-tune")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with Study.open(options.study, db=options.db) as study:
        bench, front = load(study.settings), study.front()
        dense = study.dense(MeasurementKind.CONFIRM)
    if dense is None or any(trial.confirmation is None for trial in front):
        parser.error(f"the front of {options.study} is not confirmed: prunefront confirm {options.study}")
    rows = [_row(bench, trial.number, "direct", DToP.parse(trial.config), trial.confirmation, dense) for trial in front]
    losing = sorted((row for row in rows if row["high_pct"] < 0), key=lambda row: row["cost_pct"])
    chosen = [losing[round(place)] for place in np.linspace(0, len(losing) - 1, min(options.finetuned, len(losing)))]
    for row in chosen:
        layout = DToP.parse(row["layout"])
        measured = _finetuned(bench, layout, options.steps)
        rows.append(_row(bench, row["trial"], "finetune", layout, measured, dense))
    rows.sort(key=lambda row: (row["cost_pct"], row["trial"]))
    shown = [
        [
            each["trial"], each["way"], f"{each['cost_pct']:.1f}", f"{each['miou_pct']:.2f}",
            f"{each['difference_pct']:+.2f} [{each['low_pct']:+.2f}, {each['high_pct']:+.2f}]",
            "yes" if each["high_pct"] < 0 else "no",
        ]
        for each in rows
    ]  # fmt: skip
    print(f"dense: mIoU {dense.values['miou_pct'].value:.2f} % on {dense.n_images} unseen images")
    print(tabulate(shown, ["trial", "way", "% of dense", "mIoU", "difference", "significant loss"]))
    write_results(rows, options.output)


def _row(
    bench: Workbench, number: int, way: str, layout: DToP, measured: Measurement, dense: Measurement
) -> dict[str, Any]:
    difference = compare_on("miou", measured, dense)
    return {
        "trial": number,
        "way": way,
        "layout": layout.model_dump(mode="json"),
        "cost_pct": 100 * measured.gflops / dense_cost(bench.architecture).gflops,
        "miou_pct": measured.values["miou_pct"].value,
        **asdict(difference),
    }


def _finetuned(bench: Workbench, layout: DToP, n_steps: int) -> Measurement:
    """Train the heads for a layout, and measure it with them on the unseen images."""
    name, images = bench.loaded.name, bench.confirm_images
    assert images is not None
    source = find_masks("shapes", n_classes=bench.architecture.n_classes)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "tuned.safetensors"
        settings = FineTuning(layout=layout, n_steps=n_steps, save_every=n_steps)
        finetune_heads(load_model(name), source, settings, output, is_shapes=True)
        tuned = load_model(name, checkpoint=output)
    batch_size = bench.settings.settled_batch_size
    return evaluator_of(tuned, images, device="cpu", batch_size=batch_size, precision="float32").measure(layout)


if __name__ == "__main__":
    main()
