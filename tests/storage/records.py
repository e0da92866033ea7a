"""Records that tests make."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from objectives.machine import Machine
from objectives.metrics import Measurement
from objectives.statistics import Estimate, pack, proportion_pct
from objectives.visits import Part
from spaces import LatencyBudget, ZeroTPrune
from storage import NewStudy, NewTrial, Provenance
from storage.axis import Timing
from tests.tiny import DEIT_SMALL

N_IMAGES = 40


def new_study(name: str = "first", **changes) -> NewStudy:
    values = {
        "name": name,
        "model": "deit_small_patch16_224",
        "data": "/data/imagenet",
        "method": "zero_tprune",
        "sampler": "tpe",
        "metric": "top1",
        "seed": 0,
        "look_ahead": 16,
        "n_trials": 200,
        "budget_low_gflops": None,
        "budget_high_gflops": 3.0,
        "dense_gflops": 4.608338304,
        "spec": {"settings": {"study": name}, "architecture": DEIT_SMALL.model_dump(mode="json")},
        "provenance": Provenance("w" * 16, "s" * 16, "c" * 16, "prunefront search", "host", {"python": "3.11"}),
    }
    return NewStudy(**(values | changes))


def new_trial(number: int, gflops: float = 2.9, **changes) -> NewTrial:
    config = ZeroTPrune(after=(3, 6), keep_rate=(0.7, 0.6))
    values = {
        "number": number,
        "method": "zero_tprune",
        "digest": f"{number:016x}",
        "config": config.model_dump(mode="json"),
        "params": {"n_layers": 2, "after_1": 3, "feature": "key", "v_min": 0.01},
        "gflops": gflops,
        "overhead_gflops": 0.01,
        "drawn_gflops": gflops + 0.5,
    }
    return NewTrial(**(values | changes))


def measurement(n_right: int, *, n_images: int = N_IMAGES, image_list_hash: str = "s" * 16) -> Measurement:
    outcomes = np.arange(n_images) < n_right
    return Measurement(
        n_images=n_images,
        image_list_hash=image_list_hash,
        values={
            "top1_pct": proportion_pct(n_right, n_images),
            "agreement_pct": proportion_pct(n_right, n_images),
            "kl_nats": Estimate(0.25),
        },
        outcomes={"top1_pct": pack(outcomes), "agreement_pct": pack(outcomes)},
        macs=2_900_000_001,
        tokens_per_block=(197, 120),
        seconds=1.5,
        batch_size=64,
    )


def partial_measurement() -> Measurement:
    """Make what a stopped candidate has: of 100 images it saw the first 10 and the last 20."""
    part = Part(n_listed=100, n_sample=10, hardest=pack(np.arange(100) >= 80), rarity=0.1)
    hits = np.arange(30) < 15
    return replace(
        measurement(15, n_images=30),
        values={name: part.proportion_pct(hits) for name in ("top1_pct", "agreement_pct")} | {"kl_nats": Estimate(0.3)},
        part=part,
    )


def true_trial(number: int, *, like: int | None = None, **changes) -> NewTrial:
    """Make a trial whose digest and cost are its layout's; ``like`` gives it the layout of another number."""
    hundreds, rest = divmod(number if like is None else like, 100)
    config = ZeroTPrune(after=(3, 6), keep_rate=((60.5 + rest) / 196, 0.5 - hundreds / 10))
    values = {
        "config": config.model_dump(mode="json"),
        "digest": config.digest(DEIT_SMALL),
        "gflops": config.cost(DEIT_SMALL).gflops,
    }
    return new_trial(number, **(values | changes))


def timed(found: Measurement, latency_ms: float) -> Measurement:
    """Add a latency with an interval of a fifth of a ms."""
    latency = Estimate(latency_ms, latency_ms - 0.1, latency_ms + 0.1)
    return replace(found, values={**found.values, "latency_ms": latency, "batch_latency_ms": Estimate(40 * latency_ms)})


def timing_spec(
    low_ms: float | None = None, high_ms: float | None = None, *, is_objective: bool = True, is_front: bool = True
) -> dict:
    """Give the spec of a study that times its trials."""
    budget = None if high_ms is None else LatencyBudget(low_ms, high_ms)
    machine = Machine("Some CPU", 2, "torch 2, eager, float32", "host")
    timing = Timing(machine, 8.0, budget, is_objective=is_objective, is_front=is_front)
    return {**new_study().spec, "timing": timing.to_spec()}
