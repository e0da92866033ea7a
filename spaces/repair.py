"""Repair: change how hard a layout prunes, as little as is needed, until it costs what the budget allows."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["power_that_nearly_fits", "smallest_power_that_fits", "to_the_power"]

_ALMOST_ALL = 0.999  # a rate of exactly 1 would stay 1 under every power
_LARGEST_POWER = 2.0**14  # 0.999 to this power is below any rate that a space allows
_N_BISECTIONS = 40
_N_GUESSES = 24
_N_PLAIN_GUESSES = 4  # after which every other one halves what is left, for where a cost jumps
_LEAST_STEP = 0.02  # of what is left, or of a power that is too low
_LARGEST_STEP = 15  # of such a power
_LEAST_LEFT, _MOST_SPARED = 0.001, 0.95  # of a budget, for logarithms


def to_the_power(rate: float, power: float, *, low: float, high: float) -> float:
    """Raise a keep rate to a power, within its bounds.

    Powers keep a rate between 0 and 1 and keep the order of rates: a layer that was to prune more than another
    still does.

    >>> to_the_power(0.8, 2.0, low=0.3, high=1.0)
    0.6400000000000001
    >>> to_the_power(0.8, 9.0, low=0.3, high=1.0)
    0.3
    """
    powered: float = min(rate, _ALMOST_ALL) ** power
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


def power_that_nearly_fits(
    cost: Callable[[float], float], target: float, slack: float, *, dense: float, spared: float
) -> float | None:
    """Find a power that leaves little of a budget over, in half of the looks of ``smallest_power_that_fits``.

    The logarithm of what pruning can save falls almost evenly with the power, so each guess lies on a straight line
    between two known costs.

    Args:
        cost: of the layout at a power; a higher power never costs more.
        target: the most that it may cost.
        slack: the share of the target that it may leave over, at most a twentieth.
        dense: what it costs where nothing is pruned, or a little more.
        spared: what it costs before anything is pruned, or a little less.

    Returns:
        The power. It leaves more than the slack over only where less pruning costs too much, or there is none;
        ``None`` where no power costs as little as the target.
    """
    aim = (1 - slack / 2) * target
    spared = min(spared, _MOST_SPARED * target)

    def over(costs: float) -> float:
        return math.log(max(costs - spared, _LEAST_LEFT * target) / (aim - spared))

    too_dear, so_much = 0.0, max(over(dense), _LEAST_STEP)
    enough, found = 1.0, cost(1.0)
    least_step = _LEAST_STEP
    while found > target:
        if enough > _LARGEST_POWER:
            return None
        now = over(found)
        step = (enough - too_dear) * now / (so_much - now) if so_much > now else math.inf
        too_dear, so_much = enough, now
        enough *= 1 + min(max(step / enough, least_step), _LARGEST_STEP)
        least_step *= 4  # costs that flatten out let the line end too early again and again
        found = cost(enough)
    for n_guesses in range(_N_GUESSES):
        if found >= (1 - slack) * target:
            break
        if n_guesses == _N_PLAIN_GUESSES and too_dear == 0 and cost(0.0) <= target:
            return 0.0
        share = so_much / (so_much - min(over(found), 0.0))
        if n_guesses > _N_PLAIN_GUESSES and n_guesses % 2:
            share = 0.5
        guess = too_dear + (enough - too_dear) * min(max(share, _LEAST_STEP), 1 - _LEAST_STEP)
        if (costs := cost(guess)) > target:
            too_dear, so_much = guess, over(costs)
        else:
            enough, found = guess, costs
            so_much /= 2 if n_guesses else 1  # guesses that all fit would come nearer from one side alone
    return enough
