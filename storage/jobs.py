"""Jobs: what is asked for through the dashboard, and done by a runner in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from spaces.errors import InvalidInput, PrunefrontError
from storage.database import NotThere
from storage.job_records import JobKind, JobRecord, JobState
from storage.lease import is_gone
from storage.schema import job_files, job_lines, jobs, now

__all__ = ["JobLost", "Jobs", "QueueFull"]

_MAX_ATTEMPTS = 3
_MAX_LINES = 5_000
_MAX_LINE_LENGTH = 2_000
_QUEUE_LOCK = 0x7072756E66  # any number that others are unlikely to lock by; the migrations have the one before it


class QueueFull(PrunefrontError):
    """So many jobs wait already that no further one is taken."""


class JobLost(PrunefrontError):
    """The job is another runner's by now, or over."""


class Jobs:
    """The queue of jobs in a store; every change is one transaction."""

    def __init__(
        self,
        writing: Callable[[], AbstractContextManager[Connection]],
        reading: Callable[[], AbstractContextManager[Connection]],
    ) -> None:
        self._writing, self._reading = writing, reading

    # Whoever asks

    def add(self, kind: JobKind, study: str | None, request: Mapping[str, Any], *, max_queued: int) -> JobRecord:
        """Put a job into the queue.

        Raises:
            QueueFull: ``max_queued`` jobs wait already.
            InvalidInput: another job drives the same study.
        """
        with self._writing() as connection:
            _go_one_by_one(connection)
            n_queued = connection.execute(_count(jobs.c.state == JobState.QUEUED)).scalar_one()
            if n_queued >= max_queued:
                raise QueueFull(f"{n_queued} jobs wait already, the most that are taken: cancel some, or ask later")
            if kind.drives_study and study is not None:
                self._require_undriven(connection, study)
            values = {"kind": kind, "study": study, "request": dict(request), "state": JobState.QUEUED, "attempts": 0}
            added = connection.execute(
                insert(jobs).values(**values, is_cancelling=False, created_at=now()).returning(jobs.c.id)
            ).scalar_one()
        return self.get(added)

    def get(self, job_id: int) -> JobRecord:
        """Find a job. Raises NotThere if there is none of that number."""
        with self._reading() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
        if row is None:
            raise NotThere(f"there is no job {job_id}")
        return _job_of(row)

    def page(
        self,
        *,
        offset: int = 0,
        limit: int = 50,
        kinds: Iterable[JobKind] = tuple(JobKind),
        states: Iterable[JobState] = tuple(JobState),
        study: str | None = None,
    ) -> tuple[list[JobRecord], int]:
        """List jobs, the newest first; and count all that fit."""
        fits = jobs.c.kind.in_(list(kinds)) & jobs.c.state.in_(list(states))
        if study is not None:
            fits &= jobs.c.study == study
        query = select(jobs).where(fits).order_by(jobs.c.id.desc()).offset(offset).limit(limit)
        with self._reading() as connection:
            return [_job_of(row) for row in connection.execute(query)], connection.execute(_count(fits)).scalar_one()

    def cancel(self, job_id: int) -> JobRecord:
        """Take a job out of the queue, or ask its runner to stop it; what is over stays as it is."""
        with self._writing() as connection:
            self._set(connection, job_id, JobState.QUEUED, state=JobState.CANCELLED, finished_at=now())
            self._set(connection, job_id, JobState.RUNNING, is_cancelling=True)
        return self.get(job_id)

    def lines(self, job_id: int, *, after: int = -1, limit: int = 500) -> list[tuple[int, str]]:
        """Read what a job said, line by line, from behind line number ``after``."""
        query = select(job_lines.c.number, job_lines.c.text).order_by(job_lines.c.number).limit(limit)
        with self._reading() as connection:
            found = connection.execute(query.where(job_lines.c.job_id == job_id, job_lines.c.number > after))
            return [(row.number, row.text) for row in found]

    def last_lines(self, job_id: int, n: int) -> list[str]:
        """Read the last lines that a job said."""
        query = select(job_lines.c.text).where(job_lines.c.job_id == job_id).order_by(job_lines.c.number.desc())
        with self._reading() as connection:
            return list(connection.execute(query.limit(n)).scalars())[::-1]

    def file(self, job_id: int, name: str) -> bytes | None:
        """Read a file that a job left; ``None`` where it left none of that name."""
        query = select(job_files.c.content).where(job_files.c.job_id == job_id, job_files.c.name == name)
        with self._reading() as connection:
            return connection.execute(query).scalar_one_or_none()

    # Whoever does it

    def claim(self, kinds: Sequence[JobKind], runner: str, seconds: float) -> JobRecord | None:
        """Take the oldest job of these kinds that waits, if there is one, and hold it for so long unless renewed."""
        with self._writing() as connection:
            job_id = connection.execute(
                select(jobs.c.id)
                .where(jobs.c.state == JobState.QUEUED, jobs.c.kind.in_(list(kinds)))
                .order_by(jobs.c.id)
                .limit(1)
                .with_for_update(skip_locked=True)
            ).scalar_one_or_none()
            if job_id is None:
                return None
            self._set(
                connection,
                job_id,
                JobState.QUEUED,
                state=JobState.RUNNING,
                runner=runner,
                runner_until=now() + timedelta(seconds=seconds),
                attempts=jobs.c.attempts + 1,
                started_at=now(),
            )
        return self.get(job_id)

    def renew(self, runner: str, seconds: float) -> None:
        """Hold all of a runner's jobs for longer."""
        held = (jobs.c.runner == runner) & (jobs.c.state == JobState.RUNNING)
        with self._writing() as connection:
            connection.execute(update(jobs).where(held).values(runner_until=now() + timedelta(seconds=seconds)))

    def report(self, job_id: int, runner: str, progress: Mapping[str, Any]) -> None:
        """Say how far a job is. Raises JobLost if it is not the runner's."""
        self._change(job_id, runner, progress=dict(progress))

    def say(self, job_id: int, lines: Sequence[str]) -> None:
        """Keep lines that a job says; beyond some thousands only that there were more."""
        with self._writing() as connection:
            query = select(func.coalesce(func.max(job_lines.c.number), -1)).where(job_lines.c.job_id == job_id)
            first = connection.execute(query).scalar_one() + 1
            kept = list(lines[: max(0, _MAX_LINES - first)])
            if len(kept) < len(lines) and first + len(kept) == _MAX_LINES:
                kept.append("further lines are not kept")
            values = [
                {"job_id": job_id, "number": first + index, "text": line[:_MAX_LINE_LENGTH]}
                for index, line in enumerate(kept)
            ]
            if values:
                connection.execute(insert(job_lines), values)

    def finish(
        self,
        job_id: int,
        runner: str,
        state: JobState,
        *,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        """End a job, with what came of it and the files that it leaves. Raises JobLost if it is not the runner's."""
        with self._writing() as connection:
            if files:
                values = [{"job_id": job_id, "name": name, "content": content} for name, content in files.items()]
                connection.execute(insert(job_files), values)
            done = {"state": state, "result": None if result is None else dict(result), "error": error}
            _require(self._set(connection, job_id, JobState.RUNNING, runner, **done, finished_at=now()), job_id)

    def requeue(self, job_id: int, runner: str) -> None:
        """Put a job that its runner cannot finish now back into the queue; this is no failed attempt."""
        self._change(job_id, runner, state=JobState.QUEUED, runner=None, attempts=jobs.c.attempts - 1)

    def recover(self) -> None:
        """Put jobs whose runner is gone back into the queue, and give up those that were tried often enough."""
        with self._writing() as connection:
            held = connection.execute(
                select(jobs.c.id, jobs.c.runner, jobs.c.attempts, jobs.c.is_cancelling, jobs.c.runner_until).where(
                    jobs.c.state == JobState.RUNNING
                )
            ).all()
            for row in held:
                if row.runner_until > now() and not is_gone(row.runner):
                    continue
                values: dict[str, Any] = {"state": JobState.QUEUED, "runner": None}
                if row.is_cancelling:
                    values = {"state": JobState.CANCELLED, "finished_at": now()}
                elif row.attempts >= _MAX_ATTEMPTS:
                    error = f"its runner ended without a word, {row.attempts} times"
                    values = {"state": JobState.FAILED, "error": error, "finished_at": now()}
                self._set(connection, row.id, JobState.RUNNING, row.runner, **values)

    # Inside

    def _require_undriven(self, connection: Connection, study: str) -> None:
        driving = [kind for kind in JobKind if kind.drives_study]
        waiting = jobs.c.state.in_([JobState.QUEUED, JobState.RUNNING])
        query = select(jobs.c.id, jobs.c.state).where(jobs.c.study == study, waiting, jobs.c.kind.in_(driving))
        row = connection.execute(query).first()
        if row is not None:
            raise InvalidInput(
                f"job {row.id} is {row.state} for the study {study!r} already: wait for it, or cancel it"
            )

    def _change(self, job_id: int, runner_now: str, **values: Any) -> None:
        with self._writing() as connection:
            _require(self._set(connection, job_id, JobState.RUNNING, runner_now, **values), job_id)

    def _set(
        self, connection: Connection, job_id: int, state_now: JobState, runner_now: str | None = None, **values: Any
    ) -> bool:
        """Change a job that is in this state and, if one is given, this runner's; say whether it was."""
        query = update(jobs).where(jobs.c.id == job_id, jobs.c.state == state_now)
        if runner_now is not None:
            query = query.where(jobs.c.runner == runner_now)
        return connection.execute(query.values(**values)).rowcount == 1


def _go_one_by_one(connection: Connection) -> None:
    """Let nobody else add a job until this transaction ends; else two would see the last place in the queue free."""
    if connection.dialect.name == "postgresql":  # in SQLite there is one writer at a time anyway
        connection.execute(select(func.pg_advisory_xact_lock(_QUEUE_LOCK)))


def _count(fits: ColumnElement[bool]) -> Any:
    return select(func.count()).select_from(jobs).where(fits)


def _job_of(row: Any) -> JobRecord:
    values = row._asdict()
    del values["runner_until"]
    return JobRecord(**values | {"kind": JobKind(values["kind"]), "state": JobState(values["state"])})


def _require(was_mine: bool, job_id: int) -> None:
    if not was_mine:
        raise JobLost(f"job {job_id} is over, or another runner's")
