"""Stems of several convolutions, as the closed form counts them."""

from __future__ import annotations

from typing import Any

from torch import nn

from spaces import Convolution

__all__ = ["describe_convolution"]


def describe_convolution(
    layer: nn.Conv2d,
    input_size: tuple[int, int],
    *,
    repeats: tuple[int, int] = (1, 1),
    normalised: bool = False,
) -> Convolution:
    """Read one convolution.

    Args:
        layer: the module.
        input_size: height and width of what it reads.
        repeats: how often it runs, down and across, on an input of that size.
        normalised: whether a batch norm follows.

    >>> describe_convolution(nn.Conv2d(3, 8, kernel_size=7, stride=2, padding=3), (224, 224)).output_size
    (112, 112)
    """
    height, width = (
        (size + 2 * padding - kernel) // stride + 1
        for size, padding, kernel, stride in zip(
            input_size, _pair(layer.padding), _pair(layer.kernel_size), _pair(layer.stride), strict=True
        )
    )
    return Convolution(
        in_channels=layer.in_channels,
        out_channels=layer.out_channels,
        kernel_size=_pair(layer.kernel_size),
        output_size=(repeats[0] * height, repeats[1] * width),
        normalised=normalised,
    )


def _pair(numbers: Any) -> tuple[int, int]:
    down, across = numbers
    return down, across
