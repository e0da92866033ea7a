"""Whether a candidate is within the budget, where only measuring tells what it costs."""

from __future__ import annotations

from objectives.metrics import Measurement
from spaces import Problem

__all__ = ["overrun"]


def overrun(measurement: Measurement | None, problem: Problem, *, is_stopped: bool = False) -> float:
    """Say by how many GFLOPs a measured cost is over the budget: by its interval's upper end.

    Among many layouts near the budget those are chosen that came out well, and so too often some that came out cheaper
    than they are. Of those whose whole interval is within the budget, the mean over all images that there are is over
    it in no more than one case of forty. A single image has no interval; then its own cost decides.

    Args:
        measurement: ``None`` where there is none.
        problem: whose budget it is.
        is_stopped: whether it lost its race. It never wins then, and the sampler is told what it cost on average: on
            few images the interval is wide.

    Returns:
        0 where the cost is within the budget, or the same for every image: then it was known to be.
    """
    cost = None if measurement is None else measurement.measured_gflops
    if cost is None:
        return 0.0
    return problem.overrun(cost.value if is_stopped or cost.high is None else cost.high)
