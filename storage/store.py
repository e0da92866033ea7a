"""The one place that talks SQL: studies, trials and measurements, each change in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from objectives.metrics import Measurement
from spaces.errors import InvalidInput
from storage import lease, rows, transitions
from storage.browsing import Browsing
from storage.database import WRITES, NotThere, open_engine, shown
from storage.jobs import Jobs
from storage.patience import Patience, may_be_done, patiently, told_plainly
from storage.records import MeasurementKind, NewStudy, NewTrial, StudyRecord, StudyState, TrialRecord, TrialState
from storage.schema import now, studies, trials

__all__ = ["Store"]

_NOT_COLUMNS = ("provenance",)


class Store:
    """Everything prunefront remembers, in one SQL database.

    Reads give records; every write is one transaction. Only a driver writes; any number may read beside it.

    Attributes:
        patience: how long to wait for a database that is away; by default not at all.
    """

    def __init__(self, url: str, *, create: bool = False) -> None:
        """Open a database.

        Args:
            url: see ``storage.database.open_engine``, which also tells what is raised.
            create: make it where there is none.
        """
        self.url = shown(url)
        self.patience = Patience()
        self._held: dict[int, str] = {}  # studies whose lease was taken here, and as whom
        self._engine = open_engine(url, create=create)
        self._writer = self._engine.execution_options(**{WRITES: True})
        self._reader = self._engine
        if self._engine.dialect.name == "postgresql":  # what is read in several steps is of one moment, as in SQLite
            self._reader = self._engine.execution_options(isolation_level="REPEATABLE READ")
        self.browse = Browsing(self._reading)
        self.jobs = Jobs(self._writing, self._reading)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    # Studies

    def create_study(self, study: NewStudy) -> StudyRecord:
        """Add a study.

        Raises:
            InvalidInput: the name is taken.
        """
        values = {name: value for name, value in vars(study).items() if name not in _NOT_COLUMNS}
        values |= asdict(study.provenance)
        values |= {"state": StudyState.CREATED, "created_at": now(), "sampler_attrs": {}}
        try:
            with self._writing() as connection:
                connection.execute(insert(studies).values(**values))
        except IntegrityError:
            raise self.taken(study.name) from None
        return self.study(study.name)

    def taken(self, name: str) -> InvalidInput:
        """Make the error that says that there is a study of this name already."""
        return InvalidInput(
            f"there is a study {name!r} in {self.url} already: go on with it (prunefront resume {name}), or choose "
            f"another --study name"
        )

    @patiently
    def study(self, name: str) -> StudyRecord:
        """Find a study by its name.

        Raises:
            NotThere: there is none of that name; the message lists those there are.
        """
        with self._reading() as connection:
            row = connection.execute(select(studies).where(studies.c.name == name)).one_or_none()
            if row is not None:
                return rows.study_of(row)
            names = connection.execute(select(studies.c.name).order_by(studies.c.created_at.desc())).scalars().all()
        known = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        raise NotThere(f"there is no study {name!r} in {self.url}; there are: {known or 'none yet'}")

    def studies(self) -> list[StudyRecord]:
        """List all studies, the newest first."""
        with self._reading() as connection:
            return [rows.study_of(row) for row in connection.execute(select(studies).order_by(studies.c.id.desc()))]

    @patiently
    def count_trials(self, study_id: int) -> dict[TrialState, int]:
        """Count a study's trials by their state."""
        return self.browse.count_states(study_id)

    @patiently
    def set_study_state(self, study_id: int, state: StudyState, error: str | None = None) -> None:
        """Move a study along in its life."""
        self._update_study(study_id, state=state, error=error)

    @patiently
    def set_n_trials(self, study_id: int, n_trials: int) -> None:
        """Change how many trials are asked for."""
        self._update_study(study_id, n_trials=n_trials)

    # Trials

    @patiently
    def add_trial(self, study_id: int, trial: NewTrial, study_attrs: Mapping[str, Any] | None = None) -> None:
        """Add a proposed trial, together with what its sampler now keeps about the study."""
        with self._driving(study_id) as connection:
            if may_be_done() and transitions.state_of(connection, study_id, trial.number) is not None:
                return
            row = {"study_id": study_id, "state": TrialState.WAITING, "attempts": 0, "created_at": now()}
            connection.execute(insert(trials), row | vars(trial))
            if study_attrs is not None:
                connection.execute(
                    update(studies).where(studies.c.id == study_id).values(sampler_attrs=dict(study_attrs))
                )

    @patiently
    def start_trial(self, study_id: int, number: int) -> None:
        """Mark a trial as handed to a worker.

        Raises:
            StudyOwned: it does not wait any more: another driver has it.
        """
        with self._driving(study_id) as connection:
            transitions.move(
                connection,
                study_id,
                number,
                (TrialState.WAITING,),
                state=TrialState.RUNNING,
                started_at=now(),
                attempts=trials.c.attempts + 1,
            )

    @patiently
    def finish_trial(
        self,
        study_id: int,
        number: int,
        measurement: Measurement | None,
        worker: str | None,
        *,
        lost_to: int | None = None,
        gflops: float | None = None,
        is_infeasible: bool = False,
    ) -> None:
        """Complete a trial with its measurement.

        Args:
            study_id: the study.
            number: the trial.
            measurement: ``None`` for a duplicate, which shares an earlier one's.
            worker: who measured it.
            lost_to: the trial against which it lost its race; it is then stopped instead, with what was measured.
            gflops: what it costs, where only measuring told.
            is_infeasible: whether that is over the budget; the trial is then no complete one.

        Raises:
            StudyOwned: the trial is finished already, by another driver.
        """
        state = TrialState.INFEASIBLE if is_infeasible else TrialState.COMPLETE
        state = state if lost_to is None else TrialState.STOPPED
        measured = {} if gflops is None else {"gflops": gflops}
        with self._driving(study_id) as connection:
            is_new = transitions.finish(
                connection, study_id, number, state=state, rival=lost_to, worker=worker, **measured
            )
            if is_new and measurement is not None:
                rows.insert_measurement(connection, study_id, number, MeasurementKind.SEARCH, measurement)

    @patiently
    def fail_trial(self, study_id: int, number: int, error: str, traceback: str, worker: str | None) -> None:
        """Record that a trial could not be measured, and why.

        Raises:
            StudyOwned: the trial is finished already, by another driver.
        """
        with self._driving(study_id) as connection:
            transitions.finish(
                connection, study_id, number, state=TrialState.FAILED, error=error, traceback=traceback, worker=worker
            )

    @patiently
    def requeue_trial(self, study_id: int, number: int) -> None:
        """Put a trial whose worker is gone back to waiting.

        Raises:
            StudyOwned: it does not run any more: another driver has it.
        """
        with self._driving(study_id) as connection:
            transitions.move(connection, study_id, number, (TrialState.RUNNING,), state=TrialState.WAITING)

    @patiently
    def requeue_running(self, study_id: int) -> int:
        """Put the trials that no worker has any more back to waiting, and count them."""
        query = (
            update(trials)
            .where(trials.c.study_id == study_id, trials.c.state == TrialState.RUNNING)
            .values(state=TrialState.WAITING)
        )
        with self._driving(study_id) as connection:
            return connection.execute(query).rowcount

    @patiently
    def trials(self, study_id: int) -> list[TrialRecord]:
        """List a study's trials in the order in which they were proposed."""
        with self._reading() as connection:
            found = connection.execute(
                select(trials).where(trials.c.study_id == study_id).order_by(trials.c.number)
            ).all()
            of_trial = rows.measurements_of(connection, study_id)
        ids = {row.number: row.id for row in found}
        return [rows.trial_of(row, of_trial, ids) for row in found]

    def trial(self, study_id: int, number: int) -> TrialRecord:
        """Find one trial.

        Raises:
            NotThere: the study has no trial of that number.
        """
        return self.browse.trial(study_id, number)

    # Measurements outside the search

    @patiently
    def add_measurement(
        self, study_id: int, number: int | None, kind: MeasurementKind, measurement: Measurement
    ) -> None:
        """Keep a measurement of a trial, or of the dense model where ``number`` is ``None``."""
        with self._driving(study_id) as connection:
            if may_be_done() and rows.has_measurement(connection, study_id, number, kind):
                return
            rows.insert_measurement(connection, study_id, number, kind, measurement)

    @patiently
    def dense(self, study_id: int, kind: MeasurementKind) -> Measurement | None:
        """Give the dense model's measurement on the search or the confirm images, if there is one."""
        with self._reading() as connection:
            return rows.measurements_of(connection, study_id, []).get((None, kind))

    @patiently
    def n_kept(self, study_id: int, number: int, kind: MeasurementKind) -> NDArray[np.int64] | None:
        """Give how many patches each layer kept of each image: (n_images, n_layers).

        ``None`` where no image decides that, or the trial was not measured on such images.
        """
        with self._reading() as connection:
            return rows.n_kept_of(connection, study_id, number, kind)

    # The lease

    def take_lease(self, study_id: int, owner: str, seconds: float, *, take_over: bool = False) -> None:
        """Take a study for one driver; see ``storage.lease.take``.

        From then on every change of the study made here is refused once another driver has taken it.
        """
        with self._writing() as connection:
            lease.take(connection, study_id, owner, seconds, take_over=take_over)
        self._held[study_id] = owner

    def renew_lease(self, study_id: int, owner: str, seconds: float) -> None:
        """Let the lease live on; see ``storage.lease.renew``."""
        with self._writing() as connection:
            lease.renew(connection, study_id, owner, seconds)

    def release_lease(self, study_id: int, owner: str) -> None:
        """Give the study back."""
        self._held.pop(study_id, None)
        with self._writing() as connection:
            lease.release(connection, study_id, owner)

    # Inside

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with told_plainly(self.url), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def _driving(self, study_id: int) -> Iterator[Connection]:
        """Write to a study, unless its lease was taken here and is another driver's by now."""
        with self._writing() as connection:
            if study_id in self._held:
                lease.require(connection, study_id, self._held[study_id])
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with told_plainly(self.url), self._reader.connect() as connection:
            yield connection

    def _update_study(self, study_id: int, **values: Any) -> None:
        with self._driving(study_id) as connection:
            connection.execute(update(studies).where(studies.c.id == study_id).values(**values))
