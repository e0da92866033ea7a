"""A study from Python: create it, run it, look at its front, confirm and export its winners."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from objectives.evaluator import DenseReference
from search.bundling import export_bundle
from search.config import SearchSettings
from search.confirmation import measured_again
from search.creation import create
from search.execution import Execution
from search.executors import Batching, Executor
from search.interruption import Interrupted
from search.lease_keeper import LeaseKeeper
from search.loop import SearchLoop
from search.progress import Audience, Progress
from search.provenance import versions
from search.sampler import Sampler
from search.timing import require_same_machine, timed
from search.workbench import Workbench, load
from spaces import METHODS, InvalidInput, PrunefrontError
from storage import MeasurementKind, Store, StudyOwned, StudyRecord, StudyState, TrialRecord, TrialState
from storage.database import DatabaseError
from storage.patience import Patience
from storage.remembered import DEFAULT_DB, RememberedStudy

__all__ = ["Study"]

_PATIENCE_S = 3600.0  # with a database that is away


class Study(RememberedStudy):
    """One search: its settings, its trials, and what can be done with them.

    Make one with ``create`` or ``open``. ``run`` and ``confirm`` load the model and the images; everything else needs
    only the rows.
    """

    def __init__(self, store: Store, record: StudyRecord, workbench: Workbench | None = None) -> None:
        super().__init__(store, record)
        self._bench = workbench
        self._reference: DenseReference | None = None
        self._keeps_workers = False
        self._executor: Executor | None = None

    def __enter__(self) -> Self:
        """Keep the workers from one ``run`` or ``confirm`` to the next."""
        self._keeps_workers = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and close the database."""
        self._close_workers()
        super().close()

    # Making and finding

    @classmethod
    def create(
        cls,
        settings: SearchSettings | None = None,
        *,
        n_trials: int = 200,
        db: str = DEFAULT_DB,
        say: Callable[[str], None] = lambda _: None,
        execution: Execution | None = None,
        **values: Any,
    ) -> Study:
        """Load and check everything a search needs, and remember it as a new study.

        Nothing is written before everything has been checked::

            Study.create(study="first", model="shapes_vit_small", data="shapes", budget="65%", n_trials=40)

        Args:
            settings: what to search.
            values: the same as plain values, instead; see ``SearchSettings``.
            n_trials: candidates to measure.
            db: where to remember it.
            say: is told, line by line, what was found.
            execution: where ``run`` will measure. Its workers then start at once, and are up by the time that the
                dense model has been measured here.

        Raises:
            InvalidInput: something in the settings does not fit, or the name is taken.
            BudgetUnsatisfiable: no layout of the space meets the budget.
            DenseTooLow: the dense model does not do what it should.
            DatabaseError: the database cannot be used.
            WorkersLost: the workers cannot be started.
        """
        settings = settings or SearchSettings.parse(values)
        created = create(settings, n_trials, db, say, execution)
        study = cls(created.store, created.record, created.bench)
        study._reference, study._executor = created.reference, created.executor
        return study

    @classmethod
    def open(cls, name: str, *, db: str = DEFAULT_DB) -> Study:
        """Find a study.

        Raises:
            InvalidInput: there is none of that name, or no database.
            DatabaseError: the database cannot be used.
        """
        store = Store(db)
        return cls(store, store.study(name))

    @property
    def settings(self) -> SearchSettings:
        """What was asked for."""
        return SearchSettings.parse(self.record.spec["settings"])

    def changed_versions(self) -> list[str]:
        """Name the packages whose versions differ from those that began the study, as ``name old -> new``."""
        then, now = self.record.provenance.versions, versions()
        return [f"{name} {then[name]} -> {now[name]}" for name in then if now.get(name, then[name]) != then[name]]

    def cache_finding(self, execution: Execution) -> str | None:
        """Say how little of the dense model's tokens a worker can keep; ``None`` where it keeps all it will need."""
        return self._workbench().cache_finding(execution)

    # Doing

    def run(
        self,
        *,
        n_trials: int | None = None,
        execution: Execution | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
        stop_requested: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] = lambda _: None,
        take_over: bool = False,
    ) -> Progress:
        """Measure candidates until all trials asked for are finished; go on where an earlier run ended.

        Args:
            n_trials: ask for this many in all, instead of what was asked for before.
            execution: where to run.
            on_progress: is told after each trial.
            stop_requested: is asked between trials whether to stop cleanly.
            say: is told, line by line, what goes wrong on the way and is mended: a worker that is lost, a database
                that is away.
            take_over: the study from a driver that still holds it.

        Raises:
            Interrupted: it was stopped; every finished trial is kept.
            StudyOwned: another driver holds the study.
            PrunefrontError: whatever else keeps the search from going on.
        """
        audience = Audience(on_progress, stop_requested, say)
        execution = execution or Execution()
        with LeaseKeeper(self._store, self._id, take_over=take_over) as lease, self._patient(audience):
            # What a person has to mend comes first, and leaves the study in the state it is in.
            execution.require_suits(self.settings)
            require_same_machine(self.record, self.settings)
            bench = self._workbench()
            bench.n_workers(execution)
            if n_trials is not None:
                self._ask_for(n_trials)
            n_retries = execution.n_retries
            if self._n_finished() == self.record.n_trials:  # no worker need start
                with self._state_kept(), closing(bench.start(Execution(executor="local"))) as idle:
                    return self._loop(idle, lease, audience, n_retries).run()
            with self._state_kept(), self._workers(execution, say) as executor:
                batching = Batching(bench.settings.settled_batch_size, bench.settings.settled_precision)
                executor.hold(bench.search_images, batching, self._reference)
                if self._reference is None:
                    _, self._reference = executor.measure_dense()
                return self._loop(executor, lease, audience, n_retries).run()

    def confirm(
        self,
        numbers: Sequence[int] | None = None,
        *,
        execution: Execution | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> list[TrialRecord]:
        """Measure trials again on images that the search never saw; by default the front's.

        Only these numbers are free of the luck by which a winner was chosen. ``say`` is told as by ``run``.

        Returns:
            The trials, confirmed.

        Raises:
            InvalidInput: a trial is not complete, or the study keeps no images to confirm on.
        """
        trials = self.front() if numbers is None else [self.trial(number) for number in numbers]
        unmeasured = [trial.number for trial in trials if trial.state is not TrialState.COMPLETE]
        if unmeasured or not trials:
            raise InvalidInput(f"only complete trials can be confirmed, got {unmeasured or 'none'}")
        execution = execution or Execution()
        execution.require_measures(self.settings.task)
        bench = self._workbench()
        images = bench.confirm_images
        if images is None:
            raise InvalidInput(f"the study {self._name!r} keeps no images to confirm on: search with --confirm-images")
        _require_unchanged(self._name, "confirm images", images.list_hash, self.record.provenance.confirm_list_hash)
        if any(trial.confirmation is None for trial in trials):
            with (
                LeaseKeeper(self._store, self._id) as lease,
                self._patient(Audience(say=say)),
                self._workers(execution, say) as executor,
            ):
                executor.hold(images, Batching(bench.settings.settled_batch_size))
                measurement, _ = executor.measure_dense()
                if self.dense(MeasurementKind.CONFIRM) is None:
                    self._store.add_measurement(self._id, None, MeasurementKind.CONFIRM, measurement)
                for number, measurement in measured_again(
                    self._unconfirmed(trials), executor, execution.n_retries, check_lease=lease.check, say=say
                ):
                    self._store.add_measurement(self._id, number, MeasurementKind.CONFIRM, measurement)
        return [self.trial(trial.number) for trial in trials]

    def export_bundle(
        self,
        folder: str | Path,
        number: int | None = None,
        *,
        budget: str | None = None,
        with_weights: bool = True,
        formats: Sequence[str] = (),
    ) -> TrialRecord:
        """Write a trial with its model to a folder that ``pruning.load`` reads; see ``search.bundling``."""
        return export_bundle(self, folder, number, budget=budget, with_weights=with_weights, formats=formats)

    # Inside

    def _ask_for(self, n_trials: int) -> None:
        n_proposed = len(self.trials())
        if n_trials < n_proposed:
            raise InvalidInput(f"{n_proposed} trials were proposed already, so at least as many must be asked for")
        self._store.set_n_trials(self._id, n_trials)

    def _n_finished(self) -> int:
        return sum(count for state, count in self._store.count_trials(self._id).items() if state.is_finished)

    def _workbench(self) -> Workbench:
        if self._bench is None:
            bench = load(self.settings)
            remembered = self.record.provenance
            _require_unchanged(self._name, "methods", bench.problem.space.method, self.record.method)
            _require_unchanged(self._name, "weights", bench.loaded.weights_digest, remembered.weights_digest)
            _require_unchanged(self._name, "search images", bench.search_images.list_hash, remembered.search_list_hash)
            self._bench = bench
        return self._bench

    def _loop(self, executor: Executor, lease: LeaseKeeper, audience: Audience, n_retries: int) -> SearchLoop:
        bench, record = self._workbench(), self.record
        sampler = Sampler.of(
            bench.problem,
            record.sampler,
            seed=record.seed,
            learns_from_infeasible=bench.settings.budget_ms is not None
            or any(METHODS[method][0].cost_is_measured for method in record.methods),
        )
        return SearchLoop(
            self._store,
            record,
            sampler,
            bench.problem,
            executor,
            n_retries=n_retries,
            check_lease=lease.check,
            audience=audience,
        )

    def _unconfirmed(self, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Find what is left to measure: each layout once, under the number of the trial that was measured."""
        numbers = dict.fromkeys(trial.number if trial.duplicate_of is None else trial.duplicate_of for trial in trials)
        return [trial for trial in map(self.trial, numbers) if trial.confirmation is None]

    @contextmanager
    def _workers(self, execution: Execution, say: Callable[[str], None]) -> Iterator[Executor]:
        if self._executor is None:
            self._executor = self._workbench().start(execution, say)
        try:
            yield timed(self._executor, self._workbench(), self.record, execution, say)
        except BaseException:
            self._close_workers()  # with whatever they still measure, which nobody waits for any more
            raise
        if not self._keeps_workers:
            self._close_workers()

    @contextmanager
    def _patient(self, audience: Audience) -> Iterator[None]:
        self._store.patience = Patience(_PATIENCE_S, say=audience.say, stop_requested=audience.stop_requested)
        try:
            yield
        finally:
            self._store.patience = Patience()

    def _close_workers(self) -> None:
        if self._executor is not None:
            self._executor.close()
            self._executor = None

    @contextmanager
    def _state_kept(self) -> Iterator[None]:
        self._store.set_study_state(self._id, StudyState.RUNNING)
        try:
            yield
        except StudyOwned:
            raise  # the study is another driver's now, and its state too
        except (Interrupted, KeyboardInterrupt):
            self._leave(StudyState.INTERRUPTED)
            raise
        except Exception as error:
            self._leave(StudyState.FAILED, " ".join(str(error).split()))
            raise
        self._store.set_study_state(self._id, StudyState.FINISHED)

    def _leave(self, state: StudyState, error: str | None = None) -> None:
        # Where the database itself is what failed, the rows stay as they are; resume knows what to make of them.
        with suppress(DatabaseError):
            self._store.requeue_running(self._id)
            self._store.set_study_state(self._id, state, error)


def _require_unchanged(study: str, what: str, now: str, then: str | None) -> None:
    if now != then:
        raise PrunefrontError(
            f"the {what} of study {study!r} have changed since it began ({then} then, {now} now): its trials could "
            f"not be compared; restore them, or start a new study"
        )
