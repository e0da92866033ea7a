"""Look after a database: check it, take in another one's studies, delete a study, give back the room it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Row, Table, delete, insert, select, text

from spaces.errors import InvalidInput
from storage import integrity, lease
from storage.database import WRITES, open_engine, shown
from storage.patience import told_plainly
from storage.records import StudyState, TrialState
from storage.schema import measurements, metric_values, studies, trials

__all__ = ["Merged", "Upkeep"]

_LEASE_S = 600.0  # longer than any of this takes


@dataclass(frozen=True)
class Merged:
    """What became of another database's study: its name here, and how many trials came with it.

    Attributes:
        name: there.
        name_here: ``None`` where it was here already.
        n_trials: that were taken in.
    """

    name: str
    name_here: str | None
    n_trials: int


class Upkeep:
    """A database as its owner sees it; whatever changes a study refuses to while a driver lives."""

    def __init__(self, url: str) -> None:
        """Open a database; see ``storage.database.open_engine``, which also tells what is raised."""
        self.url = shown(url)
        self._engine = open_engine(url, create=False)
        self._writer = self._engine.execution_options(**{WRITES: True})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.dispose()

    def problems(self) -> list[str]:
        """Say what in the database cannot be; see ``storage.integrity``."""
        with told_plainly(self.url):
            return list(integrity.problems(self._engine))

    def delete(self, name: str) -> int:
        """Delete a study with all its trials, and count them.

        Raises:
            InvalidInput: there is none of that name.
            StudyOwned: a driver is at work on it.
        """
        with told_plainly(self.url), self._writer.begin() as connection:
            study = _study(connection, name)
            if study is None:
                raise InvalidInput(f"there is no study {name!r} in {self.url}")
            lease.take(connection, study.id, lease.new_owner(), _LEASE_S)
            of_study = select(measurements.c.id).where(measurements.c.study_id == study.id)
            connection.execute(delete(metric_values).where(metric_values.c.measurement_id.in_(of_study)))
            connection.execute(delete(measurements).where(measurements.c.study_id == study.id))
            n_trials = connection.execute(delete(trials).where(trials.c.study_id == study.id)).rowcount
            connection.execute(delete(studies).where(studies.c.id == study.id))
        return n_trials

    def vacuum(self) -> tuple[int, int]:
        """Give the room of deleted rows back.

        Returns:
            The bytes taken before, and after.
        """
        before = self._size()
        with told_plainly(self.url), self._engine.connect() as connection:
            raw = connection.execution_options(isolation_level="AUTOCOMMIT")
            raw.exec_driver_sql("VACUUM" if self._is_file else "VACUUM FULL ANALYZE")
            if self._is_file:
                raw.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return before, self._size()

    def merge(self, other: Upkeep, names: Mapping[str, str]) -> list[Merged]:
        """Take in the studies of another database, each in one transaction, the oldest first.

        Args:
            other: the other database; nothing in it changes.
            names: what to call a study here, by its name there; others keep theirs.

        Raises:
            InvalidInput: a name in ``names`` is of no study there, or another study has it here; nothing is taken in.
            StudyOwned: a driver is at work on one of them; those before it are taken in.
        """
        with told_plainly(other.url), other._engine.connect() as there:
            found = there.execute(select(studies).order_by(studies.c.id)).all()
        unknown = set(names) - {row.name for row in found}
        if unknown:
            raise InvalidInput(f"{other.url} has no study {', '.join(sorted(unknown))}; it has {_listed(found)}")
        here = {row.name: self._twin(row, names.get(row.name, row.name)) for row in found}
        return [
            Merged(row.name, None, 0) if here[row.name] else self._take_in(other, row, names.get(row.name, row.name))
            for row in found
        ]

    @property
    def _is_file(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    def _size(self) -> int:
        if self._is_file:
            return Path(str(self._engine.url.database)).stat().st_size
        with told_plainly(self.url), self._engine.connect() as connection:
            size: int = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
        return size

    def _twin(self, row: Row[Any], name: str) -> bool:
        """Say whether a study is here already; one that only has its name is refused."""
        with told_plainly(self.url), self._engine.connect() as connection:
            mine = _study(connection, name)
            if mine is None:
                return False
            if any(getattr(mine, each) != getattr(row, each) for each in ("created_at", "host", "seed", "spec")):
                raise InvalidInput(
                    f"{self.url} has another study {name!r}: take that one in under another name, with "
                    f"--rename {row.name}=NAME"
                )
        return True

    def _take_in(self, other: Upkeep, row: Row[Any], name: str) -> Merged:
        # Held there as by a driver, so that no other one changes it while it is read.
        owner = lease.new_owner()
        with told_plainly(other.url), other._writer.begin() as there:
            lease.take(there, row.id, owner, _LEASE_S)
        try:
            with (
                told_plainly(other.url),
                other._engine.connect() as there,
                told_plainly(self.url),
                self._writer.begin() as here,
            ):
                n_trials = _copy_study(there, here, row.id, name)
        finally:
            with told_plainly(other.url), other._writer.begin() as there:
                lease.release(there, row.id, owner)
        return Merged(row.name, name, n_trials)


def _study(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(select(studies).where(studies.c.name == name)).one_or_none()


def _listed(found: Sequence[Row[Any]]) -> str:
    return ", ".join(row.name for row in found) or "none"


def _copy_study(there: Connection, here: Connection, study_id: int, name: str) -> int:
    row = there.execute(select(studies).where(studies.c.id == study_id)).one()
    state = StudyState.INTERRUPTED if row.state == StudyState.RUNNING else row.state
    changed = {"name": name, "state": state, "lease_owner": None, "lease_until": None}
    new_study = _insert(here, studies, row, changed)
    new_trials: dict[int, int] = {}
    for trial in there.execute(select(trials).where(trials.c.study_id == study_id).order_by(trials.c.number)).all():
        state = TrialState.WAITING if trial.state == TrialState.RUNNING else trial.state
        new_trials[trial.id] = _insert(here, trials, trial, {"study_id": new_study, "state": state})
    found = there.execute(select(measurements).where(measurements.c.study_id == study_id).order_by(measurements.c.id))
    for measured in found.all():
        trial_id = None if measured.trial_id is None else new_trials[measured.trial_id]
        new = _insert(here, measurements, measured, {"study_id": new_study, "trial_id": trial_id})
        values = there.execute(select(metric_values).where(metric_values.c.measurement_id == measured.id)).all()
        if values:
            here.execute(insert(metric_values), [value._asdict() | {"measurement_id": new} for value in values])
    return len(new_trials)


def _insert(connection: Connection, table: Table, row: Row[Any], changed: Mapping[str, Any]) -> int:
    values = {column: value for column, value in row._asdict().items() if column != "id"} | dict(changed)
    return int(connection.execute(insert(table).values(**values).returning(table.c.id)).scalar_one())
