from __future__ import annotations

import numpy as np
import pytest

from spaces import parse_space
from spaces.ats import Ats, AtsSpace, guessed_kept
from spaces.base import PruningConfig
from spaces.budget import Budget
from spaces.layer_draw import spread_out
from spaces.problem import Problem
from spaces.zero_tprune import ZeroTPruneSpace
from tests.spaces.test_layered_space import SPACES, draw
from tests.tiny import DEIT_SMALL

WITH_ATS = {**SPACES, ("ats", "paper"): parse_space("ats"), ("ats", "full"): parse_space("ats", "full")}
FIXED = ZeroTPruneSpace(after=(1, 3, 6, 9, 11), n_layers=5, iterations=(30, 5, 5, 1, 1), s=10)


def shares_left(layout: PruningConfig, drawn: dict) -> list[float]:
    """Give the share of the patches behind each block; of ATS, if what was drawn with it is right."""
    stages = layout.stages(DEIT_SMALL)
    if isinstance(layout, Ats):
        stages = layout._stages(DEIT_SMALL, lambda _, n_levels, n: guessed_kept(n_levels, n, drawn["spread"]))
    n_out, left = {stage.block: stage.n_out for stage in stages}, 196
    return [(left := n_out.get(block, left)) / 196 for block in range(1, 13)]


def draws(space, n: int = 40) -> list[dict]:
    return [draw(space, seed=seed) for seed in range(n)]


@pytest.mark.parametrize("space", [*WITH_ATS.values(), FIXED], ids=[*map("-".join, WITH_ATS), "fixed"])
@pytest.mark.parametrize("gflops", [2.4, 3.0, 4.3])
def test_a_guess_leaves_the_tokens_that_the_repaired_layout_leaves_to_a_few_percent(space, gflops):
    drawn = draws(space)
    guessed = space.profiles(drawn, DEIT_SMALL, [gflops] * len(drawn))[:, :12]
    exact = np.array([shares_left(space.fit(each, DEIT_SMALL, gflops), each) for each in drawn])
    furthest = abs(guessed - exact).max(axis=1)
    # Where a budget can only just be met, a few tokens decide whether layers move, and all blocks with them.
    assert (furthest < 0.06).mean() >= 0.8
    assert abs(guessed - exact).mean() < 0.015


@pytest.mark.parametrize("space", WITH_ATS.values(), ids=map("-".join, WITH_ATS))
def test_without_a_budget_the_layout_is_described_as_it_is_drawn(space):
    drawn = draws(space)
    guessed = space.profiles(drawn, DEIT_SMALL)[:, :12]
    exact = np.array([shares_left(space.build(each, DEIT_SMALL), each) for each in drawn])
    # The guess takes rates of all patches, also with k_base=after_s, which is in the space zero_tprune-full.
    assert np.quantile(abs(guessed - exact).max(axis=1), 0.9) < 0.08


def test_what_layers_have_stands_under_the_blocks_where_spreading_out_puts_them():
    space = parse_space("zero_tprune")
    for drawn, profile in zip(draws(space), space.profiles(draws(space), DEIT_SMALL), strict=True):
        layout = space.build(drawn, DEIT_SMALL)
        places = spread_out([drawn[f"after_{slot + 1}"] for slot in range(drawn["n_layers"])], 1, 11)
        iterations, s = np.zeros(12), np.zeros(12)
        for place, votes, count in zip(places, layout.iterations, layout.s, strict=True):
            iterations[place - 1], s[place - 1] = np.log(votes) / np.log(50), count / 30
        assert layout.places == places
        assert profile[24:36] == pytest.approx(iterations)
        assert profile[36:48] == pytest.approx(s)


def test_layers_move_towards_the_input_and_more_of_them_count_only_as_far_as_is_needed():
    space = parse_space("random_drop")
    late = {"n_layers": 3} | {f"after_{slot}": 10 for slot in range(1, 7)}
    late |= {f"keep_rate_{slot}": 0.5 for slot in range(1, 7)}
    for gflops in (1.2, 1.8, 2.4, 3.0, 3.6):
        (guessed,) = space.profiles([late], DEIT_SMALL, [gflops])[:, :12]
        layout = space.fit(late, DEIT_SMALL, gflops)
        prunes = np.flatnonzero(np.diff(guessed, prepend=1.0) < 0) + 1
        assert tuple(prunes) == layout.places


def test_where_no_layout_is_as_cheap_the_guess_prunes_as_much_as_it_can():
    space = parse_space("random_drop")
    (guessed,) = space.profiles([draw(space)], DEIT_SMALL, [0.01])[:, :12]
    assert guessed == pytest.approx(
        [max(0.3**block, 1 / 196) if block < 6 else max(0.3**6, 1 / 196) for block in range(1, 13)]
    )


def test_a_setting_that_is_fixed_is_left_out():
    drawn = draws(ZeroTPruneSpace(), 2)
    shapes = [space.profiles(drawn, DEIT_SMALL).shape for space in (FIXED, ZeroTPruneSpace(s=10), ZeroTPruneSpace())]
    assert shapes == [(2, 24), (2, 24 + 12), (2, 24 + 12 + 12)]


@pytest.mark.parametrize("space", WITH_ATS.values(), ids=map("-".join, WITH_ATS))
def test_draws_are_described_together_as_one_by_one_and_differently_where_they_differ(space):
    drawn = draws(space, 12)
    together = space.profiles(drawn, DEIT_SMALL, [3.0] * 12)
    alone = np.concatenate([space.profiles([each], DEIT_SMALL, [3.0]) for each in drawn])
    assert together.round(9).tolist() == alone.round(9).tolist()
    assert len(np.unique(together.round(9), axis=0)) == 12
    assert np.isfinite(together).all()


@pytest.mark.parametrize("space", SPACES.values(), ids=map("-".join, SPACES))
def test_what_repair_left_of_a_draw_is_described_much_as_the_draw(space):
    problem = Problem(space=space, architecture=DEIT_SMALL, budget=Budget(None, 3.0))
    drawn = draws(space)
    settled = [problem.values_of(problem.propose(each).config, each) for each in drawn]
    apart = abs(problem.profiles(settled) - problem.profiles(drawn))[:, :12].max(axis=1)
    assert np.quantile(apart, 0.8) < 0.06


def test_the_guess_of_how_evenly_scores_are_spread_decides_what_ats_keeps():
    space = AtsSpace()
    drawn = draw(space, seed=2)
    even, uneven = space.profiles([{**drawn, "spread": spread} for spread in (4.0, 0.25)], DEIT_SMALL)
    assert uneven[11] < even[11]
