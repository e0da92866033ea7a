"""A bundle: a folder with a model, the layout that prunes it, and what was measured of both.

``config.json`` and ``model.safetensors`` are what timm's ``save_for_hf`` writes, so that timm loads the dense model
through ``local-dir:``; one more key of the config, which timm passes over, holds what pruning needs.
``pruning.json`` is the layout with its numbers, ``README.md`` the model card. docs/bundles.md describes each file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from PIL import Image
from timm.models._hub import save_config_for_hf
from torch import Tensor, nn

from pruning.apply import prune
from pruning.card import model_card
from pruning.exporting import EXPORT_FILES
from pruning.models import LoadedModel, load_model
from pruning.shapes_vit import BUNDLED_MODELS, IN_TIMM
from spaces import InvalidInput, PrunefrontError, PruningConfig, layout_document, parse_layout, read_layout
from spaces.methods import read_document

__all__ = [
    "BUNDLE_FORMAT",
    "BUNDLE_VERSION",
    "CARD",
    "CONFIG",
    "FILES",
    "LAYOUT",
    "WEIGHTS",
    "Bundle",
    "LoadedBundle",
    "is_bundle",
    "load",
    "open_bundle",
    "write_bundle",
]

BUNDLE_FORMAT = "prunefront-bundle"
BUNDLE_VERSION = 1
CONFIG, WEIGHTS, LAYOUT, CARD = "config.json", "model.safetensors", "pruning.json", "README.md"
FILES = (CONFIG, WEIGHTS, LAYOUT, CARD, *EXPORT_FILES.values(), f"{EXPORT_FILES['onnx']}.data")
_BLOCK = "token_pruning"


class LoadedBundle(NamedTuple):
    """What ``load`` gives.

    Attributes:
        model: pruned, in evaluation mode, on the CPU.
        transform: turns a PIL image into the (channel, height, width) that the model takes; for a segmenter the whole
            image, whatever its ratio of sides.
    """

    model: nn.Module
    transform: Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and checked.

    Attributes:
        folder: where it lies.
        dense: its model with nothing pruned, and its preprocessing.
        layout: what prunes it.
        document: ``pruning.json``, the layout with its numbers; the bare layout where that file is gone.
    """

    folder: Path
    dense: LoadedModel
    layout: PruningConfig
    document: Mapping[str, Any]


def load(folder: str | Path, *, checkpoint: str | Path | None = None) -> LoadedBundle:
    """Load a bundle's model pruned, with its preprocessing.

    ::

        import pruning
        model, transform = pruning.load("best/")
        logits = model(transform(image).unsqueeze(0))

    Args:
        folder: the bundle.
        checkpoint: the weights of a bundle that was exported without them.

    Raises:
        InvalidInput: no bundle, one of another version, or weights other than those that the layout was found for.
        UnsupportedModel: the model cannot be pruned.
    """
    bundle = open_bundle(folder, checkpoint=checkpoint)
    return LoadedBundle(prune(bundle.dense.model, bundle.layout), bundle.dense.preprocessing.transform())


def open_bundle(folder: str | Path, *, checkpoint: str | Path | None = None) -> Bundle:
    """Read and check a bundle, and load its model with nothing pruned; see ``load``."""
    folder = Path(folder)
    block = _read_block(folder)
    layout = parse_layout(block["layout"])
    if checkpoint is None and not (folder / WEIGHTS).is_file():
        raise InvalidInput(
            f"{folder} holds no weights: give checkpoint=FILE with those whose digest is {block['weights_digest']}"
        )
    dense = load_model(f"local-dir:{folder}", checkpoint=checkpoint)
    if dense.weights_digest != block["weights_digest"]:
        raise InvalidInput(
            f"the weights in {checkpoint or folder / WEIGHTS} have the digest {dense.weights_digest}, but the layout "
            f"was measured with {block['weights_digest']}: restore them, or prune others by pruning.prune(model, "
            f"{str(folder / LAYOUT)!r})"
        )
    return Bundle(folder, dense, layout, _document_of(folder, layout))


