"""Layouts in numbers: how many tokens each block computes, and settings where they act. Likes are near likes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spaces.architecture import Architecture
from spaces.cost import StageCost
from spaces.domains import Choice, FloatRange, IntRange, ParameterValue

__all__ = ["by_block", "scaled", "token_shares"]

Domain = IntRange | FloatRange | Choice


def token_shares(stages: Sequence[StageCost], architecture: Architecture) -> tuple[float, ...]:
    """Give the share of the patch tokens left behind each block, then the logarithms of these shares.

    The logarithm tells few tokens from fewer. A block that keeps none counts as one with half a token.
    """
    left = {stage.block: stage.n_out for stage in stages}
    n_left = n_patch = architecture.n_patch
    shares: list[float] = []
    for block in range(1, architecture.depth + 1):
        n_left = left.get(block, n_left)
        shares.append((n_left or 0.5) / n_patch)
    return (*shares, *map(math.log, shares))


def scaled(domain: Domain, value: ParameterValue) -> tuple[float, ...]:
    """Put a value on a scale from 0 to 1; of a choice, give one number for each value that it may have.

    >>> scaled(IntRange(low=0, high=30), 12), scaled(Choice(values=("key", "query")), "query")
    ((0.4,), (0.0, 1.0))
    """
    if isinstance(domain, Choice):
        return tuple(float(each == value) for each in domain.values)
    low, number, high = domain.low, float(value), domain.high
    if domain.log:
        low, number, high = math.log(low), math.log(number), math.log(high)
    return ((number - low) / (high - low),)


def by_block(
    domain: Domain, places: Sequence[int], values: Sequence[ParameterValue], architecture: Architecture
) -> tuple[float, ...]:
    """Write a setting of pruning layers under the blocks where these lie, and zeros under the others.

    Slots say less than blocks: the same layer is the first of one layout and the second of another.

    Args:
        domain: what the setting may be.
        places: the block of each pruning layer, from 1.
        values: of each pruning layer.
        architecture: of the model.
    """
    of_layers = [scaled(domain, value) for value in values]
    width = len(of_layers[0])
    numbers = [0.0] * (width * architecture.depth)
    for place, of_layer in zip(places, of_layers, strict=True):
        numbers[width * (place - 1) : width * place] = of_layer
    return tuple(numbers)
