"""Measure candidates on Ray actors, on this machine or on a cluster whose nodes come and go."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from objectives.evaluator import DenseReference
from objectives.evaluators import Measurable
from objectives.metrics import Measurement
from pruning.models import LoadedModel
from search.actor import Actor, Task, pixels_digest
from search.cluster import Cluster, WorkersLost, one_line, ray
from search.executors import Batching, Outcome
from search.provenance import versions
from search.racing import Race
from spaces import PrunefrontError, PruningConfig

__all__ = ["RayExecutor", "VersionsDiffer", "WorkersLost"]

_START_TIMEOUT_S = 600
_MOST_FAILED_STARTS = 5  # one after another
_LOOK_EVERY_S = 2.0  # at which nodes there are
_DECISIVE = ("python", "prunefront", "torch", "timm", "numpy", "pillow")  # whose versions decide a result
_LOST = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.LocalRayletDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.OutOfMemoryError,
)


class VersionsDiffer(PrunefrontError):
    """A worker's packages are not the driver's, so its results could not be compared."""


class RayExecutor:
    """Ray actors that hold the model and the images once each, and take the lowest number that waits.

    A worker that dies costs the candidate it had, and another one is started where there is room. Nodes that join a
    cluster get workers within seconds; those that leave take theirs with them.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        cluster: Cluster,
        *,
        most_workers: int,
        say: Callable[[str], None] = lambda _: None,
        **worker: Any,
    ) -> None:
        """Start the workers.

        Args:
            loaded: the model.
            cluster: where they run.
            most_workers: how many, at most.
            say: is told of workers that come and go in a cluster.
            worker: what each is told, see ``search.actor.Actor``.
        """
        self._cluster, self._most_workers, self._say = cluster, most_workers, say
        actor = ray.remote(
            num_cpus=cluster.cpus_per_worker, num_gpus=cluster.gpus_per_worker, max_restarts=0, max_task_retries=0
        )(Actor)
        self._new_worker: Callable[[], Any] = lambda: actor.options(scheduling_strategy="SPREAD").remote(**worker)
        self._model = [ray.put(loaded)]
        self._task: Task | None = None
        self._starting: dict[Any, Any] = {}  # what a new worker will say of itself -> the worker
        self._idle: list[Any] = []
        self._running: dict[Any, tuple[int, Any]] = {}  # the pending outcome -> number, worker
        self._cramped: set[int] = set()  # candidates under which a worker ran out of memory and died
        self._n_failed_starts = 0
        self._looked_at = time.monotonic()
        self._fill()

    @property
    def n_workers(self) -> int:
        """How many workers measure or are ready to."""
        return len(self._idle) + len(self._running)

    def hold(self, images: Measurable, batching: Batching, reference: DenseReference | None = None) -> None:
        """Put the images into the object store, from which each node fetches them once for all its workers."""
        known = None if reference is None else ray.put(reference)
        self._task = Task(ray.put(images), pixels_digest(images), batching, known)

    def measure_dense(self) -> tuple[Measurement, DenseReference]:
        """Measure the dense model on the first worker that is there.

        Raises:
            WorkersLost: no worker came up.
            VersionsDiffer: one came up with other packages than the driver's.
        """
        task = self._given()
        while True:
            worker = self._first_worker()
            try:
                measurement, reference = ray.get(worker.measure_dense.remote(self._model, task))
            except _LOST as error:
                self._drop(worker)
                self._count_failed_start(error)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, PrunefrontError):
                    raise error.cause from None
                raise
            else:
                self._task = replace(task, reference=ray.put(reference))
                return measurement, reference

    def has_room(self) -> bool:
        """Say whether a worker is free."""
        return bool(self._idle)

    def submit(self, number: int, config: PruningConfig, race: Race | None = None) -> None:
        """Give a candidate to a free worker."""
        worker = self._idle.pop(0)
        done = worker.measure.remote(number, config, race, self._model, self._given(), number in self._cramped)
        self._running[done] = number, worker

    def next_outcome(self, timeout_s: float) -> Outcome | None:
        """Wait for any candidate to be done, or a worker to be ready for one."""
        self._follow_nodes()
        if not self._running and not self._starting:
            return None
        ready, _ = ray.wait([*self._running, *self._starting], num_returns=1, timeout=timeout_s)
        if not ready:
            return None
        if ready[0] in self._starting:
            self._welcome(ready[0])
            return None
        number, worker = self._running.pop(ready[0])
        try:
            outcome: Outcome = ray.get(ready[0])
        except _LOST as error:
            self._drop(worker)
            if isinstance(error, ray.exceptions.OutOfMemoryError) or "OOM" in str(error):
                self._cramped.add(number)
            return Outcome(number, "ray", error=one_line(error), is_lost=True)
        except ray.exceptions.RayError as error:
            line = one_line(getattr(error, "cause", None) or error)
            outcome = Outcome(number, "ray", error=line, traceback=str(error))
        self._idle.append(worker)
        return outcome

    def close(self) -> None:
        """End the workers, and Ray if it was started here."""
        if not self._cluster.is_ours:
            for worker in [*self._idle, *self._starting.values(), *(worker for _, worker in self._running.values())]:
                ray.kill(worker)
        self._cluster.leave()

    def _given(self) -> Task:
        if self._task is None:
            raise RuntimeError("hold() must give the images before anything is measured")
        return self._task

    # Workers that come and go

    def _fill(self) -> None:
        """Start as many workers as there is room for, and one more than none: an autoscaler adds nodes for it."""
        n_room = max(1, self._cluster.n_room()) if self._cluster.is_elastic else self._most_workers
        n_missing = min(self._most_workers, n_room) - self.n_workers - len(self._starting)
        for _ in range(n_missing):
            worker = self._new_worker()
            self._starting[worker.introduce.remote()] = worker
        for answer in list(self._starting)[: max(0, -n_missing)]:  # of nodes that have left
            ray.kill(self._starting.pop(answer))

    def _follow_nodes(self) -> None:
        if self._cluster.is_elastic and time.monotonic() - self._looked_at >= _LOOK_EVERY_S:
            self._fill()
            self._looked_at = time.monotonic()

    def _welcome(self, answer: Any) -> None:
        worker = self._starting.pop(answer)
        try:
            name, found = ray.get(answer)
        except _LOST as error:
            self._count_failed_start(error)
            self._fill()
            return
        mine = versions()
        differing = [f"{each} {found.get(each)} (here {mine[each]})" for each in _DECISIVE if found[each] != mine[each]]
        if differing:
            raise VersionsDiffer(
                f"the worker {name} has {', '.join(differing)}, so its results could not be compared: install the "
                "driver's versions on its node"
            )
        self._n_failed_starts = 0
        self._idle.append(worker)
        if self._cluster.is_elastic:
            self._say(f"worker {name} has joined, {self.n_workers} in all")

    def _first_worker(self) -> Any:
        until = time.monotonic() + _START_TIMEOUT_S
        if self._cluster.n_room() == 0:
            self._say(f"no node of the cluster has room for a worker of {self._cluster.needs} yet; waiting for one")
        while not self._idle:
            if time.monotonic() > until:
                raise WorkersLost(
                    f"no Ray worker came up in {_START_TIMEOUT_S} s: each needs {self._cluster.needs}, and the nodes "
                    f"have room for {self._cluster.n_room()}"
                )
            self.next_outcome(1.0)
        return self._idle[0]

    def _drop(self, worker: Any) -> None:
        """Forget a worker that is gone, or cut off from here, and start another one."""
        if worker in self._idle:
            self._idle.remove(worker)
        ray.kill(worker)
        self._fill()

    def _count_failed_start(self, error: Exception) -> None:
        self._n_failed_starts += 1
        if self._n_failed_starts >= _MOST_FAILED_STARTS:
            raise WorkersLost(
                f"{self._n_failed_starts} Ray workers died before they could measure anything, the last with: "
                f"{one_line(error)}"
            )
