"""What the loop asks of whatever measures candidates, and the simplest thing that does: this process."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch

from objectives.evaluator import DenseReference
from objectives.evaluators import AnyEvaluator, Measurable
from objectives.memory import is_out_of_memory
from objectives.metrics import Measurement, Precision
from search.racing import Race
from spaces import PruningConfig

__all__ = ["Batching", "Executor", "LocalExecutor", "Outcome", "measure_safely", "worker_name"]


@dataclass(frozen=True)
class Outcome:
    """What a worker says of one candidate: a measurement, or an error in one line with its traceback.

    Attributes:
        lost_to: the trial against which the candidate lost its race, before it had seen all images.
        is_lost: the worker died under the candidate, as ``error`` says, which may fare better with another one.
        remark: what went wrong on the way and was mended.
    """

    number: int
    worker: str
    measurement: Measurement | None = None
    lost_to: int | None = None
    error: str | None = None
    traceback: str = field(default="", repr=False)
    is_lost: bool = False
    remark: str | None = None


@dataclass(frozen=True)
class Batching:
    """How images go through the model.

    Attributes:
        size: images of a forward pass.
        precision: of matrix products.
    """

    size: int
    precision: Precision = "float32"


class Executor(Protocol):
    """Measures candidates, some at a time, on the images it was last given."""

    def hold(self, images: Measurable, batching: Batching, reference: DenseReference | None = None) -> None:
        """Take the images for what follows, how they go through the model, and what it said dense, if that is known."""

    def measure_dense(self) -> tuple[Measurement, DenseReference]:
        """Measure the dense model; candidates are compared with the outcome from then on."""

    def has_room(self) -> bool:
        """Say whether a worker is free."""

    def submit(self, number: int, config: PruningConfig, race: Race | None = None) -> None:
        """Give a candidate to a free worker, with whom it has to beat."""

    def next_outcome(self, timeout_s: float) -> Outcome | None:
        """Wait for a candidate to be done, at most so long."""

    def close(self) -> None:
        """Stop whatever is running."""


def worker_name() -> str:
    """Name this process: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


def measure_safely(
    evaluator: AnyEvaluator, number: int, config: PruningConfig, race: Race | None, *, is_cramped: bool = False
) -> Outcome:
    """Measure a candidate; whatever goes wrong becomes its outcome, not this process's end.

    Where the memory does not suffice it is measured once more, in batches of half the size.

    Args:
        evaluator: measures it.
        number: of its trial.
        config: its layout.
        race: whom it has to beat.
        is_cramped: whether the memory is known not to suffice: a worker died of it.
    """
    whole_batches = None if is_cramped else _measured(evaluator, number, config, race)
    # Only here, where no exception holds the tensors of the first attempt any more, is there room for a second.
    if whole_batches is not None and not whole_batches.is_out_of_memory:
        return whole_batches.outcome
    if evaluator.batch_size == 1:
        error = "out of memory with one image at a time"
        return Outcome(number, worker_name(), error=error) if whole_batches is None else whole_batches.outcome
    smaller = evaluator.with_smaller_batches()
    remark = f"out of memory in batches of {evaluator.batch_size} images, measured in batches of {smaller.batch_size}"
    outcome = _measured(smaller, number, config, race).outcome
    if outcome.error is not None:
        return replace(outcome, error=f"{outcome.error} ({remark})")
    return replace(outcome, remark=remark)


@dataclass(frozen=True)
class _Attempt:
    outcome: Outcome
    is_out_of_memory: bool = False


def _measured(evaluator: AnyEvaluator, number: int, config: PruningConfig, race: Race | None) -> _Attempt:
    try:
        stop, visits = (None, None) if race is None else (race.is_lost, race.visits)
        measurement = evaluator.measure(config, stop, visits)
        is_stopped = measurement.n_images < len(evaluator.images)
        return _Attempt(
            Outcome(number, worker_name(), measurement, lost_to=race.rival if race and is_stopped else None)
        )
    except Exception as error:  # a candidate may fail in ways that only its model knows
        line = " ".join(f"{type(error).__name__}: {error}".split())
        outcome = Outcome(number, worker_name(), error=line, traceback=traceback.format_exc())
        return _Attempt(outcome, is_out_of_memory(error))


class LocalExecutor:
    """One worker in this process, without the seconds that Ray takes to start."""

    def __init__(self, make_evaluator: Callable[..., AnyEvaluator], *, threads: int) -> None:
        """Take what makes an evaluator of images, with a ``batch_size`` and in a ``precision``."""
        self._make_evaluator = make_evaluator
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(threads)
        self._evaluator: AnyEvaluator | None = None
        self._job: tuple[int, PruningConfig, Race | None] | None = None

    def hold(self, images: Measurable, batching: Batching, reference: DenseReference | None = None) -> None:
        """Take the images for what follows."""
        self._evaluator = self._make_evaluator(images, batch_size=batching.size, precision=batching.precision)
        if reference is not None:
            self._evaluator.compare_with(reference)

    def measure_dense(self) -> tuple[Measurement, DenseReference]:
        """Measure the dense model."""
        return self._ready().measure_dense()

    def measure(self, config: PruningConfig) -> Measurement:
        """Measure one layout at once; what goes wrong is raised."""
        return self._ready().measure(config)

    def has_room(self) -> bool:
        """Say whether no candidate waits."""
        return self._job is None

    def submit(self, number: int, config: PruningConfig, race: Race | None = None) -> None:
        """Take a candidate."""
        self._job = number, config, race

    def next_outcome(self, timeout_s: float) -> Outcome | None:
        """Measure the candidate that waits."""
        if self._job is None:
            return None
        job, self._job = self._job, None
        return measure_safely(self._ready(), *job)

    def close(self) -> None:
        """Give the process its threads back."""
        torch.set_num_threads(self._threads_before)

    def _ready(self) -> AnyEvaluator:
        if self._evaluator is None:
            raise RuntimeError("hold() must give the images before anything is measured")
        return self._evaluator
