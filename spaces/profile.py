"""Layouts in numbers: how many tokens each block leaves, and settings where they act. Likes are near likes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from spaces.domains import Choice, FloatRange, IntRange, ParameterValue

__all__ = ["by_block", "scaled", "token_shares"]

_LEAST_LEFT = 0.5  # tokens; where none is left, its logarithm would be infinite

Array = npt.NDArray[np.float64]
Domain = IntRange | FloatRange | Choice


def token_shares(left: Array, n_patch: int) -> Array:
    """Give the shares of the patch tokens left behind each block, then the logarithms of these shares.

    The logarithm tells few tokens from fewer. A block that keeps none counts as one with half a token.

    Args:
        left: (n, depth), patch tokens behind each block.
        n_patch: patch tokens that enter the model.

    Returns:
        (n, 2 * depth)
    """
    shares = np.maximum(left, _LEAST_LEFT) / n_patch
    return np.concatenate((shares, np.log(shares)), axis=1)


def scaled(domain: Domain, values: Sequence[ParameterValue] | Array) -> Array:
    """Put values on a scale from 0 to 1; of a choice, give one number for each value that it may have.

    Args:
        domain: what the values may be.
        values: of any shape.

    Returns:
        Of the same shape and one axis more, which holds one number, or of a choice as many as it has values.

    >>> scaled(IntRange(low=0, high=30), [12]).tolist()
    [[0.4]]
    >>> scaled(Choice(values=("key", "query")), ["query"]).tolist()
    [[0.0, 1.0]]
    """
    if isinstance(domain, Choice):
        return np.array([[float(each == value) for each in domain.values] for value in values])
    numbers = np.asarray(values, float)[..., None]
    low, high = float(domain.low), float(domain.high)
    if domain.log:
        numbers, low, high = np.log(numbers), math.log(low), math.log(high)
    return (numbers - low) / (high - low)


def by_block(places: npt.NDArray[np.int64], numbers: Array, depth: int) -> Array:
    """Write what pruning layers have under the blocks where these lie, and zeros under the others.

    Slots say less than blocks: the same layer is the first of one layout and the second of another.

    Args:
        places: (n, n_slot), the block of each slot's layer, from 1; ``depth + 1`` where it has none.
        numbers: (n, n_slot), of each slot.
        depth: of the model.

    Returns:
        (n, depth)
    """
    under = np.zeros((len(places), depth + 1))
    np.put_along_axis(under, places - 1, numbers, axis=1)
    return under[:, :depth]
