"""Options that several verbs share, and what they mean as settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from spaces import METHODS, InvalidInput
from spaces.domains import parse_setting
from spaces.methods import flat_settings, method_names, read_document
from storage.remembered import DEFAULT_DB

__all__ = [
    "DEFAULT_METHOD",
    "data_options",
    "data_settings",
    "db_option",
    "execution_options",
    "execution_settings",
    "json_option",
    "measuring_options",
    "measuring_settings",
    "model_options",
    "model_settings",
    "space_options",
    "space_settings",
]

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_METHOD = "zero_tprune"

db_option = click.option(
    "--db",
    default=DEFAULT_DB,
    show_default=True,
    envvar="PRUNEFRONT_DB",
    help="Database URL: sqlite:///file.db or postgresql+psycopg://...",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def _together(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


model_options = _together(
    click.option(
        "--model",
        required=True,
        help="A timm name, shapes_vit_small, shapes_seg_small, local-dir:/path or hf-hub:org/name.",
    ),
    click.option("--checkpoint", help="Weights: a .safetensors or .pth file."),
    click.option("--pretrained", is_flag=True, help="Download timm's weights for the model from the hub."),
    click.option("--num-classes", type=int, help="Classes of the model, where not its usual number."),
    click.option("--image-size", type=int, help="Input size in px, where not the model's usual one."),
    click.option("--mean", help="Preprocessing over the model's own: mean, such as 0.5,0.5,0.5."),
    click.option("--std", help="Standard deviation, likewise."),
    click.option(
        "--crop-pct", type=float, help="Share of the resized image that the centre crop keeps; of classifiers."
    ),
    click.option("--interpolation", help="Of the resize: bicubic, bilinear, ..."),
)


def model_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Take the model's options out of ``options`` and give them as settings."""
    arguments = {"num_classes": options.pop("num_classes"), "img_size": options.pop("image_size")}
    preprocessing = {name: _triple(name, options.pop(name)) for name in ("mean", "std")}
    preprocessing |= {name: options.pop(name) for name in ("crop_pct", "interpolation")}
    return {
        "name": options.pop("model"),
        "checkpoint": options.pop("checkpoint"),
        "pretrained": options.pop("pretrained"),
        "arguments": _given(arguments),
        "preprocessing": _given(preprocessing),
    }


data_options = _together(
    click.option("--data", required=True, help="An ImageNet-style root or folder of class folders, or shapes."),
    click.option("--labels", help="CSV of file name and class, for a folder of images without class folders."),
    click.option("--class-map", help="Text file naming the class folders in the order of the model's classes."),
    click.option("--split", help="Folder below the data root; by default val or validation where there is one."),
    click.option(
        "--images", "n_search", type=int, help="Images to measure on.  [default: 1024, or half of a smaller set]"
    ),
    click.option("--image-seed", type=int, default=0, show_default=True, help="Of the choice of images."),
    click.option("--skip-bad-images", is_flag=True, help="Leave out files that cannot be decoded."),
    click.option("--image-folder", help="Of a segmenter's data, below its root.  [default: images]"),
    click.option("--mask-folder", help="Of the masks, likewise.  [default: annotations]"),
    click.option("--mask-split", help="Folder below both.  [default: validation, val or test, where there is one]"),
    click.option("--mask-suffix", help="What a mask's name has for its image's suffix.  [default: .png]"),
    click.option("--list-file", help="Names of the images with masks to take, one a line, without suffix."),
    click.option("--reduce-zero-label", is_flag=True, default=None, help="Masks: 0 counts for nothing, 1 is class 0."),
    click.option("--ignore-index", type=int, help="Masks: the value that counts for nothing.  [default: 255]"),
    click.option("--label-map", help="Masks: a text file of lines VALUE CLASS, or VALUE ignore."),
    click.option("--stride", type=int, help="Cut images into windows, so many px apart.  [default: whole images]"),
)
_MASK_OPTIONS = {
    "images": "image_folder",
    "masks": "mask_folder",
    "split": "mask_split",
    "mask_suffix": "mask_suffix",
    "list_file": "list_file",
    "reduce_zero_label": "reduce_zero_label",
    "ignore_index": "ignore_index",
    "label_map": "label_map",
}


def data_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Take the data's options out of ``options`` and give them as settings."""
    names = ("data", "labels", "class_map", "split", "n_search")
    return {name: options.pop(name) for name in names} | {
        "n_confirm": options.pop("n_confirm", 0),
        "seed": options.pop("image_seed"),
        "skip_bad": options.pop("skip_bad_images"),
        "masks": _given({name: options.pop(option) for name, option in _MASK_OPTIONS.items()}),
        "stride": options.pop("stride"),
    }


