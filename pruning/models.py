"""Load a model and its weights by the names that people type."""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from pruning.apply import read_architecture
from pruning.backbones.families import FAMILIES, family_of
from pruning.checkpoints import load_weights, read_checkpoint
from pruning.preprocessing import Preprocessing
from pruning.segmentation import published
from pruning.shapes_vit import BUNDLED_MODELS as BUNDLED_CLASSIFIERS
from spaces import Architecture, InvalidInput

__all__ = ["LoadedModel", "load_model", "model_names", "read_model", "weights_digest"]

_N_LISTED = 4
BUNDLED_MODELS = (*BUNDLED_CLASSIFIERS, *published.BUNDLED_MODELS)


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be measured.

    Attributes:
        name: as it was asked for.
        model: in evaluation mode, on the CPU.
        architecture: its dimensions.
        preprocessing: what its images go through.
        weights_digest: names the weights: 16 hexadecimal digits over all tensors of the state dict.
    """

    name: str
    model: nn.Module
    architecture: Architecture
    preprocessing: Preprocessing
    weights_digest: str


def load_model(
    name: str,
    *,
    checkpoint: str | Path | None = None,
    pretrained: bool = False,
    random_weights: bool = False,
    arguments: Mapping[str, Any] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
) -> LoadedModel:
    """Load a model that can be pruned.

    Args:
        name: a timm name, a bundled name, ``local-dir:/path`` or ``hf-hub:org/name``. Only the last, and
            ``pretrained``, reach the network.
        checkpoint: a .safetensors or .pth file with the weights; see ``pruning.checkpoints``. What its layout says of
            the model's constructor and preprocessing holds where the caller says nothing else.
        pretrained: take timm's published weights from the hub.
        random_weights: accept a model without weights, to count its cost, say.
        arguments: of the model's constructor, such as ``img_size`` or ``num_classes``.
        preprocessing: values over those the model declares.

    Raises:
        InvalidInput: unknown name, no weights, or a checkpoint that does not fit, with what is wrong with it.
        UnsupportedModel: the architecture cannot be pruned.
    """
    source, _, place = name.partition(":")
    has_own_weights = name in BUNDLED_MODELS or source in ("hf-hub", "hf_hub", "local-dir")
    if source == "local-dir":
        _check_local_folder(place)
    elif source not in ("hf-hub", "hf_hub"):
        _check_known(name)
    if not (has_own_weights or checkpoint or pretrained or random_weights):
        raise InvalidInput(
            f"{name} needs weights: give a checkpoint file (--checkpoint FILE), or let timm download its own "
            f"(--pretrained)"
        )
    with_weights = (has_own_weights and not checkpoint) or pretrained
    if pretrained and not has_own_weights:
        read_architecture(_created(name, arguments or {}), name)  # refused before anything is downloaded
    read = read_checkpoint(checkpoint) if checkpoint else None
    model = _created(name, {**(read.arguments if read else {}), **(arguments or {})}, pretrained=with_weights)
    if with_weights:
        _refuse_altered_weights(name, model.pretrained_cfg, arguments or {})
    architecture = read_architecture(model, name)
    if read:
        load_weights(model, read)
        preprocessing = {**read.preprocessing, **(preprocessing or {})}
    return LoadedModel(
        name=name,
        model=model.requires_grad_(False),
        architecture=architecture,
        preprocessing=Preprocessing.of(model, architecture.image_size, preprocessing),
        weights_digest=weights_digest(model),
    )


def model_names(pattern: str) -> list[str]:
    """List timm's models whose names match a pattern such as ``deit*``, and the bundled ones.

    Raises:
        InvalidInput: there is none, with the nearest names.
    """
    names: list[str] = fnmatch.filter(timm.list_models(), pattern)
    if not names:
        raise InvalidInput(f"no model is named like {pattern!r}; the nearest names are {', '.join(_nearest(pattern))}")
    return names


def read_model(name: str) -> tuple[str, Architecture]:
    """Read what a timm model is, without weights and without the memory that they would take.

    >>> family, architecture = read_model("tnt_s_patch16_224")
    >>> family, architecture.depth
    ('TNT', 12)

    Returns:
        Its family, and its dimensions.

    Raises:
        InvalidInput: it cannot be made.
        UnsupportedModel: it cannot be pruned.
    """
    with torch.device("meta"):
        model = _created(name, {})
    return family_of(model, name).name, read_architecture(model, name)


def _created(name: str, arguments: Mapping[str, Any], *, pretrained: bool = False) -> Any:
    try:
        return timm.create_model(name, pretrained=pretrained, **arguments).eval()
    except (RuntimeError, ValueError, TypeError, AssertionError, OSError) as error:
        raise InvalidInput(f"cannot create {name}: {_one_line(error)}") from None
    except KeyError as error:
        raise InvalidInput(f"cannot create {name}: its config.json is not timm's, it lacks {error}") from None


def weights_digest(model: nn.Module) -> str:
    """Name a model's weights: the same tensors under the same names give the same 16 digits."""
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _refuse_altered_weights(name: str, declared: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Refuse what timm allows: a fresh random classifier, or resampled positions, in a model's own weights."""
    size = (declared.get("input_size") or (None,))[-1]
    for argument, own in (("num_classes", declared.get("num_classes")), ("img_size", size)):
        asked = arguments.get(argument)
        if asked is not None and own is not None and asked != own:
            option = {"num_classes": "--num-classes", "img_size": "--image-size"}[argument]
            raise InvalidInput(
                f"the weights of {name} are for {argument} {own}, and {asked} is asked for: leave {option} out, or "
                f"give a checkpoint that fits"
            )


def _check_local_folder(place: str) -> None:
    if not (Path(place) / "config.json").is_file():
        raise InvalidInput(
            f"local-dir:{place} must be a folder with config.json and model.safetensors, as timm's save_for_hf writes"
        )


def _check_known(name: str) -> None:
    base, _, tag = name.partition(".")
    known = timm.list_models()
    if base not in known:
        raise InvalidInput(f"there is no model {name!r}; the nearest names are {', '.join(_nearest(base))}")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{base}.*")]
    if tag and tag not in tags:
        raise InvalidInput(f"{base} has no weights tagged {tag!r}; there are {', '.join(tags) or 'none'}")


def _nearest(name: str) -> list[str]:
    """Give the most similar names of models that can be pruned; a part of a name is as good as the whole."""
    modules = [module for family in FAMILIES for module in family.modules]
    names = {name for module in modules for name in timm.list_models(module=module)}

    def similarity(candidate: str) -> float:
        return max(difflib.SequenceMatcher(None, name, part).ratio() for part in (candidate, candidate[: len(name)]))

    return sorted(names, key=lambda candidate: (-similarity(candidate), len(candidate), candidate))[:_N_LISTED]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
