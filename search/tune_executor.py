"""Ray Tune, for people who run it already: our sampler as a Searcher, our evaluator as a Trainable.

``TuneExecutor`` runs our own loop on it, which lands the same rows in the store.
Tune costs 54 to 104 ms a trial and five files, plain actors 2 ms (docs/scaling.md): they stay the default.
"""

from __future__ import annotations

import pickle
import queue
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from objectives.evaluator import DenseReference
from objectives.evaluators import Measurable
from objectives.metrics import METRICS, Measurement
from pruning.models import LoadedModel
from search.actor import Actor, Task, pixels_digest
from search.cluster import Cluster, WorkersLost, one_line, ray
from search.executors import Batching, Outcome
from search.feasibility import overrun
from search.racing import Race
from search.sampler import Asked, Sampler, Told
from search.tune_trainable import LayoutTrainable
from spaces import Problem, PrunefrontError, PruningConfig

__all__ = ["LayoutSearcher", "LayoutTrainable", "TuneExecutor"]

_JOIN_S = 60.0


class LayoutSearcher(Searcher):  # type: ignore[misc]
    """Proposes layouts for ``LayoutTrainable`` as ``prunefront search`` does, in the order that makes them repeatable.

    Equal candidates are measured each time, since nothing is kept from one to the next; a trial that a scheduler
    stopped is told to the sampler with its metric on the images that it saw.
    """

    def __init__(self, problem: Problem, sampler: Sampler, *, metric: str, n_trials: int, look_ahead: int) -> None:
        """Take what is searched.

        Args:
            problem: what may be tried, and what it may cost.
            sampler: a fresh one over the problem's parameters.
            metric: a key of ``objectives.metrics.METRICS``.
            n_trials: proposals to make.
            look_ahead: proposals made before the first result is told; as many trials as may run at a time, or more.
        """
        name = METRICS[metric].name
        super().__init__(metric=name, mode="max")
        self._problem, self._sampler, self._name = problem, sampler, name
        self._n_trials, self._look_ahead = n_trials, look_ahead
        self._asked: list[tuple[Asked, float]] = []  # with its cost
        self._outcomes: dict[int, Told] = {}
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Propose the next layout, once the result that it waits for was told."""
        number = len(self._asked)
        if number >= self._n_trials:
            return str(Searcher.FINISHED)
        due = number - self._look_ahead
        if due >= 0:
            if due not in self._outcomes:
                return None
            self._sampler.tell(due, self._outcomes[due])
        asked = self._sampler.ask(number, self._problem.excess)
        proposal = self._problem.propose(asked.params)
        settled = self._problem.values_of(proposal.config, asked.params)
        self._sampler.settle(number, settled)
        self._asked.append((replace(asked, settled=settled), proposal.cost.gflops))
        self._numbers[trial_id] = number
        return {"number": number, "layout": proposal.config.model_dump(mode="json")}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Keep what became of a proposal until its turn to be told comes."""
        number = self._numbers.pop(trial_id)
        value = None if error or not result else result.get(self._name)
        outcome = None if error or not result else result.get("outcome")
        missed_by = overrun(None if outcome is None else outcome.measurement, self._problem)
        self._outcomes[number] = Told(value, self._asked[number][1], missed_by)

    def save(self, checkpoint_path: str) -> None:
        """Write what was asked and told; the sampler is made anew from it."""
        Path(checkpoint_path).write_bytes(pickle.dumps((self._asked, self._outcomes, self._numbers)))

    def restore(self, checkpoint_path: str) -> None:
        """Take up what ``save`` wrote, in a searcher made as that one was."""
        # Written by this program into Tune's own folder; Tune itself keeps its state so.
        self._asked, self._outcomes, self._numbers = pickle.loads(Path(checkpoint_path).read_bytes())
        n_told = max(0, len(self._asked) - self._look_ahead)
        told = [(self._asked[number][0], self._outcomes[number]) for number in range(n_told)]
        self._sampler.restore(told, [asked for asked, _ in self._asked[n_told:]], {})


