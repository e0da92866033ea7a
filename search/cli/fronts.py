"""``prunefront front``: the layouts that no other beats, as a table, a picture, a file. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from dashboard.words import comparison_line, gflops_text, layout_line, measurement_line, with_interval
from objectives.metrics import METRICS, Measurement
from search.cli.options import db_option, json_option
from search.cli.output import print_json, print_table
from storage import MeasurementKind, StudyRecord, TrialRecord, TrialState
from storage.axis import axis_of, quantity, timing_of
from storage.export import measurement_values, table_of, trial_as_json, write_text
from storage.remembered import DENSE, RememberedStudy
from storage.results import estimate_of

__all__ = ["front", "front_as_json", "infeasible_line", "print_front"]


@click.command(short_help="Print a study's Pareto front; draw it, or write it as CSV.")
@click.argument("study")
@click.option("--by", type=click.Choice(["method"]), help="A front for each method, of its own trials alone.")
@click.option("--html", type=click.Path(path_type=Path), help="Write an interactive page.")
@click.option("--csv", type=click.Path(path_type=Path), help="Write the front as CSV.")
@db_option
@json_option
def front(study: str, by: str | None, html: Path | None, csv: Path | None, db: str, as_json: bool) -> None:
    """Print the layouts that no other beats at no greater cost, with 95 % intervals.

    \b
    Examples:
      prunefront front deit-3g
      prunefront front deit-3g --html front.html --csv front.csv
      prunefront front deit-methods --by method --html methods.html
    """
    found, by_method = RememberedStudy.find(study, db=db), by == "method"
    if html is not None:
        from dashboard.figures import front_page, plot_front  # plotly takes a second to import

        write_text(front_page(plot_front(found, by_method=by_method)), html)
    if csv is not None:
        trials = [trial for each in found.fronts().values() for trial in each] if by_method else found.front()
        write_text(table_of(trials, found.record.metric), csv)
    if as_json:
        print_json(front_as_json(found, by_method=by_method))
    else:
        print_front(found, by_method=by_method)


def front_as_json(study: RememberedStudy, *, by_method: bool = False) -> dict[str, Any]:
    """Give a study's front, or each method's, for programs."""
    record, dense = study.record, study.dense()
    timing = timing_of(record)
    about = {
        "study": record.name,
        "metric": METRICS[record.metric].name,
        "budget_gflops": [record.budget_low_gflops, record.budget_high_gflops],
        "cost": axis_of(record).cost,
        "timing": None if timing is None else timing.to_spec(),
        "dense": None if dense is None else measurement_values(dense),
    }
    if by_method:
        fronts = {method: [trial_as_json(trial) for trial in trials] for method, trials in study.fronts().items()}
        return about | {"fronts": fronts, "stopped_by_others": _n_stopped_by_others(study.trials())}
    return about | {"front": [trial_as_json(trial) for trial in study.front()]}


def print_front(study: RememberedStudy, *, by_method: bool = False) -> None:
    """Print a study's front, or each method's, and its best layout against the dense model."""
    record, trials = study.record, study.front()
    infeasible = infeasible_line(study.trials())
    if not trials:
        click.echo(f"{record.name} has no complete trial yet" + (f"; {infeasible}" if infeasible else ""))
        return
    if by_method:
        _print_fronts(study)
    else:
        _print_trials(record, trials, with_method=len(record.methods) > 1)
    if infeasible:
        click.echo(infeasible)
    for kind in MeasurementKind:
        dense = study.dense(kind)
        if dense is not None:
            which = "search" if kind is MeasurementKind.SEARCH else "unseen"
            click.echo(f"dense, {which} images: {measurement_line(dense, record.metric)}")
    best = study.best()
    comparison, kind = study.compare(best.number, DENSE)
    unseen = "unseen" if kind is MeasurementKind.CONFIRM else "search"
    click.echo(f"best: trial {best.number} against dense, {unseen} images: {comparison_line(comparison)}")


def infeasible_line(trials: Sequence[TrialRecord]) -> str | None:
    """Say how many trials were measured to be over the budget; ``None`` for none."""
    n = sum(trial.state is TrialState.INFEASIBLE for trial in trials)
    return f"{n} more were measured to be over the budget" if n else None


def _print_fronts(study: RememberedStudy) -> None:
    stopped = _n_stopped_by_others(study.trials())
    for method, trials in study.fronts().items():
        click.echo(f"{method}:" if trials else f"{method}: no complete trial yet")
        if trials:
            _print_trials(study.record, trials)
        if n_stopped := stopped.get(method):
            click.echo(
                f"{n_stopped} more were stopped when they had lost against another method's: this front may lack some "
                "of them (search --no-race measures all)"
            )
        click.echo("")


def _print_trials(record: StudyRecord, trials: Sequence[TrialRecord], *, with_method: bool = False) -> None:
    label = METRICS[record.metric].label
    confirmed = any(trial.confirmation is not None for trial in trials)
    remeasured = any(trial.confirmation and trial.confirmation.measured_gflops for trial in trials)
    timing = timing_of(record)
    retimed = any(trial.confirmation and trial.confirmation.latency_ms for trial in trials)
    rows = []
    for trial in trials:
        row = [str(trial.number), gflops_text(trial.gflops, trial.measurement)]
        if remeasured:
            row.append("-" if trial.confirmation is None else gflops_text(trial.gflops, trial.confirmation))
        row.append(f"{trial.gflops / record.dense_gflops:.1%}")
        if timing is not None:
            row.append(_latency(trial.measurement))
        if retimed:
            row.append(_latency(trial.confirmation))
        row.append(with_interval(estimate_of(trial.measurement, record.metric)))
        if confirmed:
            row.append(with_interval(estimate_of(trial.confirmation, record.metric)))
        if with_method:
            row.append(trial.method)
        rows.append([*row, layout_line(trial.config)])
    costs = ["GFLOPs, search", "GFLOPs, unseen"] if remeasured else ["GFLOPs"]
    latencies = ["ms, searched", "ms, again"][: (timing is not None) + retimed]
    headers = [
        "trial",
        *costs,
        "of dense",
        *latencies,
        f"{label}, search",
        *([f"{label}, unseen"] if confirmed else []),
    ]
    print_table(rows, [*headers, *(["method"] if with_method else []), "layout"])
    if timing is not None:
        click.echo(
            f"ms: of one image, the median with its 95 % interval, on {timing.machine}, {timing.machine.runtime}"
        )


def _latency(measurement: Measurement | None) -> str:
    return quantity(None if measurement is None else measurement.latency_ms)


def _n_stopped_by_others(trials: Sequence[TrialRecord]) -> dict[str, int]:
    """Count each method's trials that lost their race against another method's."""
    stopped = [trial for trial in trials if trial.state is TrialState.STOPPED and trial.duplicate_of is None]
    return dict(
        Counter(
            trial.method for trial in stopped if trial.rival is not None and trials[trial.rival].method != trial.method
        )
    )