measuring_options = _together(
    click.option(
        "--batch-size",
        type=int,
        help="Images of one forward pass.  [default: 64; a search finds the fastest by a short measurement]",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
        default="auto",
        show_default=True,
        help="Of matrix products. auto: float32, but a search takes half precision where that is faster here and "
        "leaves the dense model's metric within its interval. Confirming is always done in float32.",
    ),
    click.option("--threads", type=int, default=1, show_default=True, help="CPU threads of a worker."),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
)


def measuring_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Take the measuring's options out of ``options`` and give them as settings."""
    device = options.pop("device")
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    batch_size = options.pop("batch_size")
    return {
        "device": device,
        "batch_size": "auto" if batch_size is None else batch_size,
        "precision": options.pop("precision"),
        "threads": options.pop("threads"),
    }


execution_options = _together(
    click.option("--workers", type=int, help="Workers.  [default: one for each core, or each GPU]"),
    click.option(
        "--executor",
        type=click.Choice(["ray", "tune", "local"]),
        default="ray",
        show_default=True,
        help="Ray workers, trials of Ray Tune on them, or this process alone.",
    ),
    click.option(
        "--ray-address", help="Of a running Ray cluster to join; auto: this machine's.  [default: Ray is started here]"
    ),
    click.option("--cpus-per-worker", type=float, help="CPUs of Ray that a worker takes.  [default: its threads]"),
    click.option(
        "--gpus-per-worker", type=float, default=1.0, show_default=True, help="GPUs that a worker takes, on cuda."
    ),
    click.option(
        "--retries",
        type=int,
        default=2,
        show_default=True,
        help="How often a candidate is measured again whose worker died under it.",
    ),
    click.option(
        "--cache-gb",
        type=float,
        help="Memory of each worker for the dense model's tokens, from which layouts start.  [default: a quarter of "
        "the machine's, shared among the workers, or of each GPU's]",
    ),
)


def execution_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Take the execution's options out of ``options`` and give them as settings."""
    names = {"executor": "executor", "workers": "n_workers", "cache_gb": "cache_gb", "ray_address": "ray_address"}
    names |= {"cpus_per_worker": "cpus_per_worker", "gpus_per_worker": "gpus_per_worker", "retries": "n_retries"}
    return {name: options.pop(option) for option, name in names.items()}


space_options = _together(
    click.option(
        "--method",
        "methods",
        multiple=True,
        metavar="NAME[,NAME]",
        help=f"What to search: one method, several (A,B, or repeat it), or all. There are {', '.join(METHODS)}; "
        f"prunefront methods says more.  [default: {DEFAULT_METHOD}; dtop of segmenters]",
    ),
    click.option(
        "--space",
        default="paper",
        show_default=True,
        help="Preset of each method's space (paper, full), or a YAML or JSON file of settings, with a section for each "
        "of several methods.",
    ),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        help="Fix a setting of the space (s=10, after=[3,6,9]) or give its range (keep_rate=0.5:1) or its "
        "choices (feature=key,value). With several methods NAME is METHOD.NAME, or a setting that all have. May be "
        "repeated.",
    ),
)


def space_settings(options: dict[str, Any], default_method: str = DEFAULT_METHOD) -> dict[str, Any]:
    """Take the space's options out of ``options`` and give them as settings; without a method that of the default.

    Raises:
        InvalidInput: a setting is not NAME=VALUE, or the space's file cannot be read.
    """
    methods, space = options.pop("methods"), options.pop("space")
    settings: dict[str, Any] = {}
    preset, default = space, default_method
    if Path(space).suffix in (".yaml", ".yml", ".json"):
        document = read_document(space)
        preset, default = document.pop("preset", "paper"), document.pop("method", default)
        settings = {
            name: parse_setting(value) if isinstance(value, str) else value
            for name, value in flat_settings(document).items()
        }
    for text in options.pop("settings"):
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput(f"--set takes NAME=VALUE, got {text!r}")
        settings[name.strip()] = parse_setting(value.strip())
    names = method_names(methods or default)
    return {"method": names[0] if len(names) == 1 else names, "preset": preset, "space": settings}


def _triple(name: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 3:
        raise InvalidInput(f"--{name} takes three numbers such as 0.5,0.5,0.5, got {text!r}")
    return values


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
