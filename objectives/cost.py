"""Count what a model really computes, by watching its operations: the second counter beside the closed form."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from spaces.cost import BATCH_NORM_COST, LAYER_NORM_COST, UPSAMPLING_COST

__all__ = ["count_macs"]


def count_macs(model: nn.Module, images: Tensor, run: Callable[[Tensor], Any] | None = None) -> int:
    """Count the multiply-adds of one forward pass, for one image.

    Matrix products, convolutions and fused attention count one for each multiply-add, a LayerNorm five for each
    element, a batch norm two and a bilinear upsampling four, as fvcore counts them; unlike fvcore, fused attention
    is seen.

    Args:
        model: in evaluation mode.
        images: (batch, channel, height, width), normalised.
        run: what is done with the images; by default the model's forward.

    Returns:
        Multiply-adds, divided by the batch.
    """
    elementwise = {
        torch.ops.aten.native_layer_norm: _layer_norm_flops,
        torch.ops.aten.batch_norm: _batch_norm_flops,
        torch.ops.aten.upsample_bilinear2d: _upsampling_flops,
    }
    counter = FlopCounterMode(display=False, custom_mapping=elementwise)
    with _without_gradients(model), torch.inference_mode(), counter:
        (run or model)(images)
    return counter.get_total_flops() // (2 * images.shape[0])


@contextmanager
def _without_gradients(model: nn.Module) -> Iterator[None]:
    """Let no parameter ask for a gradient: the counter would hook itself to one that a module is called with (TNT)."""
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


def _layer_norm_flops(shape: Any, *_: Any, **__: Any) -> int:
    return _flops(LAYER_NORM_COST, shape)


def _batch_norm_flops(shape: Any, *_: Any, **__: Any) -> int:
    return _flops(BATCH_NORM_COST, shape)


def _upsampling_flops(*_: Any, out_shape: Any, **__: Any) -> int:
    return _flops(UPSAMPLING_COST, out_shape)


def _flops(macs_per_element: int, shape: Any) -> int:
    n_elements: int = math.prod(shape)
    return 2 * macs_per_element * n_elements  # the counter takes two operations for a multiply-add
