"""What runs in each Ray worker."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

from objectives.evaluator import DenseReference
from objectives.evaluators import AnyEvaluator, Measurable, evaluator_of
from objectives.metrics import Measurement
from pruning.models import LoadedModel, weights_digest
from search.allocation import keep_freed_memory
from search.cluster import ray
from search.executors import Batching, Outcome, measure_safely, worker_name
from search.provenance import versions
from search.racing import Race
from spaces import PrunefrontError, PruningConfig

__all__ = ["Actor", "DamagedInTransit", "SharedModel", "Task", "pixels_digest"]

SharedModel = list["ray.ObjectRef[LoadedModel]"]  # inside a list, or Ray would fetch it for every call


class DamagedInTransit(PrunefrontError):
    """A worker did not get the weights or the images that the driver sent."""


@dataclass(frozen=True)
class Task:
    """What a worker needs for any candidate; all of it lies in its node's shared memory, once for all its workers.

    Attributes:
        images: what to measure on.
        digest: names their pixels.
        batching: how they go through the model.
        reference: what the dense model said of them, once that is known.
    """

    images: ray.ObjectRef[Measurable]
    digest: str
    batching: Batching
    reference: ray.ObjectRef[DenseReference] | None = None


class Actor:
    """One process that holds the model and the images, and measures what it is sent."""

    def __init__(self, *, device: str, threads: int, cache_bytes: int) -> None:
        torch.set_num_threads(threads)
        keep_freed_memory()
        self._device, self._cache_bytes = device, cache_bytes
        self._evaluator: AnyEvaluator | None = None
        self._holds: tuple[str, Batching] | None = None

    def introduce(self) -> tuple[str, dict[str, str]]:
        """Give the worker's name, and the versions that decide its results."""
        return worker_name(), versions()

    def measure_dense(self, model: SharedModel, task: Task) -> tuple[Measurement, DenseReference]:
        """Measure the dense model."""
        return self._holding(model, task).measure_dense()

    def measure(
        self, number: int, config: PruningConfig, race: Race | None, model: SharedModel, task: Task, is_cramped: bool
    ) -> Outcome:
        """Measure a candidate; see ``search.executors.measure_safely``."""
        evaluator = self._holding(model, task)
        evaluator.compare_with(ray.get(task.reference))
        return measure_safely(evaluator, number, config, race, is_cramped=is_cramped)

    def _holding(self, model: SharedModel, task: Task) -> AnyEvaluator:
        # All it takes comes with every candidate, as references: a worker that has just been started knows nothing,
        # and must not need to be told.
        wanted = task.digest, task.batching
        if self._evaluator is None or self._holds != wanted:
            loaded, images = ray.get(model[0]), ray.get(task.images)
            _require_whole("weights", weights_digest(loaded.model), loaded.weights_digest)
            _require_whole("images", pixels_digest(images), task.digest)
            self._evaluator = evaluator_of(
                loaded,
                images,
                device=self._device,
                batch_size=task.batching.size,
                precision=task.batching.precision,
                cache_bytes=self._cache_bytes,
            )
            self._holds = wanted
        return self._evaluator


def pixels_digest(images: Measurable) -> str:
    """Name decoded images by what they show."""
    digest = hashlib.blake2b(digest_size=16)
    for image in images.pixels:  # one at a time: their memory may be laid out in another order, and is copied then
        digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def _require_whole(what: str, found: str, sent: str) -> None:
    if found != sent:
        raise DamagedInTransit(f"a worker got other {what} ({found}) than the driver sent ({sent}): start again")
