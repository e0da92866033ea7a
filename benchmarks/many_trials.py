"""A study of as many trials as one likes, made up for measuring the dashboard and for nothing else."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import create_engine, func, insert, select

from objectives.statistics import proportion_pct
from spaces import Architecture, Budget, Problem, Proposal, ZeroTPruneSpace, dense_cost
from storage import NewStudy, Provenance, Store, StudyState
from storage.schema import measurements, metric_values, trials

__all__ = ["fill"]

_N_LAYOUTS = 200
_N_IMAGES = 1024
_CHUNK = 10_000


def fill(url: str, name: str, n_trials: int, architecture: Architecture, *, seed: int = 0) -> None:
    """Add a finished study whose points spread as a real search's do: one in ten stopped early, some equal.

    Its layouts are real ones of Zero-TPrune's space, each used many times; the metric is made up. Rows get their
    numbers here, which is quicker than asking for them; so the database is a SQLite file that nobody else writes.
    """
    dense = dense_cost(architecture).gflops
    budget = Budget(0.5 * dense, 0.9 * dense)
    problem = Problem(ZeroTPruneSpace.parse({**ZeroTPruneSpace.presets["paper"]}), architecture, budget)
    random = np.random.default_rng(seed)
    layouts = [_layout(problem.propose(_draw(problem, random))) for _ in range(_N_LAYOUTS)]
    draws = [_draw(problem, random) for _ in range(_N_LAYOUTS)]
    with Store(url, create=True) as store:
        study = store.create_study(_study(name, architecture, n_trials, budget, dense))
        store.set_study_state(study.id, StudyState.FINISHED)
    engine = create_engine(url)
    with engine.begin() as connection:
        last_rows = [connection.execute(select(func.max(table.c.id))).scalar() for table in (trials, measurements)]
    row = 1 + max(last or 0 for last in last_rows)
    for first in range(0, n_trials, _CHUNK):
        numbers = range(first, min(first + _CHUNK, n_trials))
        proposed = [{"id": row + n, **_trial(study.id, n, layouts, draws)} for n in numbers]
        measured = [_measurement(trial, random, dense) for trial in proposed]
        with engine.begin() as connection:
            connection.execute(insert(trials), proposed)
            connection.execute(insert(measurements), [measurement for measurement, _ in measured])
            connection.execute(insert(metric_values), [value for _, value in measured])
    engine.dispose()


def _study(name: str, architecture: Architecture, n_trials: int, budget: Budget, dense: float) -> NewStudy:
    settings = {"study": name, "model": {"name": architecture.name}, "data": {"data": "shapes"}}
    return NewStudy(
        name=name,
        model=architecture.name,
        data="made up",
        method="zero_tprune",
        sampler="random",
        metric="top1",
        seed=0,
        look_ahead=16,
        n_trials=n_trials,
        budget_low_gflops=budget.low_gflops,
        budget_high_gflops=budget.high_gflops,
        dense_gflops=dense,
        spec={"settings": settings, "architecture": architecture.model_dump(mode="json")},
        provenance=Provenance("0" * 16, "0" * 16, None, "benchmark", "nowhere", {}),
    )


def _draw(problem: Problem, random: np.random.Generator) -> dict[str, Any]:
    """Draw every parameter evenly."""
    values: dict[str, Any] = {}
    for parameter in problem.parameters():
        domain = parameter.domain
        if hasattr(domain, "values"):
            values[parameter.name] = domain.values[int(random.integers(len(domain.values)))]
        elif isinstance(domain.low, int):
            values[parameter.name] = int(random.integers(domain.low, domain.high + 1))
        else:
            values[parameter.name] = float(random.uniform(domain.low, domain.high))
    return values


def _layout(proposal: Proposal) -> dict[str, Any]:
    """Give the columns that trials of one layout share."""
    return {
        "gflops": proposal.cost.gflops,
        "drawn_gflops": proposal.drawn_gflops,
        "config": proposal.config.model_dump(mode="json"),
    }


def _trial(study_id: int, number: int, layouts: list[dict[str, Any]], draws: list[dict[str, Any]]) -> dict[str, Any]:
    layout = layouts[number % _N_LAYOUTS]
    spread = 0.5 + 0.5 * math.sin(number * 12.9898)  # an even spread of costs, without a draw for each
    low, high = 0.55, 1.0
    is_stopped = number % 10 == 9
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return layout | {
        "study_id": study_id,
        "number": number,
        "state": "stopped" if is_stopped else "complete",
        "method": "zero_tprune",
        "digest": f"{number:016x}",
        "gflops": layout["gflops"] * (low + (high - low) * spread),
        "overhead_gflops": 0.001,
        "rival": 0 if is_stopped else None,
        "attempts": 1,
        "created_at": moment,
        "started_at": moment,
        "finished_at": moment,
        "params": draws[number % _N_LAYOUTS],
        "sampler_attrs": {},
    }


def _measurement(
    trial: dict[str, Any], random: np.random.Generator, dense: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make up what was measured of a trial, and the one value of it."""
    is_stopped = trial["state"] == "stopped"
    n_images = 128 if is_stopped else _N_IMAGES
    merit = 0.96 - 0.35 * (1 - trial["gflops"] / dense) ** 2 - abs(random.normal(0, 0.06)) - 0.1 * is_stopped
    estimate = proportion_pct(int(np.clip(merit, 0.1, 1.0) * n_images), n_images)
    measurement = {
        "id": trial["id"],
        "study_id": trial["study_id"],
        "trial_id": trial["id"],
        "kind": "search",
        "image_list_hash": "0" * 16,
        "n_images": n_images,
        "gflops": trial["gflops"],
        "macs": int(trial["gflops"] * 1e9),
        "tokens_per_block": [1],
        "seconds": 1.0,
        "created_at": trial["finished_at"],
    }
    return measurement, {
        "measurement_id": trial["id"],
        "metric": "top1_pct",
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "outcomes": bytes(n_images // 8),
    }
