"""Count what a model really computes, by watching its operations: the second counter beside the closed form."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from spaces.cost import LAYER_NORM_COST

__all__ = ["count_macs"]


def count_macs(model: nn.Module, images: Tensor) -> int:
    """Count the multiply-adds of one forward pass, for one image.

    Matrix products, convolutions and fused attention count one for each multiply-add, a LayerNorm five for each
    element, as fvcore counts them; unlike fvcore, fused attention is seen.

    Args:
        model: in evaluation mode.
        images: (batch, channel, height, width), normalised.

    Returns:
        Multiply-adds, divided by the batch.
    """
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.native_layer_norm: _layer_norm_flops})
    with torch.inference_mode(), counter:
        model(images)
    return counter.get_total_flops() // (2 * images.shape[0])


def _layer_norm_flops(shape: Any, *_: Any, **__: Any) -> int:
    n_elements: int = math.prod(shape)
    return 2 * LAYER_NORM_COST * n_elements  # the counter takes two operations for a multiply-add
