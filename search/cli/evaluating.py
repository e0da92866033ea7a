"""``prunefront evaluate``: measure one layout file on a model and data."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from search.cli.options import (
    data_options,
    data_settings,
    json_option,
    measuring_options,
    measuring_settings,
    model_options,
    model_settings,
)
from search.cli.output import print_json, say
from search.config import DataSettings, MeasuringSettings, ModelSettings
from spaces import read_layout
from spaces.methods import read_document

__all__ = ["evaluate"]


@click.command(short_help="Measure one layout file on a model and data.")
@model_options
@data_options
@click.option("--config", required=True, type=click.Path(path_type=Path), help="A layout file.")
@measuring_options
@json_option
def evaluate(config: Path, as_json: bool, **options: Any) -> None:
    """Measure the dense model and one layout on the same images, and compare them.

    \b
    Example:
      prunefront evaluate --model shapes_vit_small --data shapes --images 512 --config best.json
    """
    layout = read_layout(config)
    model = ModelSettings.parse(model_settings(options))
    data = DataSettings.parse(data_settings(options))
    measuring = MeasuringSettings.parse(measuring_settings(options))
    from dashboard.words import comparison_line, measurement_line
    from objectives.comparison import compare_on
    from objectives.evaluators import evaluator_of
    from search.executors import Batching, LocalExecutor
    from search.opening import open_data, open_model, require_device, take_images
    from storage.export import measurement_values

    require_device(measuring.device)
    loaded = open_model(model)
    layout.cost(loaded.architecture)  # a layout that does not fit is refused before images are decoded
    images, _, _ = take_images(data, open_data(data, loaded), loaded)
    evaluator = partial(evaluator_of, loaded, device=measuring.device)
    say(f"measuring on {len(images)} images")
    if _searched_on(config) == images.list_hash:
        say("note: the layout was chosen on these very images, so its number here is partly luck; see --image-seed")
    with closing(LocalExecutor(evaluator, threads=measuring.threads)) as executor:
        executor.hold(images, Batching(measuring.settled_batch_size, measuring.settled_precision))
        dense, _ = executor.measure_dense()
        measured = executor.measure(layout)
    metric = "miou" if loaded.architecture.heads else "top1" if images.has_labels else "agreement"
    comparison = compare_on(metric, measured, dense)
    if as_json:
        print_json(
            {
                "dense": measurement_values(dense),
                "layout": measurement_values(measured),
                "difference": asdict(comparison),
            }
        )
        return
    click.echo(f"dense:  {measurement_line(dense, metric)}")
    click.echo(f"layout: {measurement_line(measured, metric)}")
    click.echo(f"layout - dense: {comparison_line(comparison)}")


def _searched_on(config: Path) -> str | None:
    """Name the images that an exported layout was chosen on; ``None`` where its file does not say."""
    measured = read_document(config).get("measured")
    searched = measured.get("searched") if isinstance(measured, dict) else None
    return searched.get("image_list_hash") if isinstance(searched, dict) else None
