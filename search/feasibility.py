"""What measuring has told of a candidate's cost: whether it is within the budget, and what its sampler is told."""

from __future__ import annotations

from objectives.metrics import Measurement
from spaces import Problem
from storage.axis import Timing

__all__ = ["cost_told", "overrun"]


def overrun(
    measurement: Measurement | None, problem: Problem, timing: Timing | None = None, *, is_stopped: bool = False
) -> float:
    """Say by how much a measured cost is over its budget, in GFLOPs, and a latency, in ms: by its interval's upper end.

    Among many layouts near the budget those are chosen that came out well, and so too often some that came out cheaper
    than they are. Of those whose whole interval is within the budget, the mean over all images that there are is over
    it in no more than one case of forty. A single image has no interval; then its own cost decides.

    Args:
        measurement: ``None`` where there is none.
        problem: whose budget it is.
        timing: with the budget for a latency, where there is one.
        is_stopped: whether it lost its race. It never wins then, and the sampler is told what it cost on average: on
            few images the interval is wide.

    Returns:
        0 where the cost is within the budget, or the same for every image: then it was known to be. Where both are
        over, their sum: samplers rank by it and read nothing else out of it.
    """
    if measurement is None:
        return 0.0
    missed_by = 0.0 if timing is None else timing.overrun_ms(measurement)
    cost = measurement.measured_gflops
    if cost is not None:
        missed_by += problem.overrun(cost.value if is_stopped or cost.high is None else cost.high)
    return missed_by


def cost_told(gflops: float, measurement: Measurement | None, timing: Timing | None) -> float:
    """Give what a sampler is to minimise beside the metric: GFLOPs, or the ms where latency is an objective.

    What is faster than the range of budgets in ms begins is told as if it were no faster, and so no better.
    """
    latency = None if measurement is None else measurement.latency_ms
    if timing is None or not timing.is_objective or latency is None:
        return gflops
    low = None if timing.budget is None else timing.budget.low_ms
    return latency.value if low is None else max(latency.value, low)
