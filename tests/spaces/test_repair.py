from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.repair import powers_that_nearly_fit, smallest_power_that_fits, to_the_power


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


def falling(powers: np.ndarray, *, step: float = 0.0) -> np.ndarray:
    """Cost 100 where nothing is pruned, and 20 however much is; in steps, as tokens fall."""
    cost = 20 + 80 * 0.5**powers
    return 20 + step * np.floor((cost - 20) / step) if step else cost


@given(targets=st.lists(st.floats(20.1, 99.0), min_size=1, max_size=5), step=st.sampled_from([0.0, 1.0, 7.0]))
def test_powers_of_many_fit_and_a_little_less_pruning_does_not(targets, step):
    powers = powers_that_nearly_fit(lambda powers: falling(powers, step=step), np.array(targets))
    assert (falling(powers, step=step) <= targets).all()
    assert ((falling(0.98 * powers, step=step) > targets) | (powers < 0.002)).all()


def test_what_need_not_be_pruned_hardly_is_and_what_never_fits_is_pruned_most():
    little, most = powers_that_nearly_fit(falling, np.array([100.0, 10.0]))
    assert little < 0.002
    assert most == 2**14
