"""Published segmentation checkpoints in our names, every key accounted for.

Known are the layout of mmsegmentation (``backbone.layers.0.ln1``, ``decode_head``, ``auxiliary_head.0``), with its SETR
heads or the heads of DToP, and the same with the encoder in timm's names (``backbone.blocks.0.norm1``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

__all__ = ["checkpoint_filter_fn"]

_ENCODER = (
    (r"^backbone\.layers\.(\d+)\.", r"encoder.blocks.\1."),
    (r"^backbone\.ln1\.", "encoder.norm."),
    (r"^backbone\.", "encoder."),
    (r"^encoder\.patch_embed\.projection\.", "encoder.patch_embed.proj."),
    (r"^(encoder\.blocks\.\d+)\.ln([12])\.", r"\1.norm\2."),
    (r"^(encoder\.blocks\.\d+)\.attn\.attn\.in_proj_", r"\1.attn.qkv."),
    (r"^(encoder\.blocks\.\d+)\.attn\.attn\.out_proj\.", r"\1.attn.proj."),
    (r"^(encoder\.blocks\.\d+)\.ffn\.layers\.0\.0\.", r"\1.mlp.fc1."),
    (r"^(encoder\.blocks\.\d+)\.ffn\.layers\.1\.", r"\1.mlp.fc2."),
)
_SETR_HEAD = (
    (r"\.up_convs\.0\.0\.conv\.", ".reduce."),
    (r"\.up_convs\.0\.0\.bn\.", ".batch_norm."),
    (r"\.conv_seg\.", ".classify."),
)
_ATM_HEAD = (
    (r"\.input_proj\.", ".project."),
    (r"\.proj_norm\.", ".norm."),
    (r"^(heads\.\d+)\.q\.weight$", r"\1.queries"),
    (r"\.class_embed\.", ".shows_class."),
    (r"\.decoder\.layers\.(\d+)\.", r".layers.\1."),
    (r"\.self_attn\.out_proj\.", ".self_attention.project."),
    (r"\.self_attn\.", ".self_attention."),
    (r"\.multihead_attn\.q\.", ".cross_attention.query."),
    (r"\.multihead_attn\.k\.", ".cross_attention.key."),
    (r"\.multihead_attn\.v\.", ".cross_attention.value."),
    (r"\.multihead_attn\.proj\.", ".cross_attention.project."),
    (r"\.linear([12])\.", r".fc\1."),
)
_OF_TRAINING = re.compile(r"^(decode_head|auxiliary_head(\.\d+)?)\.loss_decode\.")
_PACKED = re.compile(r"^(heads\..*\.self_attention\.)in_proj_(weight|bias)$")


def checkpoint_filter_fn(weights: Mapping[str, Tensor], model: Any) -> dict[str, Tensor]:
    """Bring a checkpoint into a segmenter's names; what is ours already stays as it is.

    What the model has no use for is left out where the layout always has it: the buffers of the training loss, and, for
    a model without a class token, that token and its position. Any other key keeps its name and is refused by whoever
    loads the weights.
    """
    if not any(key.startswith(("backbone.", "decode_head.")) for key in weights):
        return dict(weights)
    ours: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        if _OF_TRAINING.match(key):
            continue
        name = _renamed(_head_named(key, model.after), _SETR_HEAD if model.head_kind == "fcn" else _ATM_HEAD)
        if packed := _PACKED.match(name):
            thirds = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
            ours |= {f"{packed[1]}{part}.{packed[2]}": third for part, third in thirds}
        elif name.endswith((".reduce.weight", ".classify.weight")):
            ours[name] = tensor.flatten(1) if tensor.shape[2:] == (1, 1) else tensor
        else:
            ours[name] = tensor
    return ours if model.encoder.cls_token is not None else _without_class_token(ours, model.encoder.pos_embed)


def _head_named(key: str, after: Sequence[int]) -> str:
    """Name the encoder's keys, and say of which depth a head is: the auxiliary ones are numbered from the first."""
    name = _renamed(key, _ENCODER)
    name = re.sub(r"^decode_head\.", f"heads.{after[-1]}.", name)
    found = re.match(r"^auxiliary_head\.(?:(\d+)\.)?", name)
    if found is None:
        return name
    number = int(found[1] or 0)
    return f"heads.{after[number]}.{name[found.end() :]}" if number < len(after) - 1 else name


def _without_class_token(weights: dict[str, Tensor], positions: Tensor) -> dict[str, Tensor]:
    weights.pop("encoder.cls_token", None)
    theirs = weights.get("encoder.pos_embed")
    if theirs is not None and theirs.shape[1] == positions.shape[1] + 1:
        weights["encoder.pos_embed"] = torch.clone(theirs[:, 1:])
    return weights


def _renamed(key: str, names: Sequence[tuple[str, str]]) -> str:
    def substituted(name: str, rule: tuple[str, str]) -> str:
        theirs, ours = rule
        return re.sub(theirs, ours, name)

    return reduce(substituted, names, key)
