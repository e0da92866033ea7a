from __future__ import annotations

import math

import numpy as np
import pytest

from spaces import parse_space
from spaces.budget import Budget
from spaces.domains import Choice, FloatRange, IntRange
from spaces.problem import Problem
from spaces.profile import by_block, scaled, token_shares
from tests.spaces.test_layered_space import draw
from tests.tiny import DEIT_SMALL


def test_shares_say_what_each_block_leaves_and_their_logarithms_follow():
    shares = token_shares(np.array([[196.0, 98.0, 49.0], [196.0, 196.0, 0.0]]), 196)
    assert shares[:, :3].tolist() == [[1, 0.5, 0.25], [1, 1, 0.5 / 196]]
    assert shares[:, 3:] == pytest.approx(np.log(shares[:, :3]))


def test_whole_numbers_and_logarithmic_ones_run_from_0_to_1():
    assert scaled(IntRange(low=1, high=50, log=True), [1, 50]).tolist() == [[0], [1]]
    assert scaled(FloatRange(low=0.01, high=1.0, log=True), [0.1])[0, 0] == pytest.approx(0.5)
    assert scaled(Choice(values=(True, False)), [False, True]).tolist() == [[0, 1], [1, 0]]


def test_a_setting_stands_under_the_block_of_its_layer_and_not_of_its_slot():
    of_layers = np.array([[0.25, 0.5], [0.5, 0.75]])
    under = by_block(np.array([[3, 9], [9, 13]]), of_layers, 12)  # the second has one layer only
    assert under.tolist() == [[0, 0, 0.25, *[0] * 5, 0.5, 0, 0, 0], [*[0] * 8, 0.5, 0, 0, 0]]


def test_a_method_without_layers_is_described_by_its_tokens_and_its_parameters():
    space = parse_space("tome", "full")
    drawn = [draw(space, seed=seed) for seed in range(3)]
    profiles = space.profiles(drawn, DEIT_SMALL, [3.0, 3.5, 4.0])
    for profile, each, target in zip(profiles, drawn, (3.0, 3.5, 4.0), strict=True):
        stages = space.fit(each, DEIT_SMALL, target).stages(DEIT_SMALL)
        assert profile[11] == (stages[-1].n_out or 0.5) / 196
        assert profile[12:24] == pytest.approx(np.log(profile[:12]))
    assert profiles.shape == (3, 24 + 1 + 1 + 1 + 2 + 3)  # r, inflection, start_block, prop_attn, metric_feature


def test_draws_are_described_on_the_budget_only_where_repair_brings_them_there():
    space = parse_space("random_drop")
    drawn = [draw(space, seed=seed) for seed in range(4)]
    repaired, rejected = (
        Problem(space=space, architecture=DEIT_SMALL, budget=Budget(None, 3.0), budget_by=how).profiles(drawn)
        for how in ("repair", "rejection")
    )
    assert rejected.tolist() == space.profiles(drawn, DEIT_SMALL).tolist()
    assert repaired.tolist() == space.profiles(drawn, DEIT_SMALL, [3.0] * 4).tolist()
    assert not math.isclose(repaired[0, 10], rejected[0, 10], rel_tol=0.01)


def test_a_drawn_target_is_what_a_draw_is_brought_onto():
    problem = Problem(
        space=parse_space("random_drop"), architecture=DEIT_SMALL, budget=Budget(2.5, 4.0), seeks_one=True
    )
    drawn = draw(problem.space, seed=1)
    cheap, dear = problem.profiles([{"target_gflops": gflops, **drawn} for gflops in (2.6, 3.9)])
    assert cheap[:12].sum() < 0.8 * dear[:12].sum()