def is_bundle(folder: str | Path) -> bool:
    """Say whether a folder holds a bundle, of whatever version."""
    try:
        return _BLOCK in read_document(Path(folder) / CONFIG)
    except InvalidInput:
        return False


def write_bundle(folder: Path, loaded: LoadedModel, document: Mapping[str, Any], *, with_weights: bool = True) -> None:
    """Write a bundle's files into a folder.

    Args:
        folder: exists.
        loaded: the dense model.
        document: the layout with its numbers, see ``spaces.layout_document``.
        with_weights: whether the weights go with it; without, they are named by their digest.

    Raises:
        InvalidInput: the document is no layout, or its layout does not fit the model.
        UnsupportedModel: the layout's method is not for such a model.
        PrunefrontError: a file cannot be written.
    """
    layout = parse_layout(document)
    layout.cost(loaded.architecture)  # refuses what does not fit
    block = {
        "format": BUNDLE_FORMAT,
        "version": BUNDLE_VERSION,
        "weights_digest": loaded.weights_digest,
        "layout": layout.model_dump(mode="json"),
    }
    try:
        _write_config(folder / CONFIG, loaded, block)
        if with_weights:
            weights = {name: tensor.contiguous() for name, tensor in loaded.model.state_dict().items()}
            safetensors.torch.save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / LAYOUT).write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (folder / CARD).write_text(model_card(document, with_weights=with_weights), encoding="utf-8")
    except OSError as error:
        raise PrunefrontError(f"cannot write {folder}: {error.strerror or error}") from None


def _write_config(path: Path, loaded: LoadedModel, block: Mapping[str, Any]) -> None:
    """Write timm's config with our block in it."""
    arguments: dict[str, Any] = {}
    architecture = str(loaded.model.pretrained_cfg["architecture"])  # type: ignore[index]  # timm is untyped
    if architecture in BUNDLED_MODELS:
        architecture, arguments = IN_TIMM  # which timm makes where prunefront is not installed
    save_config_for_hf(
        loaded.model,
        str(path),
        model_config={"pretrained_cfg": {"architecture": architecture}, _BLOCK: dict(block)},
        model_args=arguments,
        data_config=loaded.preprocessing.model_dump(),
    )


def _read_block(folder: Path) -> Mapping[str, Any]:
    """Read our part of ``config.json``, and refuse what this version does not understand."""
    if not (folder / CONFIG).is_file():
        raise InvalidInput(f"{folder} must be a folder with {CONFIG} in it, as prunefront export writes it")
    block = read_document(folder / CONFIG).get(_BLOCK)
    if not isinstance(block, Mapping):
        raise InvalidInput(f"{folder / CONFIG} has no {_BLOCK!r}: it is a model that timm loads, but no bundle")
    found = block.get("format"), block.get("version")
    if found != (BUNDLE_FORMAT, BUNDLE_VERSION):
        raise InvalidInput(
            f"a bundle says format {BUNDLE_FORMAT!r}, version {BUNDLE_VERSION}, but {folder} says {found[0]!r}, "
            f"version {found[1]!r}: load it with the prunefront that wrote it"
        )
    if missing := [name for name in ("layout", "weights_digest") if name not in block]:
        raise InvalidInput(f"{_BLOCK} in {folder / CONFIG} lacks {' and '.join(missing)}")
    return block


def _document_of(folder: Path, layout: PruningConfig) -> Mapping[str, Any]:
    """Read ``pruning.json``, which a person may have changed without knowing that the config holds the layout too."""
    path = folder / LAYOUT
    if not path.exists():
        return layout_document(layout)
    if read_layout(path) != layout:
        raise InvalidInput(
            f"{LAYOUT} and {CONFIG} in {folder} hold different layouts: export the bundle again, or try a layout of "
            f"your own by pruning.prune(model, {str(path)!r})"
        )
    return read_document(path)
