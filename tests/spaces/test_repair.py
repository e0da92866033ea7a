from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.repair import power_that_nearly_fits, smallest_power_that_fits, to_the_power


@given(limit=st.floats(0.001, 10_000))
def test_the_power_found_fits_and_hardly_less_does(limit):
    power = smallest_power_that_fits(lambda power: power >= limit)
    assert limit <= power <= limit * 1.0001


def test_where_nothing_need_be_pruned_the_power_is_zero():
    assert smallest_power_that_fits(lambda _: True) == 0


def test_where_nothing_fits_there_is_no_power():
    assert smallest_power_that_fits(lambda _: False) is None


@given(rates=st.lists(st.floats(0.01, 1.0), min_size=2, max_size=6), power=st.floats(0, 50))
def test_powers_keep_the_order_of_rates_and_their_bounds(rates, power):
    powered = [to_the_power(rate, power, low=0.2, high=0.9) for rate in sorted(rates)]
    assert powered == sorted(powered)
    assert all(0.2 <= rate <= 0.9 for rate in powered)


def test_a_rate_of_exactly_one_can_be_lowered():
    assert to_the_power(1.0, 500.0, low=0.3, high=1.0) == pytest.approx(0.999**500)


def test_a_fixed_rate_stays_fixed():
    assert to_the_power(0.8, 7.0, low=0.8, high=0.8) == 0.8


def falling(power: float, *, rest: float = 20.0, step: float = 0.0) -> float:
    """Cost 100 where nothing is pruned, and the rest however much is; in steps, as tokens fall."""
    cost = rest + (100 - rest) * 0.5**power
    return rest + step * math.floor((cost - rest) / step) if step else cost


@given(target=st.floats(20.1, 99.0), slack=st.floats(0.005, 0.05), spared=st.floats(0.0, 20.0))
def test_a_power_that_nearly_fits_leaves_no_more_than_the_slack(target, slack, spared):
    looks = []

    def cost(power):
        looks.append(power)
        return falling(power)

    power = power_that_nearly_fits(cost, target, slack, dense=100.0, spared=spared)
    assert (1 - slack) * target <= falling(power) <= target
    assert len(looks) <= 24


@given(target=st.floats(25.0, 99.0), step=st.floats(1.0, 20.0))
def test_where_costs_jump_over_the_slack_the_dearest_that_fits_is_found(target, step):
    power = power_that_nearly_fits(lambda power: falling(power, step=step), target, 0.001, dense=100.0, spared=0.0)
    dearest = max(20 + step * n for n in range(81) if 20 + step * n <= target)
    assert falling(power, step=step) == pytest.approx(min(dearest, falling(0, step=step)))


def test_what_is_never_pruned_too_little_needs_no_power_and_what_always_costs_too_much_has_none():
    assert power_that_nearly_fits(lambda power: 30 / (1 + power), 50.0, 0.02, dense=100.0, spared=0.0) == 0
    assert power_that_nearly_fits(lambda power: 60.0, 50.0, 0.02, dense=100.0, spared=0.0) is None


def test_it_needs_little_more_than_half_the_looks_of_bisecting():
    n_by_secant = n_by_bisection = 0
    for target in range(25, 95, 5):
        for drawn in (0.2, 1.0, 3.0):
            costs = {}

            def cost(power, drawn=drawn, costs=costs):
                costs[power] = 20 + 40 * 0.5 ** (drawn * power) + 40 * 0.1 ** (drawn * power)
                return costs[power]

            power_that_nearly_fits(cost, target, 0.02, dense=100.0, spared=15.0)
            n_by_secant += len(costs)
            costs.clear()
            smallest_power_that_fits(
                lambda power, cost=cost, target=target: cost(power) <= target,
                lambda _, enough, costs=costs, target=target: costs[enough] >= 0.98 * target,
            )
            n_by_bisection += len(costs)
    assert n_by_secant < 0.55 * n_by_bisection
