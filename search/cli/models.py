"""``prunefront models``: which of timm's models can be pruned, and by which methods."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import click
from tqdm import tqdm

from search.cli.options import json_option
from search.cli.output import print_json, print_table, say
from spaces import METHODS, Architecture, InvalidInput, dense_cost
from spaces.catalogue import fitting_presets

__all__ = ["models"]

_N_QUICK = 30  # so many take a few seconds
_MODELS_A_SECOND = 8


@dataclass(frozen=True)
class _Supported:
    """A model that can be pruned: what it is, and for each method the presets that can prune it."""

    model: str
    family: str
    depth: int
    tokens: int
    gflops: float
    methods: dict[str, tuple[str, ...]]


@click.command(short_help="Say which of timm's models can be pruned, and by which methods.")
@click.argument("pattern")
@click.option("--all", "with_unsupported", is_flag=True, help="List models that cannot be pruned too, with the reason.")
@json_option
def models(pattern: str, with_unsupported: bool, as_json: bool) -> None:
    """Say which models named like PATTERN can be pruned: their size, their cost with nothing pruned, their methods.

    Nothing is downloaded, and no weights are made; a model takes a tenth of a second, all of timm's some minutes.

    \b
    Examples:
      prunefront models 'deit*'
      prunefront models 'vit_*_patch16_224' --all
    """
    from pruning.models import model_names, read_model

    names = model_names(pattern)
    supported: list[_Supported] = []
    reasons: dict[str, str] = {}
    if is_long := len(names) > _N_QUICK:
        say(f"{len(names)} names match; reading the models takes about {len(names) // _MODELS_A_SECOND} s")
    for name in tqdm(names, leave=False, disable=None if is_long else True):  # None: only on a terminal
        try:
            family, architecture = read_model(name)
        except InvalidInput as error:
            reasons[name] = str(error).partition(";")[0]  # behind it stands what is supported instead
        else:
            supported.append(_described(name, family, architecture))
    if as_json:
        listed = {"unsupported": reasons} if with_unsupported else {}
        print_json({"models": [asdict(each) for each in supported], "n_unsupported": len(reasons), **listed})
        return
    if supported:
        print_table([_row(each) for each in supported], ["model", "family", "blocks", "tokens", "GFLOPs", "methods"])
        click.echo("")
    hint = "" if with_unsupported or not reasons else "; --all says why"
    click.echo(f"{len(supported)} of {len(names)} models can be pruned{hint}")
    if with_unsupported:
        for reason in reasons.values():
            click.echo(reason)


def _described(name: str, family: str, architecture: Architecture) -> _Supported:
    presets = {method: fitting_presets(method, architecture) for method in METHODS}
    return _Supported(
        model=name,
        family=family,
        depth=architecture.depth,
        tokens=architecture.n_prefix + architecture.n_patch,
        gflops=dense_cost(architecture).gflops,
        methods={method: fitting for method, fitting in presets.items() if fitting},
    )


def _row(model: _Supported) -> list[str]:
    methods = [
        method if fitting == tuple(METHODS[method][1].presets) else f"{method} ({', '.join(fitting)})"
        for method, fitting in model.methods.items()
    ]
    of_classifiers = [name for name, (config, _) in METHODS.items() if not config.predicts_every_patch]
    text = "all" if methods == of_classifiers else ", ".join(methods)
    return [model.model, model.family, str(model.depth), str(model.tokens), f"{model.gflops:.4g}", text or "none"]
