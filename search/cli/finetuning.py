"""``prunefront finetune-heads``: train a segmenter's heads with DToP on."""

from __future__ import annotations

from pathlib import Path

import click

from search.cli.output import say
from search.config import FineTuningSettings
from spaces import DToP, InvalidInput
from spaces.methods import read_document

__all__ = ["finetune_heads"]


@click.command(name="finetune-heads", short_help="Train a segmenter's heads with dtop on.")
@click.option("--config", required=True, type=click.Path(path_type=Path), help="A YAML or JSON file; see below.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint of an unfinished training.")
def finetune_heads(config: Path, resume: bool) -> None:
    """Train the heads of a segmenter alone, with dtop finishing tokens meanwhile (DToP@Finetune).

    No search needs it: layouts are searched on the model as it is. Checkpoints are written on the way; Ctrl-C loses
    the steps since the last. The file names model, data, layout, n_steps and output, and may name batch_size, rate,
    seed, save_every and device.

    \b
    Example:
      prunefront finetune-heads --config finetune.yaml
    with
      model: shapes_seg_small
      data: shapes
      layout: {after: [4, 8], p0: 0.95, k: 5}
      n_steps: 1000
      output: tuned.safetensors
    """
    settings = FineTuningSettings.parse(read_document(config))
    output = _writable(Path(settings.output))
    layout = DToP.parse(dict(settings.layout))
    from tqdm import tqdm

    from objectives.finetuning import FineTuning
    from objectives.finetuning import finetune_heads as train
    from objectives.masks import find_masks
    from search.opening import open_model, require_device

    require_device(settings.device)
    loaded = open_model(settings.model)
    layout.require_heads(loaded.architecture)
    data = settings.data
    source = find_masks(data.data, n_classes=loaded.architecture.n_classes, folders=data.masks)
    say(f"data: {source.layout}; training the heads after {', '.join(map(str, layout.after))} and the last")
    names = ("n_steps", "batch_size", "rate", "seed", "save_every")
    training = FineTuning(layout=layout, **{name: getattr(settings, name) for name in names})
    with tqdm(total=settings.n_steps, unit="step") as bar:

        def on_step(done: int, loss: float) -> None:
            bar.update(done - bar.n)
            bar.set_postfix(loss=f"{loss:.3f}")

        train(
            loaded,
            source,
            training,
            output,
            is_shapes=data.data == "shapes",
            resume=resume,
            device=settings.device,
            on_step=on_step,
        )
    click.echo(f"The weights are written to {output}; use them with --model {loaded.name} --checkpoint {output}.")


def _writable(output: Path) -> Path:
    """Refuse a place for the weights before hours are spent on them."""
    if output.suffix != ".safetensors":
        raise InvalidInput(f"output must be a .safetensors file, got {output}")
    if not output.parent.is_dir():
        raise InvalidInput(f"cannot write {output}: its folder does not exist")
    return output
