"""What the loop asks of whatever measures candidates, and the simplest thing that does: this process."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch

from objectives.evaluator import DenseReference, Evaluator
from objectives.images import PreparedImages
from objectives.metrics import Measurement
from spaces import PruningConfig

__all__ = ["Executor", "LocalExecutor", "Outcome", "measure_safely", "worker_name"]


@dataclass(frozen=True)
class Outcome:
    """What a worker says of one candidate: a measurement, or an error in one line with its traceback."""

    number: int
    worker: str
    measurement: Measurement | None = None
    error: str | None = None
    traceback: str = field(default="", repr=False)


class Executor(Protocol):
    """Measures candidates, some at a time, on the images it was last given."""

    def hold(self, images: PreparedImages, reference: DenseReference | None = None) -> None:
        """Take the images for what follows, and the dense model's outputs if they are known."""

    def measure_dense(self) -> tuple[Measurement, DenseReference]:
        """Measure the dense model; candidates are compared with the outcome from then on."""

    def has_room(self) -> bool:
        """Say whether a worker is free."""

    def submit(self, number: int, config: PruningConfig) -> None:
        """Give a candidate to a free worker."""

    def next_outcome(self, timeout_s: float) -> Outcome | None:
        """Wait for a candidate to be done, at most so long."""

    def close(self) -> None:
        """Stop whatever is running."""


def worker_name() -> str:
    """Name this process: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


def measure_safely(evaluator: Evaluator, number: int, config: PruningConfig) -> Outcome:
    """Measure a candidate; whatever goes wrong becomes its outcome, not this process's end."""
    try:
        return Outcome(number, worker_name(), measurement=evaluator.measure(config))
    except Exception as error:  # a candidate may fail in ways that only its model knows
        line = " ".join(f"{type(error).__name__}: {error}".split())
        return Outcome(number, worker_name(), error=line, traceback=traceback.format_exc())


class LocalExecutor:
    """One worker in this process, without the seconds that Ray takes to start."""

    def __init__(self, make_evaluator: Callable[[PreparedImages], Evaluator], *, threads: int) -> None:
        self._make_evaluator = make_evaluator
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(threads)
        self._evaluator: Evaluator | None = None
        self._job: tuple[int, PruningConfig] | None = None

    def hold(self, images: PreparedImages, reference: DenseReference | None = None) -> None:
        """Take the images for what follows."""
        self._evaluator = self._make_evaluator(images)
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

    def submit(self, number: int, config: PruningConfig) -> None:
        """Take a candidate."""
        self._job = number, config

    def next_outcome(self, timeout_s: float) -> Outcome | None:
        """Measure the candidate that waits."""
        if self._job is None:
            return None
        (number, config), self._job = self._job, None
        return measure_safely(self._ready(), number, config)

    def close(self) -> None:
        """Give the process its threads back."""
        torch.set_num_threads(self._threads_before)

    def _ready(self) -> Evaluator:
        if self._evaluator is None:
            raise RuntimeError("hold() must give the images before anything is measured")
        return self._evaluator
