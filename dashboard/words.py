"""Say things to people in one line each: estimates, measurements, comparisons, layouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from objectives.comparison import Comparison
from objectives.metrics import BATCH_LATENCY, METRICS, Measurement
from objectives.statistics import Estimate, PairedComparison
from storage import StudyRecord
from storage.axis import quantity, timing_of
from storage.results import estimate_of

__all__ = [
    "budget_text",
    "comparison_line",
    "cramped_line",
    "gflops_text",
    "latency_line",
    "layout_line",
    "measurement_line",
    "n_images_text",
    "with_interval",
]


def with_interval(estimate: Estimate | None) -> str:
    """Write an estimate with its interval.

    >>> with_interval(Estimate(78.04, 75.3, 80.5))
    '78.0 [75.3, 80.5]'
    """
    return "-" if estimate is None else estimate.text(".1f", alone=".3g")


def n_images_text(measurement: Measurement) -> str:
    """Say on how many images it was measured, and of how many that is a part."""
    of_all = "" if measurement.part is None else f" of {measurement.part.n_listed:,}"
    return f"{measurement.n_images:,}{of_all}"


def measurement_line(measurement: Measurement, metric: str) -> str:
    """Write a measurement's metric, cost and number of images; and the latency of one, where it was timed."""
    latency = "" if measurement.latency_ms is None else f" and {quantity(measurement.latency_ms)} ms"
    return (
        f"{METRICS[metric].label} {with_interval(estimate_of(measurement, metric))} at "
        f"{gflops_text(measurement.gflops, measurement)} GFLOPs{latency}, {n_images_text(measurement)} images"
    )


def cramped_line(study: StudyRecord, measurement: Measurement | None) -> str | None:
    """Say in how small batches something was measured for lack of memory; ``None`` where there was enough."""
    asked = study.spec["settings"].get("batch_size")
    if measurement is None or measurement.batch_size is None or measurement.batch_size == asked:
        return None
    return f"measured in batches of {measurement.batch_size} images, since the memory did not suffice for {asked}"


def gflops_text(gflops: float, measurement: Measurement | None) -> str:
    """Write a cost, as it was measured on these images where the images decide it, with its interval."""
    measured = None if measurement is None else measurement.measured_gflops
    return quantity(measured or Estimate(gflops))


def latency_line(study: StudyRecord, measurement: Measurement | None) -> str | None:
    """Say what a latency is of, what a batch took, and on what machine; ``None`` where nothing was timed."""
    timing = timing_of(study)
    if timing is None or measurement is None or measurement.latency_ms is None:
        return None
    batch = measurement.values.get(BATCH_LATENCY)
    of_batch = "" if batch is None else f", of a batch of {measurement.batch_size} {quantity(batch)} ms"
    return (
        f"latency of one image {quantity(measurement.latency_ms)} ms{of_batch}: medians with 95 % intervals, on "
        f"{timing.machine}, {timing.machine.runtime}"
    )


def budget_text(study: StudyRecord) -> str:
    """Write a study's budget: of GFLOPs, of ms, or of both.

    Where latency is timed, GFLOPs without an end of their own bound nothing, and are not named.
    """
    timing = timing_of(study)
    parts = []
    if timing is None or study.budget_high_gflops < study.dense_gflops:
        parts.append(f"{_ends(study.budget_low_gflops, study.budget_high_gflops)} GFLOPs")
    if timing is not None and timing.budget is not None:
        parts.append(f"{_ends(timing.budget.low_ms, timing.budget.high_ms)} ms")
    return ", ".join(parts) or "none"


def _ends(low: float | None, high: float) -> str:
    return f"{high:.4g}" if low is None else f"{low:.4g} to {high:.4g}"


def comparison_line(comparison: Comparison) -> str:
    """Write a paired comparison, first minus second."""
    if isinstance(comparison, PairedComparison):
        how = (
            f"only the first right {comparison.only_first}, only the second {comparison.only_second}; McNemar p = "
            f"{comparison.p_value:.3g}"
        )
    else:
        how = "bootstrap over images, each drawn for both"
    return (
        f"{comparison.difference_pct:+.2f} points [{comparison.low_pct:+.2f}, {comparison.high_pct:+.2f}] on the same "
        f"{comparison.n_images} images ({how})"
    )


def layout_line(config: Mapping[str, Any]) -> str:
    """Write where a layout prunes and how much it keeps; its settings, if it has no pruning layers of its own.

    >>> layout_line({"method": "zero_tprune", "after": [3, 6], "keep_rate": [0.7, 0.61234], "s": [10, 0]})
    'after 3: 0.70, s 10 | after 6: 0.61'
    >>> layout_line({"method": "bat", "inside": [4, 7], "keep_rate": [0.7, 0.61234]})
    'inside 4: 0.70 | inside 7: 0.61'
    >>> layout_line({"method": "ats", "in_attention": [4, 7], "k": None, "k_ratio": [0.7, 0.61234]})
    'in attention 4: K 0.70 | in attention 7: K 0.61'
    """
    if "in_attention" in config:
        return _sampling_line(config)
    where = next((place for place in ("after", "inside") if place in config and "keep_rate" in config), None)
    if where is None:
        return ", ".join(f"{name} {value}" for name, value in config.items() if name != "method")
    layers = []
    for index, block in enumerate(config[where]):
        s = config.get("s", 0)
        similar = s[index] if isinstance(s, list) else s
        layers.append(f"{where} {block}: {config['keep_rate'][index]:.2f}" + (f", s {similar}" if similar else ""))
    return " | ".join(layers) or "nothing pruned"


def _sampling_line(config: Mapping[str, Any]) -> str:
    layers = []
    for index, block in enumerate(config["in_attention"]):
        given = config["k_ratio"] if config["k"] is None else config["k"]
        size = given[index] if isinstance(given, list | tuple) else given
        layers.append(f"in attention {block}: K {size if isinstance(size, int) else f'{size:.2f}'}")
    return " | ".join(layers) or "nothing pruned"
