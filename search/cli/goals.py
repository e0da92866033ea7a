"""What a search is after, as it is asked for: ``--objective``, ``--metric``, ``--budget`` and ``--budget-ms``."""

from __future__ import annotations

from typing import Any, get_args

from objectives.metrics import GFLOPS, LATENCY, METRICS, Cost
from spaces import InvalidInput

__all__ = ["goal_settings"]


def goal_settings(options: dict[str, Any], usual_metric: str) -> dict[str, Any]:
    """Take what is maximised, minimised and bounded out of ``options``, and give it as settings.

    Raises:
        InvalidInput: the objective is none, or does not fit the other options.
    """
    names = ("metric", "objective", "budget", "budget_ms")
    metric, objective, budget, budget_ms = (options.pop(name) for name in names)
    named, comma, cost = (objective or "").partition(",")
    if objective and (named not in METRICS or (comma and cost not in get_args(Cost))):
        raise InvalidInput(
            f"--objective is {', '.join(METRICS)}, with {' or '.join(get_args(Cost))} behind a comma for a front, got "
            f"{objective!r}"
        )
    if named and metric not in (None, named):
        raise InvalidInput(
            f"--objective {objective} and --metric {metric} contradict each other: leave one of them out"
        )
    if cost == GFLOPS and ":" not in (budget or ""):
        raise InvalidInput(f"a front over GFLOPs is searched over a range: --budget 50%:90%, got {budget!r}")
    if budget is None and budget_ms is None and cost != LATENCY:
        raise InvalidInput("say what a layout may cost: --budget 3.0 (GFLOPs), 65% (of dense), or --budget-ms")
    goal = {"metric": named or metric or usual_metric, "cost": cost or None, "budget": budget, "budget_ms": budget_ms}
    return {name: value for name, value in goal.items() if value is not None}
