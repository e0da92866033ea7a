"""Look at parts of a study, however many trials it has: a page of them, or what is drawn of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, select

from storage import rows
from storage.database import NotThere
from storage.records import TrialRecord, TrialState
from storage.schema import measurements, metric_values, trials

__all__ = ["Browsing", "MeasuredPoint", "TrialPoint"]


class TrialPoint(NamedTuple):
    """What a picture needs of a trial, beside its numbers: some 100,000 of them are held at once."""

    row: int
    number: int
    state: str
    method: str
    gflops: float
    duplicate_of: int | None


class MeasuredPoint(NamedTuple):
    """What a picture needs of a measurement of a trial, whose row is ``trial_row``."""

    measurement: int
    trial_row: int
    kind: str
    n_images: int
    metric: str
    value: float
    low: float | None
    high: float | None


class Browsing:
    """Reads parts of studies."""

    def __init__(self, reading: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._reading = reading

    def count_states(self, study_id: int) -> dict[TrialState, int]:
        """Count a study's trials by their state."""
        with self._reading() as connection:
            return _count_states(connection, study_id)

    def page(
        self,
        study_id: int,
        *,
        offset: int,
        limit: int,
        states: Sequence[TrialState] | None = None,
        newest_first: bool = False,
    ) -> tuple[list[TrialRecord], int]:
        """List some of a study's trials by their numbers, and count all of these states."""
        wanted = trials.c.study_id == study_id
        if states is not None:
            wanted &= trials.c.state.in_(list(states))
        order = trials.c.number.desc() if newest_first else trials.c.number
        # The rows that are skipped over are looked at in an index alone; whole, they are much to read.
        shown = select(trials.c.id).where(wanted).order_by(order).offset(offset).limit(limit)
        query = select(trials).where(trials.c.id.in_(shown)).order_by(order)
        with self._reading() as connection:
            found = connection.execute(query).all()
            counts = _count_states(connection, study_id)
            total = sum(count for state, count in counts.items() if states is None or state in states)
            return _records(connection, study_id, found), total

    def trial(self, study_id: int, number: int) -> TrialRecord:
        """Find one trial. Raises NotThere if the study has none of that number."""
        query = select(trials).where(trials.c.study_id == study_id, trials.c.number == number)
        with self._reading() as connection:
            found = _records(connection, study_id, connection.execute(query).all())
            if found:
                return found[0]
            n_trials = sum(_count_states(connection, study_id).values())
        there = f"has trials 0 to {n_trials - 1}, got {number}" if n_trials else "has no trials yet"
        raise NotThere(f"the study {there}")

    def trials(self, study_id: int, numbers: Sequence[int]) -> list[TrialRecord]:
        """Find some trials at once, in the order of these numbers; those that are not there are left out."""
        query = select(trials).where(trials.c.study_id == study_id, trials.c.number.in_(numbers))
        with self._reading() as connection:
            found = {trial.number: trial for trial in _records(connection, study_id, connection.execute(query).all())}
        return [found[number] for number in numbers if number in found]

    def points(
        self, study_id: int, metrics: Sequence[str], *, from_number: int = 0, after_measurement: int = 0
    ) -> tuple[list[TrialPoint], list[MeasuredPoint]]:
        """Read what is drawn of the trials from a number on, and of the measurements behind a row.

        Every trial found finished has its measurement, whatever is written between the two queries.
        """
        c, m, v = trials.c, measurements.c, metric_values.c
        of_trials = select(c.id, c.number, c.state, c.method, c.gflops, c.duplicate_of)
        of_trials = of_trials.where(c.study_id == study_id, c.number >= from_number).order_by(c.number)
        of_measurements = select(m.id, m.trial_id, m.kind, m.n_images, v.metric, v.value, v.low, v.high)
        of_measurements = (
            of_measurements.join_from(measurements, metric_values)
            .where(m.study_id == study_id, m.id > after_measurement, m.trial_id.is_not(None), v.metric.in_(metrics))
            .order_by(m.id)
        )
        with self._reading() as connection:
            points = list(map(TrialPoint._make, connection.execute(of_trials).all()))
            return points, list(map(MeasuredPoint._make, connection.execute(of_measurements).all()))

    def parameters(self, study_id: int) -> tuple[str, ...]:
        """Name what the sampler draws: the same for all trials, so that one tells; nothing before there is one."""
        query = select(trials.c.params).where(trials.c.study_id == study_id).order_by(trials.c.number).limit(1)
        with self._reading() as connection:
            return tuple(sorted(connection.execute(query).scalar() or ()))

    def draws(self, study_id: int, *, from_number: int = 0) -> list[tuple[int, dict[str, Any]]]:
        """Read the sampler's draws of the trials from a number on: number, and each parameter's value."""
        query = select(trials.c.number, trials.c.params).order_by(trials.c.number)
        query = query.where(trials.c.study_id == study_id, trials.c.number >= from_number)
        with self._reading() as connection:
            return [(row.number, row.params) for row in connection.execute(query)]


def _count_states(connection: Connection, study_id: int) -> dict[TrialState, int]:
    query = select(trials.c.state, func.count()).where(trials.c.study_id == study_id).group_by(trials.c.state)
    return {TrialState(state): count for state, count in connection.execute(query)}


def _records(connection: Connection, study_id: int, found: Sequence[Row[Any]]) -> list[TrialRecord]:
    """Read trials with their measurements, and no others."""
    equals = {row.duplicate_of for row in found} - {None}
    of_equals = select(trials.c.number, trials.c.id).where(trials.c.study_id == study_id, trials.c.number.in_(equals))
    ids = {row.number: row.id for row in found}
    ids |= {row.number: row.id for row in connection.execute(of_equals)}
    measured = rows.measurements_of(connection, study_id, list(ids.values())) if ids else {}
    return [rows.trial_of(row, measured, ids) for row in found]
