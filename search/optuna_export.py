"""Write a study as one of Optuna's, for optuna-dashboard and ``optuna.load_study``. It is never read back."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from objectives.metrics import METRICS
from search.config import SearchSettings
from search.sampler import distribution, optuna
from spaces import Budget, InvalidInput, Problem, parse_space
from storage import StudyRecord, TrialRecord, TrialState
from storage.axis import axis_of, timing_of
from storage.database import DatabaseError, holds_studies, require_creatable, shown
from storage.remembered import RememberedStudy
from storage.results import estimate_of

__all__ = ["Exported", "export_to_optuna"]

_STATES = {
    TrialState.COMPLETE: optuna.trial.TrialState.COMPLETE,
    TrialState.INFEASIBLE: optuna.trial.TrialState.COMPLETE,  # its constraint tells it apart
    TrialState.STOPPED: optuna.trial.TrialState.PRUNED,
    TrialState.FAILED: optuna.trial.TrialState.FAIL,
}
_BUDGET = "budget"
_OLD_CONSTRAINTS = "constraints"  # what optuna-dashboard 0.21 reads instead of Optuna 5's own key


@dataclass(frozen=True)
class Exported:
    """What was written: how many trials, and how many were left out since they are not finished."""

    n_trials: int
    n_left_out: int


def export_to_optuna(study: RememberedStudy, url: str) -> Exported:
    """Write a study's finished trials, in their order, into a new study of Optuna's of the same name.

    Maximised is the metric; for a front its cost, GFLOPs or ms, is minimised beside it. Parameters are the draws,
    before they were brought onto the budget; a trial that lost its race is ``PRUNED``, with what the images
    it saw say of its metric. Each trial names ours by the user attribute ``prunefront_trial``.

    Args:
        study: what to write.
        url: of a database of Optuna's, made where there is none.

    Raises:
        InvalidInput: the database is one of prunefront's, whose tables have the same names as Optuna's; or it has a
            study of this name.
        DatabaseError: it cannot be used.
    """
    require_creatable(url)
    if holds_studies(url):
        raise InvalidInput(
            f"{shown(url)} holds prunefront's own tables, and Optuna's have the same names: export to another database"
        )
    record = study.record
    problem = _problem(study)
    distributions = {parameter.name: distribution(parameter) for parameter in problem.parameters()}
    axis = axis_of(record)
    is_front = axis.is_objective
    finished = [trial for trial in study.trials() if trial.state.is_finished]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        made = optuna.create_study(
            storage=url, study_name=record.name, directions=["maximize", "minimize"] if is_front else ["maximize"]
        )
    except optuna.exceptions.DuplicatedStudyError:
        raise InvalidInput(
            f"{shown(url)} has an Optuna study {record.name!r} already: delete it there, or export to another database"
        ) from None
    except Exception as error:  # Optuna lets whatever its database raises through
        raise DatabaseError(f"cannot use {shown(url)}: {' '.join(str(error).split())}") from None
    metric = METRICS[record.metric].name
    with warnings.catch_warnings():
        # Names are marked experimental; without them the dashboard calls the axes Objective 0 and 1.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made.set_metric_names([metric, axis.cost] if is_front else [metric])
    for name in ("model", "data", "method", "sampler", "seed", "look_ahead"):
        made.set_user_attr(name, getattr(record, name))
    made.set_user_attr("budget_gflops", [record.budget_low_gflops, record.budget_high_gflops])
    for trial in finished:
        made.add_trial(_frozen(record, trial, distributions))
    return Exported(len(finished), len(study.trials()) - len(finished))


def _problem(study: RememberedStudy) -> Problem:
    record = study.record
    settings = SearchSettings.parse(record.spec["settings"])
    space = parse_space(settings.method, settings.preset, settings.space)
    budget = Budget(record.budget_low_gflops, record.budget_high_gflops)
    return Problem(space, study.architecture, budget, settings.budget_by).without_misfits()[0]


def _frozen(record: StudyRecord, trial: TrialRecord, distributions: dict[str, Any]) -> optuna.trial.FrozenTrial:
    axis, estimate = axis_of(record), estimate_of(trial.measurement, record.metric)
    value = None if estimate is None else estimate.value
    is_front = axis.is_objective
    values = None if value is None else [value, axis.of(trial).value] if is_front else [value]
    is_stopped = trial.state is TrialState.STOPPED
    excess = _excess(record, trial)
    n_images = 0 if trial.measurement is None else trial.measurement.n_images
    latency = None if trial.measurement is None else trial.measurement.latency_ms
    about: dict[str, Any] = {
        "prunefront_trial": trial.number,
        "gflops": trial.gflops,
        "latency_ms": None if latency is None else latency.value,
        "layout": dict(trial.config),
        "duplicate_of": trial.duplicate_of,
        "n_images": n_images,
        "error": trial.error,
    }
    made = optuna.trial.create_trial(
        state=_STATES[trial.state],
        values=None if is_stopped else values,
        params=dict(trial.params),
        distributions=distributions,
        user_attrs={name: value for name, value in about.items() if value is not None},
        system_attrs={_OLD_CONSTRAINTS: [excess]},
        # Optuna knows no intermediate values of several objectives.
        intermediate_values={n_images: value} if is_stopped and value is not None and not is_front else {},
        constraints={_BUDGET: excess},
    )
    made.datetime_start, made.datetime_complete = (
        None if moment is None else moment.astimezone().replace(tzinfo=None)  # Optuna's are local and say no zone
        for moment in (trial.started_at or trial.created_at, trial.finished_at)
    )
    return made


def _excess(record: StudyRecord, trial: TrialRecord) -> float:
    """Give the GFLOPs that a trial is over the budget, less than 0 where it is within; where it is late, the ms."""
    timing, excess = timing_of(record), trial.gflops - record.budget_high_gflops
    late = 0.0 if timing is None or trial.measurement is None else timing.overrun_ms(trial.measurement)
    return max(excess, 0.0) + late if late else excess
