"""``prunefront search`` and ``resume``: find, confirm and export layouts."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import click

from objectives.metrics import LATENCY
from search.cli.fronts import front_as_json, print_front
from search.cli.goals import goal_settings
from search.cli.looking import missed_budget
from search.cli.options import (
    DEFAULT_METHOD,
    data_options,
    data_settings,
    db_option,
    execution_options,
    execution_settings,
    json_option,
    measuring_options,
    measuring_settings,
    model_options,
    model_settings,
    space_options,
    space_settings,
)
from search.cli.output import print_json, results_alone_on_stdout, say
from search.config import SAMPLERS, SearchSettings
from search.execution import Execution
from spaces import InvalidInput
from spaces.problem import BudgetBy
from storage.axis import axis_of

__all__ = ["resume", "search"]


@click.command(short_help="Search layouts under a budget; confirm and export the best.")
@model_options
@data_options
@click.option("--budget", help="3.0 (GFLOPs), 65% (of dense), or a range for a whole front: 2.0:4.0, 50%:90%.")
@click.option(
    "--budget-ms",
    help="What one image may take on this machine: 4.5 (ms), 65% (of dense), or a range for a whole front. Needs "
    "--executor local; --budget may be left out.",
)
@click.option(
    "--task",
    type=click.Choice(["classification", "segmentation"]),
    default="classification",
    show_default=True,
    help="What the model does. Segmenters are searched by dtop, for mIoU, without races.",
)
@click.option("--study", help="Name of the study.  [default: the model and the time]")
@click.option("--trials", type=int, default=200, show_default=True, help="Candidates to measure.")
@space_options
@click.option(
    "--sampler",
    type=click.Choice(["auto", *SAMPLERS]),
    default="auto",
    show_default=True,
    help="What proposes; auto: what did best on shapes.",
)
@click.option(
    "--budget-by",
    type=click.Choice(get_args(BudgetBy)),
    default="repair",
    show_default=True,
    help="How draws come within the budget: by repair, or by drawing again (constraint: the sampler is told why).",
)
@click.option(
    "--metric",
    type=click.Choice(["top1", "agreement", "miou"]),
    help="What to maximise; agreement with the dense model needs no labels.  [default: top1; miou of segmenters]",
)
@click.option(
    "--objective",
    metavar="METRIC[,COST]",
    help="The metric, and for a front what is minimised beside it: top1,gflops over a range of --budget, or "
    "top1,latency_ms, timed on this machine, which needs --executor local.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the proposals.")
@click.option(
    "--look-ahead",
    type=int,
    help="Proposals made before the first result is told; with the seed it decides them all.  [default: twice the "
    "workers that this machine has, at least 4]",
)
@click.option(
    "--race/--no-race",
    default=True,
    show_default=True,
    help="Measure a candidate no further once it has lost against the best; for a front, the best that costs no more.",
)
@click.option(
    "--race-margin",
    type=float,
    default=0.5,
    show_default=True,
    help="Points by which the best must be beaten under one budget; to win by less is not worth the images.",
)
@click.option(
    "--confirm-images",
    "n_confirm",
    type=int,
    help="Unseen images to confirm the front on; 0 for none.  [default: as many as searched on]",
)
@click.option("--expect-top1", type=float, help="Top-1 (%) of the dense model below which not to start.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Where to export the best layout.  [default: STUDY.json]"
)
@measuring_options
@execution_options
@db_option
@json_option
def search(**options: Any) -> None:
    """Search token-pruning layouts for a model under a hard budget of GFLOPs, or of ms on this machine.

    Every candidate's cost is known before it is measured, and none over the budget is; where the images decide what a
    layout costs (ats, dtop), measuring tells, and none over the budget is a result. Each is measured on the same
    images; what lies on the front is then measured again on images that the search never saw, and the best layout is
    exported. Ctrl-C stops cleanly; resume goes on.

    Latency (--objective top1,latency_ms, --budget-ms) is timed after each measurement, when nothing else of the search
    runs on the device: therefore with --executor local only, and without races.

    \b
    Examples:
      prunefront search --model shapes_vit_small --data shapes --budget 65% --trials 40
      prunefront search --model deit_small_patch16_224 --checkpoint deit_small.pth \\
        --data /data/imagenet --budget 3.0 --expect-top1 79 --study deit-3g
      prunefront search --model shapes_vit_small --data shapes --budget 50%:90% --space full \\
        --set similarity=cosine --sampler nsga2
      prunefront search --model shapes_vit_small --data shapes --budget 50%:90% --method zero_tprune,cls_topk \\
        --set zero_tprune.s=0:10 --set keep_rate=0.5:1
      prunefront search --model shapes_vit_small --data shapes --objective top1,latency_ms --executor local
      prunefront search --task segmentation --model shapes_seg_small --data shapes --budget 60%:100%
    """
    db, as_json, n_trials = options.pop("db"), options.pop("as_json"), options.pop("trials")
    execution = Execution.parse(execution_settings(options))
    race, look_ahead = options.pop("race"), options.pop("look_ahead")
    segments = options["task"] == "segmentation"
    goal = goal_settings(options, "miou" if segments else "top1")
    times_latency = goal.get("cost") == LATENCY or "budget_ms" in goal
    study = options.pop("study") or f"{_plain(options['model'])}-{datetime.now():%Y%m%d-%H%M%S}"
    output = _new(_writable(options.pop("output") or Path(f"{study}.json")))
    settings = SearchSettings.parse(
        {
            "study": study,
            "model": model_settings(options),
            "data": data_settings(options),
            **measuring_settings(options),
            **space_settings(options, "dtop" if segments else DEFAULT_METHOD),
            "race": race and not segments and not times_latency,
            "look_ahead": "auto" if look_ahead is None else look_ahead,
            **goal,
            **options,
        }
    )
    from search.study import Study

    with Study.create(settings, n_trials=n_trials, db=db, say=say, execution=execution) as created:
        _go_on(created, execution, output, as_json=as_json)


@click.command(short_help="Go on with a study that was stopped, or ask it for more trials.")
@click.argument("study")
@click.option("--trials", type=int, help="Candidates to have measured in all.  [default: as asked for before]")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Where to export the best layout; replaced.  [default: STUDY.json]",
)
@click.option("--take-over", is_flag=True, help="From a driver that still holds the study; it can write no more then.")
@execution_options
@db_option
@json_option
def resume(
    study: str,
    trials: int | None,
    output: Path | None,
    take_over: bool,
    db: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Go on with a study where it stands.

    No finished trial is measured again, and what follows is what would have followed without the stop.

    \b
    Examples:
      prunefront resume deit-3g
      prunefront resume deit-3g --trials 400
      prunefront resume deit-3g --take-over
    """
    execution = Execution.parse(execution_settings(options))
    output = _writable(output or Path(f"{study}.json"))
    from search.study import Study

    with Study.open(study, db=db) as opened:
        for change in opened.changed_versions():
            say(f"note: {change} since the study began; float results may differ in their last bits")
        _go_on(opened, execution, output, n_trials=trials, take_over=take_over, as_json=as_json)


