"""Find the batch size and the precision that suit a model on a device, by a short measurement."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from objectives.evaluator import DenseReference
from objectives.evaluators import AnyEvaluator
from objectives.metrics import METRICS, Measurement, Precision
from search.executors import LocalExecutor
from search.sampler import Sampler
from search.workbench import Workbench
from spaces import InvalidInput

__all__ = ["Calibrated", "calibrate"]

_BATCHES = {"cpu": (16, 32, 64, 128), "cuda": (64, 128, 256, 512)}
_LOOKS = 8  # batches that a measurement has at least; after each of them a race may end
_N_LAYOUTS = 3
_ROUNDS = 3
_GLANCES = 2  # rounds of one small batch, which tell whether half precision is hopeless
_HOPELESS = 0.5  # times as fast as float32
_AS_FAST = 1.03  # times as long as the fastest
_GAINS = 0.99  # times as long as a batch of half the size, at most
_WORTHWHILE = 1.05  # times as fast as float32


@dataclass(frozen=True)
class Calibrated:
    """A workbench whose batch size and precision are settled, and the dense model measured with them."""

    bench: Workbench
    dense: Measurement
    reference: DenseReference


def calibrate(bench: Workbench, say: Callable[[str], None]) -> Calibrated:
    """Settle what the settings leave open, and measure the dense model.

    The smallest batch is taken that is about as fast as the fastest: it is doubled for as long as that gains. Half
    precision, for which larger batches pay, is taken where it is faster in them and leaves the dense model's metric
    within the 95 % interval that it has in float32; where one small batch takes twice as long or more, as on a CPU
    without instructions for it, no other is tried. What times nothing comes first: workers may be starting meanwhile.

    Raises:
        InvalidInput: half precision was asked for, and moves the metric out of that interval.
    """
    settings, images = bench.settings, bench.search_images
    with closing(LocalExecutor(bench.evaluator, threads=settings.threads)):  # so that it is timed with its threads
        sizes = _batches(bench)
        dense, reference = bench.evaluator(images, batch_size=sizes[0]).measure_dense()
        if settings.precision == "auto":
            precision, batch_size, speedup = _fastest(bench, sizes)
            gain = f", {speedup:.2f}x as fast as float32 here"
        else:
            precision, gain = settings.precision, ""
            batch_size = _fastest_batch(bench, sizes, precision)
        if precision != "float32":
            half = bench.evaluator(images, batch_size=batch_size, precision=precision).measure_dense()
            before = dense.values[METRICS[settings.metric].name]
            after = _metric_in_half(settings.metric, *half, reference)
            moved = f"moves the dense model's {settings.metric} by {after - before.value:+.2f} points"
            interval = f"95 % interval ({before.low:.2f} to {before.high:.2f})"
            if (before.low or 0) <= after <= (before.high or 100):
                dense, reference = half
                say(f"precision: {precision}{gain}; it {moved}, within its {interval}")
            elif settings.precision == "auto":
                precision = "float32"
                say(f"precision: float32; {half[0].precision} {moved}, out of its {interval}")
            else:
                raise InvalidInput(f"{precision} {moved}, out of its {interval}: search with --precision float32")
        if dense.batch_size != batch_size:  # it decides the last bits of what layouts are compared with
            dense, reference = bench.evaluator(images, batch_size=batch_size).measure_dense()
    say(f"measuring in batches of {batch_size} images, in {precision}")
    bench.loaded.model.cpu()  # where workers take it from
    settled = settings.model_copy(update={"batch_size": batch_size, "precision": precision})
    return Calibrated(replace(bench, settings=settled), dense, reference)


def _batches(bench: Workbench) -> list[int]:
    """Give the batch size that was asked for, or those that give races enough looks, the smallest in any case."""
    if bench.settings.batch_size != "auto":
        return [bench.settings.batch_size]
    first, *larger = _BATCHES[bench.settings.device]
    return [first, *(size for size in larger if size * _LOOKS <= len(bench.search_images))]


def _fastest(bench: Workbench, sizes: Sequence[int]) -> tuple[Precision, int, float]:
    """Find the precision and the batch, and how many times as fast as float32 half precision is."""
    half: Precision = "bfloat16"
    if bench.settings.device == "cuda" and not torch.cuda.is_bf16_supported():
        half = "float16"
    speedup = _speedup(bench, min(sizes[0], _BATCHES[bench.settings.device][0]), half, n_layouts=1, n_rounds=_GLANCES)
    if speedup > _HOPELESS:
        batch_size = _fastest_batch(bench, sizes, half)
        speedup = _speedup(bench, batch_size, half)
        if speedup >= _WORTHWHILE:
            return half, batch_size, speedup
    return "float32", _fastest_batch(bench, sizes, "float32"), speedup


def _speedup(
    bench: Workbench, batch_size: int, half: Precision, n_layouts: int = _N_LAYOUTS, n_rounds: int = _ROUNDS
) -> float:
    """Say how many times as fast as float32 half precision is, in batches of one size."""
    both = [_evaluator(bench, batch_size, each) for each in (half, "float32")]
    in_half, in_float32 = _timed(bench, both, n_layouts, n_rounds)
    return in_float32 / in_half


def _fastest_batch(bench: Workbench, sizes: Sequence[int], precision: Precision) -> int:
    """Find the smallest batch that is about as fast as the fastest."""
    evaluators = [_evaluator(bench, size, precision) for size in sizes]
    seconds = [1.0]  # for an image, of those that the first takes
    for smaller, larger in pairwise(evaluators):
        before, after = _timed(bench, [smaller, larger])
        seconds.append(seconds[-1] * after / before)
        if after > _GAINS * before:
            break
    return next(size for size, each in zip(sizes, seconds, strict=False) if each <= _AS_FAST * min(seconds))


def _evaluator(bench: Workbench, batch_size: int, precision: Precision) -> AnyEvaluator:
    return bench.evaluator(bench.search_images, batch_size=batch_size, precision=precision)


def _timed(
    bench: Workbench, evaluators: Sequence[AnyEvaluator], n_layouts: int = _N_LAYOUTS, n_rounds: int = _ROUNDS
) -> list[float]:
    """Time the evaluators in turn on what they will measure: layouts, in which scoring tokens takes its share."""
    sampler = Sampler("random", bench.problem.parameters(), seed=0, is_front=bench.problem.is_front)
    layouts = [
        bench.problem.propose(sampler.ask(number, bench.problem.excess).params).config for number in range(n_layouts)
    ]
    best = [[math.inf] * len(layouts) for _ in evaluators]
    for _ in range(n_rounds):
        for number, layout in enumerate(layouts):
            for seconds, evaluator in zip(best, evaluators, strict=True):
                seconds[number] = min(seconds[number], evaluator.time_image(layout))
    return [sum(seconds) for seconds in best]


def _metric_in_half(metric: str, rounded: Measurement, said: DenseReference, reference: DenseReference) -> float:
    """Give the metric of the dense model in half precision; its agreement is with itself in float32."""
    if metric == "agreement":
        return 100 * float((said.logits.argmax(1) == reference.logits.argmax(1)).mean())
    return rounded.values[METRICS[metric].name].value
