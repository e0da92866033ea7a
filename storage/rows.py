"""Between rows and records: how a measurement is written, and how studies and trials are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, insert, select

from objectives.metrics import Measurement, unpack_counts
from objectives.statistics import Estimate
from objectives.visits import Part
from storage.lease import is_gone
from storage.records import MeasurementKind, Provenance, StudyRecord, StudyState, TrialRecord, TrialState
from storage.schema import measurements, metric_values, now, trials

__all__ = [
    "Measured",
    "has_measurement",
    "insert_measurement",
    "measurements_of",
    "n_kept_of",
    "study_of",
    "trial_of",
]

Measured = Mapping[tuple[int | None, MeasurementKind], Measurement]


def insert_measurement(
    connection: Connection, study_id: int, number: int | None, kind: MeasurementKind, measurement: Measurement
) -> None:
    """Write a measurement of a trial, or of the dense model where ``number`` is ``None``, with all its values."""
    trial_id = None if number is None else _trial_id(connection, study_id, number)
    row = {
        "study_id": study_id,
        "trial_id": trial_id,
        "kind": kind,
        "image_list_hash": measurement.image_list_hash,
        "n_images": measurement.n_images,
        "precision": measurement.precision,
        "gflops": measurement.gflops,
        "macs": measurement.macs,
        "tokens_per_block": list(measurement.tokens_per_block),
        "n_kept": measurement.n_kept,
        "batch_size": measurement.batch_size,
        "part": None if measurement.part is None else measurement.part.to_bytes(),
        "seconds": measurement.seconds,
        "created_at": now(),
    }
    measurement_id = connection.execute(insert(measurements).returning(measurements.c.id), row).scalar_one()
    values = [
        {
            "measurement_id": measurement_id,
            "metric": name,
            **asdict(estimate),
            "outcomes": measurement.outcomes.get(name),
        }
        for name, estimate in measurement.values.items()
    ]
    connection.execute(insert(metric_values), values)


def has_measurement(connection: Connection, study_id: int, number: int | None, kind: MeasurementKind) -> bool:
    """Say whether a trial, or the dense model where ``number`` is ``None``, was measured on such images."""
    trial_id = None if number is None else _trial_id(connection, study_id, number)
    query = select(measurements.c.id).where(
        measurements.c.study_id == study_id,
        measurements.c.kind == kind,
        measurements.c.trial_id.is_not_distinct_from(trial_id),
    )
    return connection.execute(query).first() is not None


def _trial_id(connection: Connection, study_id: int, number: int) -> int:
    query = select(trials.c.id).where(trials.c.study_id == study_id, trials.c.number == number)
    return int(connection.execute(query).scalar_one())


def measurements_of(connection: Connection, study_id: int, trial_rows: Sequence[int] | None = None) -> Measured:
    """Read a study's measurements, by the trial's row (``None``: the dense model) and the images.

    All of them, or those of some trials' rows; an empty list of rows gives the dense model's.
    """
    of_study = measurements.c.study_id == study_id
    if trial_rows is not None:
        of_study &= measurements.c.trial_id.in_(trial_rows) if trial_rows else measurements.c.trial_id.is_(None)
    # In this order every measurement found has its values, whatever is written between the two queries.
    columns = [column for column in measurements.c if column is not measurements.c.n_kept]
    found = connection.execute(select(*columns).where(of_study).order_by(measurements.c.id)).all()
    values: dict[int, dict[str, Estimate]] = {}
    outcomes: dict[int, dict[str, bytes]] = {}
    for row in connection.execute(select(metric_values).join(measurements).where(of_study)):
        values.setdefault(row.measurement_id, {})[row.metric] = Estimate(row.value, row.low, row.high)
        if row.outcomes is not None:
            outcomes.setdefault(row.measurement_id, {})[row.metric] = row.outcomes
    return {
        (row.trial_id, MeasurementKind(row.kind)): Measurement(
            n_images=row.n_images,
            image_list_hash=row.image_list_hash,
            values=values[row.id],
            outcomes=outcomes.get(row.id, {}),
            macs=row.macs,
            tokens_per_block=tuple(row.tokens_per_block),
            seconds=row.seconds,
            precision=row.precision,
            batch_size=row.batch_size,
            part=None if row.part is None else Part.from_bytes(row.part),
        )
        for row in found
    }


def n_kept_of(connection: Connection, study_id: int, number: int, kind: MeasurementKind) -> NDArray[np.int64] | None:
    """Read how many patches each layer of a trial kept of each image; see ``Store.n_kept``."""
    of_trial = (trials.c.study_id == study_id, trials.c.number == number)
    earlier = connection.execute(select(trials.c.duplicate_of).where(*of_trial)).scalar_one_or_none()
    query = (
        select(measurements.c.n_kept, measurements.c.n_images)
        .join(trials, measurements.c.trial_id == trials.c.id)
        .where(trials.c.study_id == study_id, trials.c.number == (number if earlier is None else earlier))
        .where(measurements.c.kind == kind, measurements.c.n_kept.is_not(None))
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else unpack_counts(row.n_kept, row.n_images)


def study_of(row: Row[Any]) -> StudyRecord:
    """Read a study."""
    values = row._asdict()
    provenance = {name: values.pop(name) for name in Provenance.__dataclass_fields__}
    owner, until = values.pop("lease_owner"), values.pop("lease_until")
    lives = owner is not None and until > now() and not is_gone(owner)
    values["state"] = StudyState(values["state"])
    return StudyRecord(**values, provenance=Provenance(**provenance), owner=owner if lives else None)


def trial_of(row: Row[Any], measured: Measured, ids: Mapping[int, int]) -> TrialRecord:
    """Read a trial; a duplicate has the measurements of the trial it equals.

    Args:
        row: of ``trials``.
        measured: ``measurements_of`` its study.
        ids: the rows of the study's trials by their numbers.
    """
    values = row._asdict()
    source = values.pop("id")
    del values["study_id"]
    if values["duplicate_of"] is not None:
        source = ids[values["duplicate_of"]]
    state = values["state"] = TrialState(values["state"])
    is_complete = state is TrialState.COMPLETE
    is_measured = is_complete or state in (TrialState.STOPPED, TrialState.INFEASIBLE)
    return TrialRecord(
        **values,
        measurement=measured.get((source, MeasurementKind.SEARCH)) if is_measured else None,
        confirmation=measured.get((source, MeasurementKind.CONFIRM)) if is_complete else None,
    )
