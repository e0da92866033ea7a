"""Whether what is remembered can be true: no row on its own, no state that cannot be, no digest that is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pydantic import ValidationError
from sqlalchemy import Connection, Engine, Table, func, select, text

from objectives.metrics import METRICS
from objectives.statistics import unpack
from objectives.visits import Part, proportion_of
from spaces import Architecture, parse_layout
from spaces.errors import PrunefrontError
from storage import rows
from storage.axis import overrun_line, timing_of
from storage.records import StudyRecord, StudyState, TrialRecord, TrialState
from storage.schema import measurements, metric_values, studies, trials

__all__ = ["problems"]

_EXACT = 1e-9  # GFLOPs, and points


def problems(engine: Engine) -> Iterator[str]:
    """Look at everything in a database.

    Yields:
        One line for each thing that cannot be, with the study it is of.
    """
    with engine.connect() as connection:
        yield from _file_problems(connection)
        yield from _orphans(connection)
        for row in connection.execute(select(studies).order_by(studies.c.id)).all():
            study = rows.study_of(row)
            for problem in _study_problems(connection, study):
                yield f"study {study.name!r}: {problem}"


def _file_problems(connection: Connection) -> Iterator[str]:
    if connection.dialect.name == "sqlite":
        for (line,) in connection.execute(text("PRAGMA integrity_check")):
            if line != "ok":
                yield f"the file is damaged: {line}"


def _orphans(connection: Connection) -> Iterator[str]:
    """Find rows of what is not there any more; foreign keys forbid them, but SQLite's can be switched off."""
    for child, column, parent in (
        (trials, trials.c.study_id, studies),
        (measurements, measurements.c.study_id, studies),
        (measurements, measurements.c.trial_id, trials),
        (metric_values, metric_values.c.measurement_id, measurements),
    ):
        query = select(func.count()).select_from(child).where(column.is_not(None), column.not_in(select(parent.c.id)))
        if n := connection.execute(query).scalar_one():
            yield f"{n} rows of {child.name} belong to {_kind(parent)} that is not there"


def _kind(table: Table) -> str:
    return {"studies": "a study", "trials": "a trial", "measurements": "a measurement"}[table.name]


def _study_problems(connection: Connection, study: StudyRecord) -> Iterator[str]:
    found = connection.execute(select(trials).where(trials.c.study_id == study.id).order_by(trials.c.number)).all()
    numbers = [row.number for row in found]
    if numbers != list(range(len(numbers))):
        yield f"its trials are numbered {_shortened(numbers)}, not 0 to {len(numbers) - 1}"
        return
    yield from _measurement_problems(connection, study)
    of_trial = rows.measurements_of(connection, study.id)
    ids = {row.number: row.id for row in found}
    wrong_origins = [row.number for row in found if row.duplicate_of is not None and row.duplicate_of >= row.number]
    if wrong_origins:
        yield f"trials {_shortened(wrong_origins)} are said to equal a later one"
        return
    records = [rows.trial_of(row, of_trial, ids) for row in found]
    yield from _state_problems(study, records)
    architecture = Architecture.model_validate(study.spec["architecture"])
    for trial in records:
        for problem in _trial_problems(study, trial, records, architecture):
            yield f"trial {trial.number} {problem}"
    first_of: dict[str, int] = {}
    for trial in records:
        if trial.duplicate_of is None and trial.digest in first_of:
            yield f"trials {first_of[trial.digest]} and {trial.number} are one candidate, and neither says so"
        first_of.setdefault(trial.digest, trial.number)


def _measurement_problems(connection: Connection, study: StudyRecord) -> Iterator[str]:
    query = select(measurements.c.trial_id, measurements.c.kind).where(measurements.c.study_id == study.id)
    for (trial_id, kind), n in Counter(map(tuple, connection.execute(query).all())).items():
        if n > 1:
            what = "the dense model" if trial_id is None else f"the trial in row {trial_id}"
            yield f"{what} was measured {n} times on the {kind} images"
    for row in connection.execute(
        select(metric_values, measurements.c.n_images, measurements.c.part)
        .join(measurements)
        .where(measurements.c.study_id == study.id, metric_values.c.outcomes.is_not(None))
    ):
        if len(row.outcomes) != (row.n_images + 7) // 8:
            yield f"measurement {row.measurement_id} has outcomes of other than its {row.n_images} images"
            continue
        part = None if row.part is None else Part.from_bytes(row.part)
        if abs(proportion_of(unpack(row.outcomes, row.n_images), part).value - row.value) > _EXACT:
            yield f"measurement {row.measurement_id} has a {row.metric} that is not what its outcomes say"


