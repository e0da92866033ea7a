"""``prunefront export`` and ``export-optuna``: a layout as a file that prunes a model, a study as one of Optuna's."""

from __future__ import annotations

from pathlib import Path

import click

from search.cli.options import db_option, json_option
from search.cli.output import print_json, say
from spaces import InvalidInput
from storage.database import shown
from storage.remembered import RememberedStudy

__all__ = ["export", "export_optuna"]


@click.command(short_help="Write a layout to a JSON or YAML file.")
@click.argument("study")
@click.option("--best", is_flag=True, help="The layout with the highest metric; this is the default.")
@click.option("--trial", type=int, help="This trial's layout.")
@click.option("--budget", help="With --best: within 3.0 (GFLOPs) or 65% (of dense).")
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="A .json or .yaml file; one that exists is replaced.",
)
@db_option
@json_option
def export(study: str, best: bool, trial: int | None, budget: str | None, output: Path, db: str, as_json: bool) -> None:
    """Write a layout with its numbers and where they come from.

    In Python, pruning.prune(model, "best.json") prunes a model with it; that needs torch and timm only.

    \b
    Examples:
      prunefront export deit-3g --best --budget 2.5 --output best.json
      prunefront export deit-3g --trial 17 --output layout.yaml
    """
    if trial is not None and (best or budget):
        raise InvalidInput("--trial names one layout; leave out --best and --budget")
    chosen = RememberedStudy.find(study, db=db).export(output, trial, budget=budget)
    if as_json:
        print_json({"trial": chosen.number, "gflops": chosen.gflops, "output": str(output)})
    else:
        click.echo(f"trial {chosen.number}, {chosen.gflops:.4g} GFLOPs, is written to {output}")


@click.command("export-optuna", short_help="Write a study as one of Optuna's.")
@click.argument("study")
@click.argument("url")
@db_option
@json_option
def export_optuna(study: str, url: str, db: str, as_json: bool) -> None:
    """Write a study to URL, a database of Optuna's, for optuna-dashboard and optuna.load_study.

    \b
    Examples:
      prunefront export-optuna deit-3g sqlite:///optuna.db
      optuna-dashboard sqlite:///optuna.db
    """
    from search.optuna_export import export_to_optuna

    exported = export_to_optuna(RememberedStudy.find(study, db=db), url)
    if as_json:
        print_json({"study": study, "trials": exported.n_trials, "left_out": exported.n_left_out, "url": shown(url)})
        return
    if exported.n_left_out:
        say(f"{exported.n_left_out} trials that are not finished are left out")
    click.echo(f"{study} and its {exported.n_trials} trials are written to {shown(url)}")
