"""Images a second under DToP: packed, against image by image, padded, and the dense model.

    python -m benchmarks.packed_tokens --output build/bench/packed_tokens.json

The scores of packed, padded and single images are compared before anything is timed. Each round runs every way once, in
turn; ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

from benchmarks.results import write_results
from objectives.shapes import draw_batch
from objectives.train_shapes_vit import normalise
from pruning import pruned
from pruning.dtop import EarlyExit
from pruning.models import load_model
from pruning.segmentation.packing import PackedTokens
from pruning.segmentation.segmenter import Segmenter
from spaces import DToP

LAYOUTS = {
    "p0 0.88, k 8": DToP(after=(4, 8), p0=0.88, k=8),
    "p0 0.95, k 5": DToP(after=(4, 8), p0=0.95, k=5),
}


class PaddedExit(EarlyExit):
    """The same layout, with every image filled up to the longest of its batch and the filling masked in attention."""

    def __call__(self, model: Segmenter, tokens: Tensor) -> Tensor:
        """Run the blocks on padded rectangles."""
        run_packed = model.run_blocks

        def run_padded(packed: PackedTokens, first: int, last: int) -> PackedTokens:
            longest = max(packed.lengths)
            padded = torch.nn.utils.rnn.pad_sequence(list(packed.split()), batch_first=True)
            length = torch.tensor(packed.lengths, device=padded.device)
            is_token = torch.arange(longest, device=padded.device) < length[:, None]
            for block in list(model.encoder.blocks)[first:last]:
                padded = block(padded, attn_mask=is_token[:, None, None, :])
            return packed.with_values(padded[is_token])

        model.run_blocks = run_padded  # type: ignore[method-assign]
        try:
            return super().__call__(model, tokens)
        finally:
            model.run_blocks = run_packed  # type: ignore[method-assign]


def main() -> None:
    """Time every way, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="shapes_seg_small")
    parser.add_argument("--checkpoint")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_model(options.model, checkpoint=options.checkpoint).model.to(options.device)
    assert isinstance(model, Segmenter)
    pixels, _, _ = draw_batch(range(options.batch))
    images = normalise(pixels, torch.device(options.device))
    results = []
    with torch.inference_mode():
        for name, layout in LAYOUTS.items():
            results += _timed(model, layout, name, images, options.rounds)
    rows = [
        [each["layout"], each["way"], f"{each['images_per_s']:.1f}", f"{each['of_dense']:.2f}x"] for each in results
    ]
    print(
        f"{options.model}, batch {options.batch}, {options.device}, {options.threads} threads, {options.rounds} rounds"
    )
    print(tabulate(rows, ["layout", "way", "images/s", "of dense"]))
    write_results(results, options.output)


def _timed(model: Segmenter, layout: DToP, name: str, images: Tensor, rounds: int) -> list[dict]:
    def run(early_exit: EarlyExit | None, batches: list[Tensor]) -> Tensor:
        model.early_exit = early_exit
        try:
            return torch.cat([model.forward_scores(batch) for batch in batches])
        finally:
            model.early_exit = None

    one_by_one = list(images.split(1))
    ways: dict[str, Callable[[], Tensor]] = {
        "dense": lambda: run(None, [images]),
        "image by image": lambda: run(EarlyExit(layout), one_by_one),
        "padded": lambda: run(PaddedExit(layout), [images]),
        "packed": lambda: run(EarlyExit(layout), [images]),
    }
    with pruned(model, layout):
        expected = model.forward_scores(images)
    for way in ("image by image", "padded", "packed"):
        torch.testing.assert_close(ways[way](), expected, rtol=1e-4, atol=1e-4)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for round_ in range(rounds + 1):
        for way, go in ways.items():
            if images.is_cuda:
                torch.cuda.synchronize()
            started = time.perf_counter()
            go()
            if images.is_cuda:
                torch.cuda.synchronize()
            if round_:  # the first warms up
                seconds[way].append(time.perf_counter() - started)
    return [
        {
            "layout": name,
            "way": way,
            "images_per_s": len(images) / statistics.median(spent),
            "of_dense": statistics.median(dense / own for dense, own in zip(seconds["dense"], spent, strict=True)),
        }
        for way, spent in seconds.items()
    ]


if __name__ == "__main__":
    main()