def _state_problems(study: StudyRecord, records: Sequence[TrialRecord]) -> Iterator[str]:
    running = [trial.number for trial in records if trial.state is TrialState.RUNNING]
    if running and study.owner is None:
        yield (
            f"trials {_shortened(running)} are running, but no driver is: go on with prunefront resume {study.name}, "
            "which measures them again"
        )
    unfinished = [trial.number for trial in records if not trial.state.is_finished]
    if study.state is StudyState.FINISHED and unfinished:
        yield f"it is finished, but trials {_shortened(unfinished)} are not"
    if len(records) > study.n_trials:
        yield f"it has {len(records)} trials, and {study.n_trials} were asked for"


def _trial_problems(
    study: StudyRecord, trial: TrialRecord, records: Sequence[TrialRecord], architecture: Architecture
) -> Iterator[str]:
    metric = METRICS[study.metric].name
    is_measured = trial.state in (TrialState.COMPLETE, TrialState.INFEASIBLE, TrialState.STOPPED)
    if is_measured and trial.measurement is None:
        yield f"is {trial.state.value}, but has no measurement"
    if trial.measurement is not None and metric not in trial.measurement.values:
        yield f"has no {metric}"
    if trial.state is TrialState.STOPPED and (trial.rival is None or trial.rival >= trial.number):
        yield "was stopped, but not against an earlier trial"
    if trial.state is TrialState.FAILED and not trial.error:
        yield "failed without a reason"
    if trial.state is TrialState.RUNNING and trial.attempts < 1:
        yield "runs, but was never started"
    if trial.duplicate_of is not None:
        origin = records[trial.duplicate_of]
        if origin.duplicate_of is not None or origin.digest != trial.digest:
            yield f"is said to equal trial {origin.number}, and does not"
        if trial.state.is_finished and origin.state is not trial.state:
            yield f"is {trial.state.value}, and trial {origin.number}, which it equals, is {origin.state.value}"
    yield from _timing_problems(study, trial)
    yield from _layout_problems(study, trial, architecture)


def _timing_problems(study: StudyRecord, trial: TrialRecord) -> Iterator[str]:
    timing = timing_of(study)
    if timing is None or trial.state is not TrialState.COMPLETE or trial.measurement is None:
        return
    if trial.measurement.latency_ms is None:
        yield "is complete, but was not timed"
    elif timing.overrun_ms(trial.measurement):
        yield f"is complete, but {overrun_line(study, trial)}"


def _layout_problems(study: StudyRecord, trial: TrialRecord, architecture: Architecture) -> Iterator[str]:
    try:
        config = parse_layout(trial.config)
        digest, most = config.digest(architecture), config.cost(architecture).gflops
        least = config.least_cost(architecture).gflops
    except (PrunefrontError, ValidationError) as error:
        yield f"has a layout that cannot be read: {' '.join(str(error).split())}"
        return
    if digest != trial.digest:
        yield f"has the digest {trial.digest}, and its layout has {digest}"
    if not least - _EXACT <= trial.gflops <= most + _EXACT:
        costs = f"{most}" if least == most else f"{least} to {most}"
        yield f"is said to cost {trial.gflops} GFLOPs, and its layout costs {costs}"
    # Where the images decide what it costs, nothing is a result until it was measured to be within the budget.
    may_be_over = config.cost_is_measured and trial.state is not TrialState.COMPLETE
    if trial.gflops > study.budget_high_gflops + _EXACT and not may_be_over:
        yield f"costs {trial.gflops} GFLOPs, over the budget of {study.budget_high_gflops}"


def _shortened(numbers: Sequence[int]) -> str:
    listed = ", ".join(map(str, numbers[:8]))
    return listed + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