def _go_on(
    study: Any,
    execution: Execution,
    output: Path,
    *,
    n_trials: int | None = None,
    take_over: bool = False,
    as_json: bool,
) -> None:
    from search.cli.progress import ProgressLine
    from search.interruption import stop_on_signal

    record = study.record
    if finding := study.cache_finding(execution):
        say(finding)
    say(f"study {record.name}: {n_trials or record.n_trials} trials, {record.sampler}, seed {record.seed}")
    line = ProgressLine(record.metric, axis_of(record))
    try:
        with results_alone_on_stdout(), stop_on_signal(say) as stop_requested:
            progress = study.run(
                n_trials=n_trials,
                execution=execution,
                on_progress=line,
                stop_requested=stop_requested,
                say=say,
                take_over=take_over,
            )
    finally:
        line.close()
    over = f"{progress.n_infeasible} measured to be over the budget, " if progress.n_infeasible else ""
    say(
        f"{progress.n_complete} measured on all images, {over}{progress.n_stopped} stopped when they had lost their "
        f"race ({progress.spared_share:.0%} of the images spared), {progress.n_failed} failed; "
        f"{progress.n_duplicates} were known from an equal candidate; {missed_budget(record, progress.n_over_budget)}; "
        f"the driver's own share of the time was {progress.overhead_share:.1%}"
    )
    study.best()  # without one there is nothing to confirm, and it says so
    if record.provenance.confirm_list_hash is not None:
        say("confirming the front on unseen images")
        with results_alone_on_stdout():
            study.confirm(execution=execution, say=say)
    winner = study.export(output)
    if as_json:
        print_json(front_as_json(study) | {"winner": winner.number, "output": str(output)})
        return
    print_front(study)
    click.echo(f"\nThe best layout is written to {output}; prune a model with pruning.prune(model, {str(output)!r}).")


def _new(output: Path) -> Path:
    """Refuse to replace a file that another study may have written."""
    if output.exists():
        raise InvalidInput(f"{output} exists already: name another file with --output")
    return output


def _writable(output: Path) -> Path:
    """Refuse a place for the result before hours are spent on it."""
    if output.suffix not in (".json", ".yaml", ".yml"):
        raise InvalidInput(f"--output takes a .json or .yaml file, got {output}")
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
        raise InvalidInput(f"cannot write {output}: its folder does not exist or is read-only")
    return output


def _plain(model: str) -> str:
    return "".join(
        letter if letter.isalnum() or letter in "_-." else "-" for letter in model.rstrip("/").rpartition("/")[2]
    )
