from __future__ import annotations

import math

import pytest

from spaces import parse_layout, parse_space
from spaces.budget import Budget
from spaces.domains import Choice, FloatRange, IntRange
from spaces.problem import Problem
from spaces.profile import by_block, scaled, token_shares
from spaces.zero_tprune import ZeroTPruneSpace
from tests.spaces.test_layered_space import SPACES, draw
from tests.tiny import DEIT_SMALL

LAYOUT = {"method": "zero_tprune", "after": [3, 9], "keep_rate": [0.5, 1.0], "s": [0, 10], "iterations": [5, 1]}


def test_shares_say_what_each_block_leaves_and_their_logarithms_follow():
    shares = token_shares(parse_layout(LAYOUT).stages(DEIT_SMALL), DEIT_SMALL)
    assert shares[:12] == (1, 1, *[0.5] * 6, *[88 / 196] * 4)
    assert shares[12:] == pytest.approx([math.log(share) for share in shares[:12]])


def test_whole_numbers_and_logarithmic_ones_run_from_0_to_1():
    assert [scaled(IntRange(low=1, high=50, log=True), n) for n in (1, 50)] == [(0,), (1,)]
    assert scaled(FloatRange(low=0.01, high=1.0, log=True), 0.1) == pytest.approx((0.5,))
    assert scaled(Choice(values=(True, False)), False) == (0, 1)


def test_a_setting_stands_under_the_block_of_its_layer_and_not_of_its_slot():
    domain = IntRange(low=0, high=20)
    of_two = by_block(domain, (3, 9), (5, 10), DEIT_SMALL)
    of_one = by_block(domain, (9,), (10,), DEIT_SMALL)
    assert of_two == (0, 0, 0.25, *[0] * 5, 0.5, 0, 0, 0)
    assert of_one == (*[0] * 8, 0.5, 0, 0, 0)


def test_a_choice_of_layers_takes_a_number_for_each_value():
    of_blocks = by_block(Choice(values=("key", "query")), (2,), ("query",), DEIT_SMALL)
    assert of_blocks == (0, 0, 0, 1, *[0] * 20)


def test_a_setting_that_is_fixed_is_left_out():
    fixed, free = ZeroTPruneSpace(s=10), ZeroTPruneSpace()
    drawn = draw(free, seed=1)
    lengths = [len(space.profile(space.build(drawn, DEIT_SMALL), drawn, DEIT_SMALL)) for space in (fixed, free)]
    assert lengths == [24 + 12, 24 + 12 + 12]


@pytest.mark.parametrize("space", SPACES.values(), ids=map("-".join, SPACES))
def test_all_layouts_of_a_space_have_profiles_of_one_length_and_different_ones_differ(space):
    profiles = []
    for seed in range(12):
        drawn = draw(space, seed=seed)
        profiles.append(space.profile(space.fit(drawn, DEIT_SMALL, 3.0), drawn, DEIT_SMALL))
    assert len({len(profile) for profile in profiles}) == 1
    assert len(set(profiles)) == 12
    assert all(math.isfinite(number) for profile in profiles for number in profile)


@pytest.mark.parametrize("space", SPACES.values(), ids=map("-".join, SPACES))
@pytest.mark.parametrize("gflops", [1.9, 3.0, 4.3])
def test_a_layout_that_nearly_fits_costs_a_fiftieth_less_at_most_and_never_more(space, gflops):
    for seed in range(4):
        drawn = draw(space, seed=seed)
        exactly = space.fit(drawn, DEIT_SMALL, gflops).cost(DEIT_SMALL).gflops
        nearly = space.nearly_fit(drawn, DEIT_SMALL, gflops).cost(DEIT_SMALL).gflops
        assert min(0.98 * gflops, exactly) <= nearly <= gflops


def test_the_profile_of_what_repair_left_is_that_of_its_layout():
    problem = Problem(space=parse_space("zero_tprune"), architecture=DEIT_SMALL, budget=Budget(None, 3.0))
    drawn = draw(parse_space("zero_tprune"), seed=3)
    layout = problem.propose(drawn).config
    settled = problem.values_of(layout, drawn)
    assert problem.profile(settled) == problem.space.profile(layout, drawn, DEIT_SMALL)


def test_a_method_without_layers_is_described_by_its_tokens_and_its_parameters():
    space = parse_space("tome")
    drawn = draw(space, seed=1)
    layout = space.fit(drawn, DEIT_SMALL, 3.0)
    profile = space.profile(layout, drawn, DEIT_SMALL)
    assert profile[:24] == token_shares(layout.stages(DEIT_SMALL), DEIT_SMALL)
    assert len(profile) > 24