class _Hatch(Searcher):  # type: ignore[misc]
    """Hands what the loop submits to Tune, and what Tune says of it back to the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.done: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.is_closed = False
        self._numbers: dict[str, int] = {}

    def __reduce__(self) -> tuple[type[_Hatch], tuple[()]]:
        # Tune writes its searcher down beside the experiment, from where nobody will read it.
        return _Hatch, ()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        try:
            config = self.waiting.get_nowait()
        except queue.Empty:
            return str(Searcher.FINISHED) if self.is_closed else None
        self._numbers[trial_id] = config["number"]
        return config

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self._numbers.pop(trial_id)
        outcome = None if error or not result else result.get("outcome")
        lost = Outcome(number, "tune", error="its Tune trial ended without a result", is_lost=True)
        self.done.put(outcome or lost)

    def save(self, checkpoint_path: str) -> None:
        """Nothing is worth keeping: the store has it."""

    def restore(self, checkpoint_path: str) -> None:
        """See ``save``."""


class TuneExecutor:
    """Measures the loop's candidates as trials of one Tune experiment, which runs in a thread of this process."""

    def __init__(
        self,
        loaded: LoadedModel,
        cluster: Cluster,
        *,
        most_workers: int,
        say: Callable[[str], None] = lambda _: None,
        **worker: Any,
    ) -> None:
        """Take what ``search.workers.RayExecutor`` takes."""
        self._loaded, self._cluster, self._most_workers, self._worker = loaded, cluster, most_workers, worker
        self._folder = tempfile.TemporaryDirectory(prefix="prunefront-tune-", ignore_cleanup_errors=True)
        self._hatch: _Hatch | None = None
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._n_out = 0
        self._reference: DenseReference | None = None
        self._held: tuple[Measurable, Batching] | None = None

    def hold(self, images: Measurable, batching: Batching, reference: DenseReference | None = None) -> None:
        """Take the images for what follows."""
        self._end_experiment()
        self._held, self._reference = (images, batching), reference

    def measure_dense(self) -> tuple[Measurement, DenseReference]:
        """Measure the dense model on an actor of its own, which is gone before the experiment begins.

        Raises:
            WorkersLost: it died.
        """
        images, batching = self._given()
        actor = ray.remote(num_cpus=self._cluster.cpus_per_worker, num_gpus=self._cluster.gpus_per_worker)(Actor)
        worker = actor.remote(**self._worker)
        task = Task(ray.put(images), pixels_digest(images), batching)
        try:
            measurement, self._reference = ray.get(worker.measure_dense.remote([ray.put(self._loaded)], task))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, PrunefrontError):
                raise error.cause from None
            raise
        except ray.exceptions.RayActorError as error:
            raise WorkersLost(f"no Ray worker came up: {one_line(error)}") from None
        ray.kill(worker)
        return measurement, self._reference

    def has_room(self) -> bool:
        """Say whether another trial may run."""
        return self._n_out < self._most_workers

    def submit(self, number: int, config: PruningConfig, race: Race | None = None) -> None:
        """Make a candidate Tune's next trial."""
        hatch = self._hatch or self._begin_experiment()
        hatch.waiting.put({"number": number, "layout": config.model_dump(mode="json"), "race": race})
        self._n_out += 1

    def next_outcome(self, timeout_s: float) -> Outcome | None:
        """Wait for any trial to be done.

        Raises:
            WorkersLost: the experiment broke off.
        """
        if self._hatch is None:
            return None
        try:
            outcome = self._hatch.done.get(timeout=timeout_s)
        except queue.Empty:
            if self._error is not None:
                raise WorkersLost(f"the Tune experiment broke off: {one_line(self._error)}") from self._error
            return None
        self._n_out -= 1
        return outcome

    def close(self) -> None:
        """End the experiment, and Ray if it was started here."""
        self._end_experiment()
        self._cluster.leave()
        self._folder.cleanup()

    def _given(self) -> tuple[Measurable, Batching]:
        if self._held is None:
            raise RuntimeError("hold() must give the images before anything is measured")
        return self._held

    def _begin_experiment(self) -> _Hatch:
        images, batching = self._given()
        trainable = tune.with_parameters(
            LayoutTrainable,
            loaded=self._loaded,
            images=images,
            reference=self._reference,
            **self._worker,
            batch_size=batching.size,
            precision=batching.precision,
        )
        needs = {"cpu": self._cluster.cpus_per_worker, "gpu": self._cluster.gpus_per_worker}
        hatch = self._hatch = _Hatch()
        tuner = tune.Tuner(
            tune.with_resources(trainable, needs),
            tune_config=tune.TuneConfig(
                search_alg=hatch, num_samples=-1, max_concurrent_trials=self._most_workers, reuse_actors=True
            ),
            run_config=tune.RunConfig(storage_path=self._folder.name, verbose=0),
        )
        self._thread = threading.Thread(target=self._run, args=(tuner,), name="tune", daemon=True)
        self._thread.start()
        return hatch

    def _run(self, tuner: tune.Tuner) -> None:
        try:
            tuner.fit()
        except Exception as error:
            self._error = error

    def _end_experiment(self) -> None:
        if self._hatch is not None and self._thread is not None:
            self._hatch.is_closed = True
            self._thread.join(_JOIN_S)
        self._hatch, self._thread, self._error, self._n_out = None, None, None, 0
