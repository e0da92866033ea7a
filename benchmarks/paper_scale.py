"""The paper's Monte-Carlo search in full: 2,000 layouts of DeiT-S on 1,024 images, which took it 3.8 hours on an A100.

    python -m benchmarks.paper_scale --device cuda --output build/bench/paper_scale.json

Weights and images are random, which changes no time; so nothing is raced, and every layout sees every image. Elsewhere
than on a GPU ask for fewer: --device cpu --layouts 4 --images 64.

Source: Wang, Dedhia and Jha 2024, "Zero-TPrune", arXiv:2305.17328.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import timm
import torch

from benchmarks.results import write_results
from objectives.evaluator import Evaluator
from objectives.images import PreparedImages
from pruning import read_architecture
from pruning.preprocessing import Preprocessing
from search.sampler import Sampler
from spaces import Budget, Problem, dense_cost, parse_space

_NAME, _PAPER_HOURS = "deit_small_patch16_224", 3.8


def main() -> None:
    """Measure the layouts of a Monte-Carlo search, and print the time beside the paper's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--layouts", type=int, default=2000)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--budget", default="3.0")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--precision", choices=["float32", "bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--cache-gb", type=float, default=8.0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = timm.create_model(_NAME).eval()
    architecture = read_architecture(model, _NAME)
    generator = np.random.default_rng(0)
    images = PreparedImages(
        pixels=generator.integers(0, 256, (options.images, 3, 224, 224), dtype=np.uint8),
        labels=generator.integers(0, 1000, options.images),
        numbers=np.arange(options.images),
        list_hash="random",
    )
    half = (0.5, 0.5, 0.5)
    evaluator = Evaluator(
        model,
        _NAME,
        images,
        Preprocessing(input_size=(3, 224, 224), interpolation="bicubic", mean=half, std=half, crop_pct=1.0),
        device=options.device,
        batch_size=options.batch_size,
        precision=options.precision,
        cache_bytes=int(options.cache_gb * 1e9),
    )
    dense, _ = evaluator.measure_dense()
    problem = Problem(
        parse_space("zero_tprune"), architecture, Budget.parse(options.budget, dense_cost(architecture).gflops)
    )
    sampler = Sampler("random", problem.parameters(), seed=0, is_front=False)
    started, in_model = time.perf_counter(), 0.0
    for number in range(options.layouts):
        in_model += evaluator.measure(problem.propose(sampler.ask(number).params).config).seconds
        if number % 50 == 49:
            print(f"{number + 1} layouts, {time.perf_counter() - started:.0f} s", flush=True)
    seconds = time.perf_counter() - started
    result = {
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "layouts": options.layouts,
        "images": options.images,
        "precision": options.precision,
        "batch_size": options.batch_size,
        "seconds": seconds,
        "seconds_in_model": in_model,
        "images_a_second": options.layouts * options.images / seconds,
        "dense_images_a_second": options.images / dense.seconds,
    }
    print(json.dumps(result, indent=2))
    if (options.layouts, options.images) == (2000, 1024):
        print(f"{seconds / 3600:.2f} hours; the paper's search took {_PAPER_HOURS} on an A100")
    write_results(result, options.output)


if __name__ == "__main__":
    main()
