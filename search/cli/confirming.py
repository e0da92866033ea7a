"""``prunefront confirm``: measure winners again on images that the search never saw."""

from __future__ import annotations

from typing import Any

import click

from search.cli.fronts import print_front
from search.cli.options import db_option, execution_options, execution_settings, json_option
from search.cli.output import print_json, results_alone_on_stdout, say
from search.execution import Execution
from storage.export import trial_as_json

__all__ = ["confirm"]


@click.command(short_help="Measure the front again on unseen images.")
@click.argument("study")
@click.argument("trials", type=int, nargs=-1)
@execution_options
@db_option
@json_option
def confirm(study: str, trials: tuple[int, ...], db: str, as_json: bool, **options: Any) -> None:
    """Measure the front, or the trials named, again on images that the search never saw.

    A winner is partly chosen for its luck on the search images; only confirmed numbers are free of that.

    \b
    Examples:
      prunefront confirm deit-3g
      prunefront confirm deit-3g 17 42
    """
    execution = Execution.parse(execution_settings(options))
    from search.study import Study

    with Study.open(study, db=db) as opened:
        with results_alone_on_stdout():
            confirmed = opened.confirm(trials or None, execution=execution, say=say)
        say(f"{len(confirmed)} trials are confirmed")
        if as_json:
            print_json([trial_as_json(trial) for trial in confirmed])
        else:
            print_front(opened)
