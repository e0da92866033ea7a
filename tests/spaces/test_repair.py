from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.repair import smallest_power_that_fits, to_the_power


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
