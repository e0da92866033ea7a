"""``prunefront status``, ``show`` and ``compare``: look at what is remembered. No torch here."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import click

from dashboard.words import budget_text, comparison_line, cramped_line, latency_line, measurement_line
from search.cli.options import db_option, json_option
from search.cli.output import print_json, print_table
from spaces import Architecture, InvalidInput, PruningConfig, parse_layout
from storage import MeasurementKind, Store, StudyRecord, TrialRecord, TrialState
from storage.axis import overrun_line, timing_of
from storage.export import trial_as_json
from storage.remembered import DENSE, RememberedStudy

__all__ = ["compare", "missed_budget", "show", "status"]


@click.command(short_help="Say which studies there are, or how one is doing.")
@click.argument("study", required=False)
@db_option
@json_option
def status(study: str | None, db: str, as_json: bool) -> None:
    """Say which studies there are, or how one is doing.

    \b
    Examples:
      prunefront status
      prunefront status deit-3g
    """
    with Store(db) as store:
        names = [record.name for record in store.studies()] if study is None else [study]
        found = [RememberedStudy(store, store.study(name)) for name in names]
        described = [each.describe() for each in found]
        if as_json:
            print_json(described if study is None else described[0])
        elif study is None:
            print_table(
                [_status_row(each.record, about) for each, about in zip(found, described, strict=True)],
                ["study", "state", "trials", "budget", "model", "data"],
            )
        else:
            _print_status(found[0], described[0])


def missed_budget(record: StudyRecord, n_draws: int) -> str:
    """Say how many draws missed the budget, and what became of them."""
    became = "repaired" if record.spec["settings"]["budget_by"] == "repair" else "drawn again"
    return f"draws that missed the budget: {f'{n_draws}, all {became}' if n_draws else 'none'}"


def _status_row(record: StudyRecord, described: dict[str, Any]) -> list[Any]:
    done = sum(described["trials"].get(state.value, 0) for state in TrialState if state.is_finished)
    return [
        described["name"],
        described["state"],
        f"{done}/{described['n_trials']}",
        budget_text(record),
        described["model"],
        described["data"],
    ]


def _print_status(study: RememberedStudy, described: dict[str, Any]) -> None:
    record = study.record
    counts = ", ".join(f"{count} {state}" for state, count in described["trials"].items()) or "none yet"
    trials = study.trials()
    missed = sum(trial.n_rejected + (trial.drawn_gflops > record.budget_high_gflops) for trial in trials)
    click.echo(f"{record.name}: {described['state']}" + (f" ({record.error})" if record.error else ""))
    click.echo(f"trials: {counts}, of {record.n_trials} asked for; {missed_budget(record, missed)}")
    if len(record.methods) > 1:
        counted = Counter(trial.method for trial in trials)
        click.echo(f"methods: {', '.join(f'{method} in {counted[method]} trials' for method in record.methods)}")
    timing = timing_of(record)
    timed = "" if timing is None else f" and {timing.dense_ms:.4g} ms, on {timing.machine}, {timing.machine.runtime}"
    click.echo(f"budget: {budget_text(record)}; dense {record.dense_gflops:.4g} GFLOPs{timed}")
    dense = study.dense()
    if dense is not None:
        click.echo(f"dense: {measurement_line(dense, record.metric)}")
    if described["best"] is not None:
        best = study.trial(described["best"])
        if best.measurement is not None:
            click.echo(f"best: trial {best.number}, {measurement_line(best.measurement, record.metric)}")


@click.command(short_help="Show a study's settings, or everything about one trial.")
@click.argument("study")
@click.argument("trial", type=int, required=False)
@db_option
@json_option
def show(study: str, trial: int | None, db: str, as_json: bool) -> None:
    """Show where a study's numbers come from, or everything about one trial: its tokens block by block, its numbers.

    \b
    Examples:
      prunefront show deit-3g
      prunefront show deit-3g 17
    """
    found = RememberedStudy.find(study, db=db)
    record = found.record
    if trial is None:
        about = found.describe() | {"provenance": asdict(record.provenance), "settings": record.spec["settings"]}
        if as_json:
            print_json(about)
        else:
            print_table([[name, value] for name, value in _flat(about)], ["", ""])
        return
    remembered = found.trial(trial)
    if as_json:
        print_json(trial_as_json(remembered) | {"traceback": remembered.traceback})
        return
    _print_trial(found, remembered)


def _print_trial(study: RememberedStudy, trial: TrialRecord) -> None:
    record, architecture = study.record, study.architecture
    click.echo(
        f"trial {trial.number} of {record.name}: {trial.state.value}" + (f", {trial.error}" if trial.error else "")
    )
    if trial.duplicate_of is not None:
        click.echo(f"equal in effect to trial {trial.duplicate_of}, whose measurement it shares")
    if trial.state is TrialState.INFEASIBLE:
        click.echo(
            f"it {overrun_line(record, trial)}, within which the whole interval must lie: never best, on a front or "
            "confirmed"
        )
    if trial.rival is not None:
        click.echo(
            f"stopped when it had made as many mistakes as trial {trial.rival} made in all: what follows is what the "
            "images that it saw, a random sample and the hardest, say of all"
        )
    overhead = trial.overhead_gflops / trial.gflops
    click.echo(
        f"{trial.gflops:.4g} GFLOPs ({trial.gflops / record.dense_gflops:.1%} of dense), {overhead:.2%} of them to "
        f"choose tokens; drawn at {trial.drawn_gflops:.4g}"
    )
    for which, measurement in (("search", trial.measurement), ("unseen", trial.confirmation)):
        if measurement is not None:
            click.echo(f"{which} images: {measurement_line(measurement, record.metric)}")
            if cramped := cramped_line(record, measurement):
                click.echo(cramped)
    if latency := latency_line(record, trial.measurement):
        click.echo(latency)
    _print_tokens(parse_layout(trial.config), trial, architecture)
    click.echo("")
    print_table([[name, value] for name, value in trial.config.items()], ["layout", ""])


def _print_tokens(layout: PruningConfig, trial: TrialRecord, architecture: Architecture) -> None:
    tokens: tuple[float, ...] = layout.cost(architecture).tokens_per_block
    about = "tokens that enter each block"
    if layout.cost_is_measured:
        least, most = layout.least_cost(architecture).gflops, layout.cost(architecture).gflops
        click.echo(f"the image decides how many tokens stay, at {least:.4g} to {most:.4g} GFLOPs")
        if trial.measurement is None:
            about += " at most"
        else:
            tokens, about = trial.measurement.tokens_per_block, f"{about}, on average"
    widest = max(tokens)
    click.echo(f"\n{about}:")
    for number, count in enumerate(tokens, start=1):
        click.echo(f"  {number:3d} {round(count):5d} {'█' * round(40 * count / widest)}")


@click.command(short_help="Compare two trials image by image.")
@click.argument("first")
@click.argument("second")
@db_option
@json_option
def compare(first: str, second: str, db: str, as_json: bool) -> None:
    """Compare two layouts on the same images: paired difference with its 95 % interval, and McNemar's test.

    FIRST and SECOND are STUDY:TRIAL, STUDY:best or STUDY:dense. Unseen images are used where both were confirmed.

    \b
    Examples:
      prunefront compare deit-3g:17 deit-3g:dense
      prunefront compare deit-3g:best deit-random:best
    """
    (one, which_one), (two, which_two) = (_resolve(text, db) for text in (first, second))
    comparison, kind = one.compare(which_one, which_two, other=two)
    if as_json:
        print_json(asdict(comparison) | {"images": kind.value})
        return
    images = "unseen" if kind is MeasurementKind.CONFIRM else "search"
    click.echo(f"{first} - {second}, {images} images: {comparison_line(comparison)}")


def _resolve(text: str, db: str) -> tuple[RememberedStudy, int | str]:
    name, colon, which = text.rpartition(":")
    if not colon or not (which in (DENSE, "best") or which.isdecimal()):
        raise InvalidInput(f"a layout is named STUDY:TRIAL, STUDY:best or STUDY:dense, got {text!r}")
    study = RememberedStudy.find(name, db=db)
    if which == "best":
        return study, study.best().number
    return study, which if which == DENSE else int(which)


def _flat(about: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in about.items():
        if isinstance(value, dict) and value:
            rows += _flat(value, f"{prefix}{name}.")
        elif value not in (None, {}, [], ""):
            rows.append((f"{prefix}{name}", value))
    return rows
