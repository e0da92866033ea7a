"""``prunefront flops``: what a model, a layout or a space costs, without running anything."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from search.cli.options import json_option, space_options, space_settings
from search.cli.output import print_json, print_table, say
from spaces import Budget, Cost, InvalidInput, Problem, dense_cost, parse_space, read_layout

__all__ = ["flops"]


@click.command(short_help="Count what a model, a layout or a space costs, block by block.")
@click.argument("model")
@click.option("--config", type=click.Path(path_type=Path), help="A layout file.")
@click.option("--image-size", type=int, help="Input size in px, where not the model's usual one.")
@click.option("--num-classes", type=int, help="Classes of the model, where not its usual number.")
@click.option("--budget", help="Say whether a budget can be met in the space.")
@space_options
@json_option
def flops(
    model: str,
    config: Path | None,
    image_size: int | None,
    num_classes: int | None,
    budget: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Count GFLOPs in closed form: one multiply-add counts one, as in the papers and in fvcore.

    Without a layout file, the range of what the space's layouts can cost is given too.

    \b
    Examples:
      prunefront flops deit_small_patch16_224
      prunefront flops deit_small_patch16_224 --config best.json
      prunefront flops deit_small_patch16_224 --space full --set n_layers=1:3 --budget 30%
    """
    if config is not None and budget is not None:
        raise InvalidInput("--budget is checked against a space, not against one layout: leave out --config")
    from pruning.models import load_model

    sizes = {"img_size": image_size, "num_classes": num_classes}
    arguments = {name: value for name, value in sizes.items() if value is not None}
    architecture = load_model(model, random_weights=True, arguments=arguments).architecture
    dense = dense_cost(architecture)
    layout = None if config is None else read_layout(config)
    cost = dense if layout is None else layout.cost(architecture)
    result: dict[str, Any] = {"model": model, "dense_gflops": dense.gflops} | _as_json(cost)
    lines = []
    if layout is not None and layout.cost_is_measured:
        least = layout.least_cost(architecture).gflops
        result["least_gflops"] = least
        lines.append(f"that is the most: the image decides how many tokens stay, at {least:.6g} GFLOPs or more")
    if config is None:
        settings = space_settings(options)
        space = parse_space(settings["method"], settings["preset"], settings["space"])
        limit = Budget(None, math.inf) if budget is None else Budget.parse(budget, dense.gflops)
        problem, left_out = Problem(space, architecture, limit).without_misfits()
        for line in left_out:
            say(line)
        if budget is not None:
            lines.append(f"the budget of {budget} can be met")
        least, most = problem.cost_range()
        result["space_gflops"] = [least, most]
        lines.insert(0, f"layouts of this space cost {least:.4g} to {most:.4g} GFLOPs")
    if as_json:
        print_json(result)
        return
    _print_cost(cost, dense)
    for line in lines:
        click.echo(line)


def _as_json(cost: Cost) -> dict[str, Any]:
    return {
        "gflops": cost.gflops,
        "macs": cost.macs,
        "model_macs": cost.model_macs,
        "overhead_macs": cost.overhead_macs,
        "blocks": [{"block": b.number, "tokens": b.n_token, "macs": b.macs} for b in cost.blocks],
    }


def _print_cost(cost: Cost, dense: Cost) -> None:
    overhead = {stage.block: stage.overhead_macs for stage in cost.stages}
    rows: list[list[Any]] = [["stem", "", f"{cost.stem_macs / 1e6:.3f}", ""]]
    for block in cost.blocks:
        chosen = overhead.get(block.number, 0)
        rows.append(
            [f"block {block.number}", block.n_token, f"{block.macs / 1e6:.3f}", f"{chosen / 1e6:.3f}" if chosen else ""]
        )
    rows.append(["head", "", f"{cost.tail_macs / 1e6:.3f}", ""])
    print_table(rows, ["", "tokens", "million multiply-adds", "choosing tokens"])
    click.echo(
        f"\n{cost.gflops:.6g} GFLOPs ({cost.macs} multiply-adds), of which {cost.overhead_macs} to choose tokens"
    )
    if cost.macs != dense.macs:
        click.echo(f"{cost.macs / dense.macs:.1%} of the dense model's {dense.gflops:.6g} GFLOPs")
