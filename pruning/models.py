"""Load a model and its weights by the names that people type."""

from __future__ import annotations

import difflib
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from pruning.apply import read_architecture
from pruning.preprocessing import Preprocessing
from pruning.shapes_vit import BUNDLED_MODELS
from spaces import Architecture, InvalidInput

__all__ = ["LoadedModel", "load_model", "weights_digest"]

_N_LISTED = 4


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
        checkpoint: a .safetensors or .pth file with the weights. Files that hold other pickled objects are refused.
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
    model = _created(name, arguments or {}, pretrained=with_weights)
    if with_weights:
        _refuse_altered_weights(name, model.pretrained_cfg, arguments or {})
    architecture = read_architecture(model, name)
    if checkpoint:
        _load_checkpoint(model, Path(checkpoint))
    return LoadedModel(
        name=name,
        model=model.requires_grad_(False),
        architecture=architecture,
        preprocessing=Preprocessing.of(model, architecture.image_size, preprocessing),
        weights_digest=weights_digest(model),
    )


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
    names = {*BUNDLED_MODELS, *timm.list_models(module="vision_transformer"), *timm.list_models(module="deit")}

    def similarity(candidate: str) -> float:
        return max(difflib.SequenceMatcher(None, name, part).ratio() for part in (candidate, candidate[: len(name)]))

    return sorted(names, key=lambda candidate: (-similarity(candidate), len(candidate), candidate))[:_N_LISTED]


def _load_checkpoint(model: nn.Module, path: Path) -> None:
    weights = _read_weights(path)
    expected = model.state_dict()
    # timm's filter resamples position embeddings to another image size without a word.
    if _shape(weights.get("pos_embed")) not in (None, _shape(expected.get("pos_embed"))):
        raise InvalidInput(
            f"{path} is for another image size: its pos_embed is {_shape(weights['pos_embed'])}, the model's "
            f"{_shape(expected.get('pos_embed'))}: set --image-size to the checkpoint's"
        )
    filters = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if filters is not None:
        weights = filters(weights, model)
    missing = [key for key in expected if key not in weights]
    left_over = [key for key in weights if key not in expected]
    misshapen = [
        f"{key} ({_shape(weights[key])}, not {_shape(tensor)})"
        for key, tensor in expected.items()
        if key in weights and _shape(weights[key]) != _shape(tensor)
    ]
    problems = [
        f"{len(keys)} {what}: {', '.join(keys[:_N_LISTED])}{', ...' if len(keys) > _N_LISTED else ''}"
        for what, keys in (("missing", missing), ("misshapen", misshapen), ("left over", left_over))
        if keys
    ]
    if problems:
        remedy = "; set --num-classes to the checkpoint's" if any(key.startswith("head") for key in misshapen) else ""
        raise InvalidInput(f"{path} does not fit {type(model).__name__}: {'; '.join(problems)}{remedy}")
    model.load_state_dict(weights)


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InvalidInput(f"there is no checkpoint file {path}")
    try:
        weights = timm.models.load_state_dict(str(path), weights_only=True)
    except Exception as error:  # a damaged file raises whatever its reader stumbles over
        if "Unsupported globals" in str(error):
            raise InvalidInput(
                f"{path} holds pickled objects other than tensors, which could run code when loaded: save its "
                f"state dict as .safetensors where you trust it"
            ) from None
        raise InvalidInput(f"{path} is no readable .safetensors or .pth file: {_one_line(error)}") from None
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise InvalidInput(f"{path} holds no state dict of tensors")
    return weights


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
