"""``prunefront export`` and ``export-optuna``: a layout to prune with elsewhere, a study as one of Optuna's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from search.cli.options import db_option, json_option
from search.cli.output import print_json, say
from spaces import InvalidInput
from storage import TrialRecord
from storage.database import shown
from storage.remembered import RememberedStudy

__all__ = ["export", "export_optuna"]

_LAYOUT_FILES = (".json", ".yaml", ".yml")


@click.command(short_help="Write a layout to a JSON or YAML file, or with its model to a folder.")
@click.argument("study")
@click.option("--best", is_flag=True, help="The layout with the highest metric; this is the default.")
@click.option("--trial", type=int, help="This trial's layout.")
@click.option("--budget", help="With --best: within 3.0 (GFLOPs) or 65% (of dense).")
@click.option(
    "--output",
    required=True,
    help="A .json or .yaml file for the layout alone, or a folder for a bundle; one that exists is replaced.",
)
@click.option(
    "--weights",
    type=click.Choice(["model", "none"]),
    default="model",
    show_default=True,
    help="Of a bundle: the model's, or none; they are then named by their digest.",
)
@click.option(
    "--format",
    "formats",
    metavar="onnx,pt2",
    help="Of a bundle: programs to export besides, for onnxruntime and torch.export; each is compared with the model.",
)
@click.option("--push-to-hub", metavar="ORG/NAME", help="Upload the bundle to this repository of the Hugging Face hub.")
@db_option
@json_option
def export(study: str, best: bool, trial: int | None, budget: str | None, as_json: bool, **options: Any) -> None:
    """Write a layout with its numbers and where they come from.

    A folder becomes a bundle: config.json and model.safetensors, which timm loads as the dense model by local-dir:,
    pruning.json, and a model card. In Python, pruning.load("best/") gives the pruned model and its preprocessing, and
    pruning.prune(model, "best.json") prunes a model of your own; that needs torch and timm only.

    \b
    Examples:
      prunefront export deit-3g --best --budget 2.5 --output best.json
      prunefront export deit-3g --trial 17 --output layout.yaml
      prunefront export deit-3g --best --budget 3.0 --output best/ --format onnx,pt2
    """
    if trial is not None and (best or budget):
        raise InvalidInput("--trial names one layout; leave out --best and --budget")
    output, hub = options["output"], options["push_to_hub"]
    remembered = RememberedStudy.find(study, db=options["db"])
    if _is_file(output):
        if options["weights"] == "none" or options["formats"] or hub:
            raise InvalidInput(
                f"--weights, --format and --push-to-hub are for a bundle, which is a folder, and not for {output}"
            )
        chosen = remembered.export(output, trial, budget=budget)
    else:
        chosen = _export_bundle(remembered, Path(output), trial, budget, options)
    if as_json:
        print_json({"trial": chosen.number, "gflops": chosen.gflops, "output": output})
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


def _export_bundle(
    study: RememberedStudy, folder: Path, trial: int | None, budget: str | None, options: dict[str, Any]
) -> TrialRecord:
    from search.bundling import export_bundle, push_to_hub  # torch takes seconds to import

    chosen = export_bundle(
        study,
        folder,
        trial,
        budget=budget,
        with_weights=options["weights"] == "model",
        formats=[name.strip() for name in (options["formats"] or "").split(",") if name.strip()],
    )
    if options["push_to_hub"]:
        say(f"uploaded to {push_to_hub(folder, options['push_to_hub'])}")
    return chosen


def _is_file(output: str) -> bool:
    """Say whether a layout file is asked for; a folder's name ends with a slash, or has no ending.

    Raises:
        InvalidInput: the name could be that of any other file.
    """
    path = Path(output)
    if output.endswith("/") or path.is_dir():
        return False
    if path.suffix and path.suffix not in _LAYOUT_FILES:
        raise InvalidInput(
            f"--output takes a .json or .yaml file, or a folder for a bundle, got {output}: end a folder's name with /"
        )
    return path.suffix in _LAYOUT_FILES
