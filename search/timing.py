"""Latency as a cost of a search: the dense model's when it begins, and each candidate's once it was measured."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from objectives.evaluator import DenseReference
from objectives.evaluators import Measurable
from objectives.latency import machine_at_hand
from objectives.layout_latency import LayoutTimer
from objectives.metrics import LATENCY, Measurement
from search.config import SearchSettings
from search.execution import Execution
from search.executors import Batching, Executor, LocalExecutor, Outcome
from search.racing import Race
from search.workbench import Workbench
from spaces import LatencyBudget, PrunefrontError, PruningConfig
from storage import StudyRecord
from storage.axis import Timing, quantity, timing_of

__all__ = ["TimingExecutor", "require_same_machine", "time_dense", "timed"]

_DRIFT = 0.1  # of the dense model's latency, which a quiet machine stays within


def time_dense(bench: Workbench, dense: Measurement, say: Callable[[str], None]) -> tuple[Measurement, Timing | None]:
    """Time the dense model, where the search times its candidates, and settle the budget in ms.

    Args:
        bench: the search's, calibrated.
        dense: what was measured of the dense model.
        say: is told what it takes, and on what.

    Returns:
        The measurement with the latencies, and how the study times; as it was and ``None`` where it does not.

    Raises:
        InvalidInput: the budget cannot be read.
    """
    settings = bench.settings
    if not settings.times_latency:
        return dense, None
    timer = LayoutTimer(bench.loaded, bench.search_images, device=settings.device)
    cheapest, _ = bench.problem.space.extremes(bench.architecture)
    with closing(LocalExecutor(bench.evaluator, threads=settings.threads)):  # so that it is timed with its threads
        found = timer.time(None, settings.settled_batch_size)
        least = timer.time(cheapest, settings.settled_batch_size)[LATENCY]
    bench.loaded.model.cpu()  # where workers take it from
    machine = machine_at_hand(settings.device, settings.threads)
    dense_ms = found[LATENCY].value
    budget = None if settings.budget_ms is None else LatencyBudget.parse(settings.budget_ms, dense_ms)
    limit = "" if budget is None else f"; the budget is {budget.high_ms:.4g} ms"
    say(
        f"latency: one image takes the dense model {quantity(found[LATENCY])} ms, and the layout of this space with "
        f"the fewest GFLOPs {quantity(least)}{limit}; on {machine}, {machine.runtime}"
    )
    timing = Timing(machine, dense_ms, budget, settings.cost == LATENCY, bench.problem.is_front)
    return replace(dense, values={**dense.values, **found}), timing


def require_same_machine(study: StudyRecord, settings: SearchSettings) -> None:
    """Refuse to time candidates on a machine other than that on which the study's others were.

    Raises:
        PrunefrontError: it is another, or another runtime.
    """
    timing, here = timing_of(study), machine_at_hand(settings.device, settings.threads)
    if timing is not None and not here.is_like(timing.machine):
        raise PrunefrontError(
            f"the latencies of study {study.name!r} were timed on {timing.machine}, {timing.machine.runtime}, and this "
            f"is {here}, {here.runtime}: they could not be compared; go on there, or start a new study here"
        )


def timed(
    executor: Executor, bench: Workbench, study: StudyRecord, execution: Execution, say: Callable[[str], None]
) -> Executor:
    """Have an executor time what it measures, where the study does so and this is its machine; else leave it as it is.

    A search has made sure of both by then. To confirm, neither is needed: ``say`` is told if nothing is timed again.
    """
    timing = timing_of(study)
    if timing is None:
        return executor
    here = machine_at_hand(bench.settings.device, bench.settings.threads)
    if execution.executor == "local" and here.is_like(timing.machine):
        return TimingExecutor(executor, bench, timing, say)
    say(f"latencies are not measured again: that takes --executor local, on {timing.machine}")
    return executor


class TimingExecutor:
    """Times each candidate once another executor, in this process, has measured it on all images.

    It measures one candidate at a time, so that nothing else of the search runs on the device meanwhile.
    """

    def __init__(self, executor: Executor, bench: Workbench, timing: Timing, say: Callable[[str], None]) -> None:
        """Take what measures, what is measured, how the study times, and who is told if the machine has changed."""
        self._executor, self._bench, self._timing, self._say = executor, bench, timing, say
        self._timer: LayoutTimer | None = None
        self._batch_size = 1
        self._configs: dict[int, PruningConfig] = {}

    def hold(self, images: Measurable, batching: Batching, reference: DenseReference | None = None) -> None:
        """Take the images for what follows."""
        self._executor.hold(images, batching, reference)
        self._batch_size = batching.size
        self._timer = LayoutTimer(self._bench.loaded, images, device=self._bench.settings.device)

    def measure_dense(self) -> tuple[Measurement, DenseReference]:
        """Measure the dense model, and time it: whether the machine is as fast as it was when the study began."""
        measurement, reference = self._executor.measure_dense()
        measurement = self._timed(measurement, None)
        now, then = measurement.latency_ms, self._timing.dense_ms
        if now is not None and abs(now.value - then) > _DRIFT * then:
            self._say(
                f"note: the dense model takes {quantity(now)} ms now, and took {then:.4g} ms when the study began: "
                "something else runs on this machine, or ran then, and latencies of the two times cannot be compared"
            )
        return measurement, reference

    def has_room(self) -> bool:
        """Say whether no candidate waits."""
        return self._executor.has_room()

    def submit(self, number: int, config: PruningConfig, race: Race | None = None) -> None:
        """Take a candidate."""
        self._configs[number] = config
        self._executor.submit(number, config, race)

    def next_outcome(self, timeout_s: float) -> Outcome | None:
        """Measure the candidate that waits, and time it; whatever goes wrong becomes its outcome."""
        outcome = self._executor.next_outcome(timeout_s)
        if outcome is None:
            return None
        config = self._configs.pop(outcome.number)
        if outcome.measurement is None or outcome.lost_to is not None:
            return outcome
        try:
            return replace(outcome, measurement=self._timed(outcome.measurement, config))
        except Exception as error:  # as while it was measured
            line = " ".join(f"{type(error).__name__}: {error}".split())
            return Outcome(outcome.number, outcome.worker, error=line, traceback=traceback.format_exc())

    def close(self) -> None:
        """Close the other executor."""
        self._executor.close()

    def _timed(self, measurement: Measurement, config: PruningConfig | None) -> Measurement:
        if self._timer is None:
            raise RuntimeError("hold() must give the images before anything is timed")
        found = self._timer.time(config, measurement.batch_size or self._batch_size)
        return replace(measurement, values={**measurement.values, **found})
