"""Repair: change how hard a layout prunes, as little as is needed, until it costs what the budget allows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["ALMOST_ALL", "powers_that_nearly_fit", "smallest_power_that_fits", "to_the_power"]

ALMOST_ALL = 0.999  # a rate of exactly 1 would stay 1 under every power
_LEAST_EXPONENT, _LARGEST_EXPONENT = -10.0, 14.0  # of 2: 0.999 to 2^14 is below any rate that a space allows
_LARGEST_POWER = 2.0**_LARGEST_EXPONENT
_N_BISECTIONS = 40
_N_ROUGH_BISECTIONS = 11

Array = npt.NDArray[np.float64]


def to_the_power(rate: float, power: float, *, low: float, high: float) -> float:
    """Raise a keep rate to a power, within its bounds.

    Powers keep a rate between 0 and 1 and keep the order of rates: a layer that was to prune more than another
    still does.

    >>> to_the_power(0.8, 2.0, low=0.3, high=1.0)
    0.6400000000000001
    >>> to_the_power(0.8, 9.0, low=0.3, high=1.0)
    0.3
    """
    powered: float = min(rate, ALMOST_ALL) ** power
    return min(max(powered, low), high)


def smallest_power_that_fits(
    fits: Callable[[float], bool], are_alike: Callable[[float, float], bool] = lambda *_: False
) -> float | None:
    """Bisect for the least pruning that fits: 0 prunes nothing, 1 as it was drawn, more prunes more.

    Args:
        fits: whether the layout at this power is within the budget; a higher power never costs more.
        are_alike: whether it makes no difference which of two powers is found, nor any between them.

    Returns:
        The power, at which ``fits`` holds; ``None`` where it holds at none.
    """
    if fits(0.0):
        return 0.0
    too_dear, enough = 0.0, 1.0
    while not fits(enough):
        too_dear, enough = enough, 2 * enough
        if enough > _LARGEST_POWER:
            return None
    for _ in range(_N_BISECTIONS):
        if are_alike(too_dear, enough):
            break
        middle = (too_dear + enough) / 2
        if fits(middle):
            enough = middle
        else:
            too_dear = middle
    return enough


def powers_that_nearly_fit(cost: Callable[[Array], Array], targets: Array) -> Array:
    """Bisect for many layouts at once: the least power at which each costs its target or less, to 1 % of the power.

    Args:
        cost: of every layout, each at its own power, (n,); a higher power never costs more.
        targets: (n,), the most that each may cost.

    Returns:
        (n,) powers; the largest of them where no power costs as little.
    """
    too_dear, enough = np.full(len(targets), _LEAST_EXPONENT), np.full(len(targets), _LARGEST_EXPONENT)
    for _ in range(_N_ROUGH_BISECTIONS):
        middle = (too_dear + enough) / 2
        fits = cost(np.exp2(middle)) <= targets
        too_dear, enough = np.where(fits, too_dear, middle), np.where(fits, middle, enough)
    powers: Array = np.exp2(enough)
    return powers
