"""Measure candidates on Ray actors. The only module that imports Ray."""

from __future__ import annotations

import logging
import os
from typing import Any

import torch

from objectives.evaluator import DenseReference, Evaluator
from objectives.images import PreparedImages
from objectives.metrics import Measurement, Precision
from pruning.models import LoadedModel
from search.allocation import keep_freed_memory
from search.executors import Outcome, measure_safely
from search.racing import Race
from spaces import PrunefrontError, PruningConfig

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reads it once, when it is imported

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

__all__ = ["RayExecutor", "WorkersLost"]

_N_RETRIES = 2  # of a candidate whose worker died; Ray starts the worker again
_START_TIMEOUT_S = 600

_Shared = list[ray.ObjectRef[LoadedModel]]  # inside a list, or Ray would fetch it for every call


class WorkersLost(PrunefrontError):
    """Ray could not start or keep the workers."""


class _Worker:
    """One process that holds the model and the images."""

    def __init__(self, *, device: str, batch_size: int, threads: int, cache_bytes: int) -> None:
        torch.set_num_threads(threads)
        keep_freed_memory()
        self._device, self._batch_size, self._cache_bytes = device, batch_size, cache_bytes
        self._evaluator: Evaluator | None = None
        self._holds: tuple[str, Precision] | None = None

    def measure_dense(
        self, model: _Shared, images: PreparedImages, precision: Precision
    ) -> tuple[Measurement, DenseReference]:
        return self._holding(model, images, precision).measure_dense()

    def measure(
        self,
        number: int,
        config: PruningConfig,
        race: Race | None,
        model: _Shared,
        images: PreparedImages,
        reference: DenseReference,
        precision: Precision,
    ) -> Outcome:
        evaluator = self._holding(model, images, precision)
        evaluator.compare_with(reference)
        return measure_safely(evaluator, number, config, race)

    def _holding(self, model: _Shared, images: PreparedImages, precision: Precision) -> Evaluator:
        # All it takes comes with every candidate: a worker that had to be started again knows nothing, and must not
        # need to be told. Images and reference are shared uncopied; the model is fetched when it is needed.
        if self._evaluator is None or self._holds != (images.list_hash, precision):
            self._evaluator = Evaluator.of(
                ray.get(model[0]),
                images,
                device=self._device,
                batch_size=self._batch_size,
                precision=precision,
                cache_bytes=self._cache_bytes,
            )
            self._holds = images.list_hash, precision
        return self._evaluator


class RayExecutor:
    """Ray actors that hold the model and the images once each, and take the lowest number that waits."""

    def __init__(
        self, loaded: LoadedModel, *, n_workers: int, device: str, batch_size: int, threads: int, cache_bytes: int
    ) -> None:
        """Start Ray, unless this process has, and the workers."""
        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            _start_ray(n_workers * threads)
        elif (n_cpus := ray.cluster_resources().get("CPU", 0)) < n_workers * threads:
            raise WorkersLost(
                f"{n_workers} workers of {threads} threads need {n_workers * threads} CPUs of Ray, and the Ray that "
                f"runs here has {n_cpus:g}: ask for fewer workers, or start Ray with more"
            )
        actor = ray.remote(
            num_cpus=threads, num_gpus=1 if device == "cuda" else 0, max_restarts=-1, max_task_retries=_N_RETRIES
        )(_Worker)
        self._model = [ray.put(loaded)]
        self._workers = [
            actor.remote(device=device, batch_size=batch_size, threads=threads, cache_bytes=cache_bytes)
            for _ in range(n_workers)
        ]
        self._idle = list(self._workers)
        self._running: dict[Any, tuple[int, Any]] = {}  # the pending outcome -> number, worker
        self._images: Any = None
        self._reference: Any = None
        self._precision: Precision = "float32"

    def hold(
        self, images: PreparedImages, reference: DenseReference | None = None, *, precision: Precision = "float32"
    ) -> None:
        """Put the images into the machine's object store, once for all workers."""
        self._precision = precision
        self._images = ray.put(images)
        self._reference = None if reference is None else ray.put(reference)

    def measure_dense(self) -> tuple[Measurement, DenseReference]:
        """Measure the dense model on the first worker.

        Raises:
            WorkersLost: no worker came up.
        """
        done = self._workers[0].measure_dense.remote(self._model, self._images, self._precision)
        try:
            measurement, reference = ray.get(done, timeout=_START_TIMEOUT_S)
        except (RayActorError, GetTimeoutError) as error:
            raise WorkersLost(f"no Ray worker came up: {_one_line(error)}") from None
        except RayTaskError as error:
            if isinstance(error.cause, PrunefrontError):
                raise error.cause from None
            raise
        self._reference = ray.put(reference)
        return measurement, reference

    def has_room(self) -> bool:
        """Say whether a worker is free."""
        return bool(self._idle)

    def submit(self, number: int, config: PruningConfig, race: Race | None = None) -> None:
        """Give a candidate to a free worker."""
        worker = self._idle.pop(0)
        done = worker.measure.remote(number, config, race, self._model, self._images, self._reference, self._precision)
        self._running[done] = number, worker

    def next_outcome(self, timeout_s: float) -> Outcome | None:
        """Wait for any candidate to be done."""
        if not self._running:
            return None
        ready, _ = ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        if not ready:
            return None
        number, worker = self._running.pop(ready[0])
        try:
            outcome: Outcome = ray.get(ready[0])
        except RayActorError as error:
            outcome = Outcome(number, "ray", error=f"its worker died {1 + _N_RETRIES} times: {_one_line(error)}")
        except RayError as error:
            line = _one_line(getattr(error, "cause", None) or error)
            outcome = Outcome(number, "ray", error=line, traceback=str(error))
        self._idle.append(worker)
        return outcome

    def close(self) -> None:
        """End Ray if it was started here, and the workers with it; else the workers alone."""
        if self._owns_ray:
            ray.shutdown()
            return
        for worker in self._workers:
            ray.kill(worker)


def _start_ray(n_cpus: int) -> None:
    try:
        ray.init(
            address="local",
            num_cpus=n_cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (RuntimeError, OSError, ValueError) as error:
        raise WorkersLost(
            f"Ray does not start here ({_one_line(error)}): mend that, or search in one process with --executor local"
        ) from None


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
