"""Export every method as ``torch.export`` and ONNX programs, and compare each with the model on images of ``shapes``.

    python -m benchmarks.export_parity --output build/bench/export_parity.json

The bundled model, 100 images in batches of 1 and 3; of ATS, whose programs take one image at a time, of 1. Printed are
the greatest and the median difference of a logit, and the share of images with the same class.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch
from tabulate import tabulate

from benchmarks.results import write_results
from objectives.datasets import find_images
from objectives.images import prepare, stratified_order
from objectives.parity import BATCH_SIZES, USUAL_IMAGES, check_parity
from objectives.runtimes import eager, exported, onnxruntime_session
from pruning import pruned
from pruning.exporting import EXPORT_FILES, metadata, takes_batches, trace, write_program
from pruning.models import load_model
from spaces import parse_layout

_AFTER = {"after": [3, 6, 9], "keep_rate": [0.7, 0.7, 0.7]}
_INSIDE = {"inside": [4, 7, 10], "keep_rate": [0.7, 0.7, 0.7]}
LAYOUTS = {
    "zero_tprune": _AFTER | {"s": 5},
    "cls_topk": _INSIDE,
    "attention_rank": _AFTER,
    "tome": {"r": 8},
    "bat": _INSIDE | {"c_num": 5, "p": 5},
    "random_drop": _AFTER,
    "ats": {"in_attention": [4, 7, 10], "k_ratio": 0.7},
}


_DIFFERENCES = ("max_difference", "median_difference")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=USUAL_IMAGES)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    loaded = load_model("shapes_vit_small")
    source = find_images("shapes", n_classes=loaded.architecture.n_classes)
    wanted = stratified_order(source.images, seed=0)[: arguments.images]
    prepared, _ = prepare(source, wanted, arguments.images, loaded.preprocessing.pixel_transform())
    images = loaded.preprocessing.normalise(torch.from_numpy(prepared.pixels))
    rows = []
    for method, settings in LAYOUTS.items():
        layout = parse_layout({"method": method, **settings})
        program, batch_sizes = trace(loaded, layout), BATCH_SIZES if takes_batches(layout) else (1,)
        for name, file in EXPORT_FILES.items():
            with tempfile.TemporaryDirectory() as folder:
                path, started = Path(folder) / file, time.perf_counter()
                write_program(name, program, path, metadata(loaded, layout))
                seconds = time.perf_counter() - started
                run = onnxruntime_session(path) if name == "onnx" else exported(path)
                with pruned(loaded.model, layout):
                    parity = check_parity(eager(loaded.model), run, images, batch_sizes)
            rows.append({"method": method, "format": name, "written_s": seconds, **asdict(parity)})
    table = [
        [row["method"], row["format"], *(f"{row[name]:.1e}" for name in _DIFFERENCES), f"{row['agreement_pct']:.1f}"]
        for row in rows
    ]
    print(tabulate(table, ["method", "format", "greatest difference", "median", "same class (%)"]))
    write_results({"n_images": len(images), "rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
