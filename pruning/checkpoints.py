"""Read weights from files of other projects, and put them into a model with every key accounted for."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from spaces import InvalidInput

__all__ = ["Checkpoint", "load_weights", "read_checkpoint"]

_N_LISTED = 4
_POSITIONS = {"pos_embed": "pos_embed", "patch_pos": "patch_pos", "outer_pos": "patch_pos"}
_KERNEL = "patch_embed.proj.weight"
# torchvision's VisionTransformer, whose layout its SWAG weights have; linear_1 and linear_2 are from its first version.
_OF_TORCHVISION = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.(?=weight$|bias$)", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"^(blocks\.\d+)\.ln_([12])\.", r"\1.norm\2."),
    (r"^(blocks\.\d+)\.self_attention\.in_proj_", r"\1.attn.qkv."),
    (r"^(blocks\.\d+)\.self_attention\.out_proj\.", r"\1.attn.proj."),
    (r"^(blocks\.\d+)\.mlp\.(?:0|linear_1)\.", r"\1.mlp.fc1."),
    (r"^(blocks\.\d+)\.mlp\.(?:3|linear_2)\.", r"\1.mlp.fc2."),
    (r"^encoder\.ln\.", "norm."),
    (r"^heads\.head\.", "head."),
)
_OF_DEIT_III = ((r"^(blocks\.\d+)\.gamma_([12])$", r"\1.ls\2.gamma"),)


@dataclass(frozen=True)
class Checkpoint:
    """A file's weights, and what their layout says of the model that they are for.

    Attributes:
        path: of the file.
        weights: in timm's names, as far as the layout is known.
        arguments: of the model's constructor.
        preprocessing: values of ``Preprocessing``.
    """

    path: Path
    weights: Mapping[str, Tensor]
    arguments: Mapping[str, Any]
    preprocessing: Mapping[str, Any]


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a .safetensors or .pth file in timm's layout, or in one that is brought into it.

    Known are the layouts of torchvision's ViT (its SWAG weights among them), whose weights are all for ImageNet's mean
    and deviation; of DeiT-III; and of MAE fine-tuned, whose norm behind the pooling says that the pooling is a mean.

    Raises:
        InvalidInput: no readable file, or one that holds other pickled objects than tensors and, as DeiT's old files
            do, an ``argparse.Namespace``.
    """
    path = Path(path)
    weights = _read(path)
    arguments: dict[str, Any] = {}
    preprocessing: dict[str, Any] = {}
    if "class_token" in weights and "encoder.pos_embedding" in weights:
        weights = _renamed(weights, _OF_TORCHVISION)
        preprocessing = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    weights = _renamed(weights, _OF_DEIT_III)
    if "fc_norm.weight" in weights and "norm.weight" not in weights:
        arguments["global_pool"] = "avg"
    return Checkpoint(path, weights, arguments, preprocessing)


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's weights into a model.

    Raises:
        InvalidInput: keys are missing, left over or of another shape, with their names.
    """
    weights, expected = dict(checkpoint.weights), model.state_dict()
    _refuse_what_timm_would_bend(checkpoint.path, weights, expected)
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
        raise InvalidInput(f"{checkpoint.path} does not fit {type(model).__name__}: {'; '.join(problems)}{remedy}")
    model.load_state_dict(weights)


def _refuse_what_timm_would_bend(path: Path, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse what timm's filters change or drop without a word: position embeddings, patch kernels, a hidden head."""
    for key, ours in _POSITIONS.items():
        if key in weights and ours in expected and _shape(weights[key]) != _shape(expected[ours]):
            raise InvalidInput(
                f"{path} is for another image size: its {key} is {_shape(weights[key])}, the model's "
                f"{_shape(expected[ours])}: set --image-size to the checkpoint's"
            )
    theirs, ours_too = weights.get(_KERNEL), expected.get(_KERNEL)
    if theirs is not None and theirs.ndim == 4 and ours_too is not None and theirs.shape[2:] != ours_too.shape[2:]:
        raise InvalidInput(
            f"{path} is for another patch size: its {_KERNEL} is {_shape(theirs)}, the model's {_shape(ours_too)}"
        )
    hidden = [key for key in weights if "pre_logits" in key]
    if hidden:
        raise InvalidInput(f"{path} has a hidden layer before its classifier ({hidden[0]}), which timm's ViT has not")


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InvalidInput(f"there is no checkpoint file {path}")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            weights = timm.models.load_state_dict(str(path), weights_only=True)
    except Exception as error:  # a damaged file raises whatever its reader stumbles over
        if "Unsupported globals" in str(error):
            raise InvalidInput(
                f"{path} holds pickled objects other than tensors, which could run code when loaded: save its "
                f"state dict as .safetensors where you trust it"
            ) from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidInput(f"{path} is no readable .safetensors or .pth file: {reason}") from None
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise InvalidInput(f"{path} holds no state dict of tensors")
    return weights


def _renamed(weights: Mapping[str, Tensor], names: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    return {reduce(_substituted, names, key): tensor for key, tensor in weights.items()}


def _substituted(key: str, name: tuple[str, str]) -> str:
    theirs, ours = name
    return re.sub(theirs, ours, key)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
