"""LV-ViT: timm's blocks behind a convolutional stem, with a second classifier over all patch tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from timm.models.vision_transformer import Block
from torch import nn

from pruning.backbones import vit
from pruning.backbones.stems import describe_convolution
from pruning.lvvit import ConvolutionalStem, LVViT
from spaces import Architecture, Convolution

__all__ = ["FAMILY"]


def _is_mine(model: nn.Module) -> bool:
    """Say whether the model belongs to this family, whatever its details."""
    return type(model) is LVViT


def _describe(model: Any, name: str) -> Architecture:
    stem = _convolutions(model.patch_embed)
    return vit.describe(model, name).model_copy(
        update={
            "in_channels": stem[0].in_channels,
            "stem": stem,
            "classifies_patches": isinstance(model.aux_head, nn.Linear),
        }
    )


def _problems(model: Any) -> Iterator[str]:
    blocks = list(model.blocks)
    if not all(type(block) in (Block, vit.PrunedBlock) for block in blocks):
        yield "its blocks are not timm's Block"
        return
    if model.global_pool != "token":
        yield f"it pools with {model.global_pool!r}"
    yield from vit.block_problems(blocks)


def _convolutions(stem: ConvolutionalStem) -> tuple[Convolution, ...]:
    """Describe the stem's four convolutions; all but the last are batch-normalised."""
    convolutions: list[Convolution] = []
    for layer in (stem.conv1, stem.conv2, stem.conv3, stem.proj):
        size = convolutions[-1].output_size if convolutions else stem.img_size
        convolutions.append(describe_convolution(layer, size, normalised=layer is not stem.proj))
    return tuple(convolutions)


FAMILY = replace(
    vit.FAMILY,
    name="LV-ViT",
    description="an LV-ViT",
    modules=("lvvit",),
    is_mine=_is_mine,
    problems=_problems,
    describe=_describe,
)
