from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.ats import sampled
from spaces import (
    Ats,
    Budget,
    BudgetUnsatisfiable,
    InvalidInput,
    Problem,
    UnsupportedModel,
    dense_cost,
    parse_layout,
    parse_space,
)
from spaces.ats import guessed_kept
from tests.spaces.test_layered_space import draw
from tests.tiny import DEIT_SMALL

SPACES = {preset: parse_space("ats", preset) for preset in ("paper", "full")}
HEADLESS = DEIT_SMALL.model_copy(update={"n_prefix": 0, "has_class_token": False, "pool": "mean"})
PAPER = Ats(in_attention=tuple(range(4, 13)), k=197)
DENSE = dense_cost(DEIT_SMALL).gflops


def test_one_block_costs_what_the_formula_says():
    n, kept, d = 197, 53, 384
    cost = Ats(in_attention=(4,), k=197).cost_of_image(DEIT_SMALL, [kept - 1])
    assert cost.blocks[3].macs == 3 * n * d**2 + n**2 * d + kept * n * d + 9 * kept * d**2 + 5 * d * (n + kept)
    assert cost.tokens_per_block == (197,) * 4 + (kept,) * 8
    assert cost.overhead_macs == 0


def test_with_every_row_kept_a_block_costs_what_it_does_dense():
    cost = PAPER.cost_of_image(DEIT_SMALL, [196] * 9)
    assert cost.macs == PAPER.cost(DEIT_SMALL).macs == dense_cost(DEIT_SMALL).macs


def test_the_bounds_are_a_single_patch_and_k_minus_one():
    layout = Ats(in_attention=(4, 7), k=(100, 60))
    assert layout.least_cost(DEIT_SMALL) == layout.cost_of_image(DEIT_SMALL, [1, 1])
    assert layout.cost(DEIT_SMALL) == layout.cost_of_image(DEIT_SMALL, [99, 59])
    growing = Ats(in_attention=(4, 7), k=(60, 100))
    assert [stage.n_out for stage in growing.stages(DEIT_SMALL)] == [59, 59]


@given(first=st.integers(1, 99), second=st.integers(1, 59), more=st.integers(0, 5))
def test_an_image_that_keeps_more_costs_more_and_none_is_out_of_bounds(first, second, more):
    layout = Ats(in_attention=(4, 7), k=(100, 60))
    second = min(first, second)
    cost = layout.cost_of_image(DEIT_SMALL, [first, second]).macs
    assert layout.least_cost(DEIT_SMALL).macs <= cost <= layout.cost(DEIT_SMALL).macs
    assert cost <= layout.cost_of_image(DEIT_SMALL, [first + more, second]).macs


def test_a_ratio_is_of_the_models_tokens_and_at_least_eight():
    assert Ats(in_attention=(4, 7, 9), k_ratio=(1.0, 0.7, 0.01)).sample_sizes(DEIT_SMALL) == (197, 137, 8)
    assert Ats(in_attention=(4, 7), k_ratio=0.5).sample_sizes(DEIT_SMALL) == (98, 98)


def test_a_layout_without_layers_is_dense_and_equal_to_every_other_such():
    idle = Ats(in_attention=(), k=20)
    assert idle.cost(DEIT_SMALL) == idle.least_cost(DEIT_SMALL) == dense_cost(DEIT_SMALL)
    assert idle.digest(DEIT_SMALL) == Ats(in_attention=(), k_ratio=0.5, score="cls").digest(DEIT_SMALL)


def test_two_spellings_of_one_k_are_one_layout():
    one = Ats(in_attention=(4, 7), k=(98, 98))
    assert one.digest(DEIT_SMALL) == Ats(in_attention=(4, 7), k_ratio=0.5).digest(DEIT_SMALL)
    for change in ({"in_attention": (4, 8)}, {"k": (98, 97)}, {"score": "cls"}):
        assert one.model_copy(update=change).digest(DEIT_SMALL) != one.digest(DEIT_SMALL)


def test_json_round_trip_keeps_the_layout():
    for layout in (PAPER, Ats(in_attention=(4, 7), k_ratio=(0.5, 1.0), score="cls")):
        assert Ats.model_validate_json(layout.canonical_json()) == layout
        assert parse_layout(layout.model_dump(mode="json")) == layout


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "give either k or k_ratio, got k=None and k_ratio=None"),
        ({"k": 50, "k_ratio": 0.5}, "give either k or k_ratio, got k=50 and k_ratio=0.5"),
        ({"k": 7}, "k.*greater than or equal to 8"),
        ({"k": (50, 60, 70)}, "k must give one value for each of the 2 pruning layers"),
        ({"k_ratio": 0.0}, "k_ratio.*greater than 0"),
        ({"k_ratio": 1.5}, "k_ratio.*less than or equal to 1"),
        ({"k": 50, "in_attention": (7, 4)}, "must be strictly increasing"),
        ({"k": 50, "keep_rate": 0.5}, "keep_rate"),
        ({"k": 50, "score": "key"}, "score"),
    ],
)
def test_impossible_settings_are_refused_with_the_reason(values, message):
    with pytest.raises(InvalidInput, match=message):
        Ats.parse({"in_attention": (4, 7)} | values)


def test_more_samples_than_tokens_and_layers_beyond_the_model_are_refused():
    with pytest.raises(InvalidInput, match="k must be at most the 197 tokens of deit_small_patch16_224, got 198"):
        Ats(in_attention=(4,), k=198).cost(DEIT_SMALL)
    with pytest.raises(InvalidInput, match=r"prunes in_attention block 13, but .* use layers from 1 to 12"):
        Ats(in_attention=(4, 13), k=50).cost(DEIT_SMALL)


def test_a_model_without_a_class_token_is_refused_with_the_methods_that_need_none():
    for count in (PAPER.stages, SPACES["paper"].parameters):
        with pytest.raises(UnsupportedModel, match=r"no class token.*random_drop, or zero_tprune with cls"):
            count(HEADLESS)


# The space


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.0, 1.0))
def test_no_draw_that_is_repaired_is_certainly_over_the_target(space, seed, share):
    least, most = Problem(space, DEIT_SMALL, Budget(None, 3.0)).cost_range()
    target = least + share * (most - least)
    assert space.fit(draw(space, seed=seed), DEIT_SMALL, target).least_cost(DEIT_SMALL).gflops <= target


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("spread", [0.5, 1.0, 3.0])
def test_a_repaired_draw_costs_the_target_if_its_guess_is_right(seed, spread):
    space = SPACES["paper"]
    target = 0.4 * DENSE
    layout = space.fit({**draw(space, seed=seed), "spread": spread}, DEIT_SMALL, target)
    guessed = layout.guessed_cost(DEIT_SMALL, spread).gflops
    assert guessed <= target
    assert guessed >= 0.95 * target or set(layout.k_ratio) == {1.0}  # to keep more, layers would have to begin later


def test_the_guess_is_no_part_of_the_layout_and_a_higher_one_prunes_more():
    space = SPACES["paper"]
    values = draw(space, seed=4)
    low, high = (space.fit({**values, "spread": spread}, DEIT_SMALL, 1.5) for spread in (0.5, 2.0))
    assert "spread" not in low.model_dump()
    assert low.cost(DEIT_SMALL).macs > high.cost(DEIT_SMALL).macs
    assert space.build({**values, "spread": 0.5}, DEIT_SMALL) == space.build({**values, "spread": 1.0}, DEIT_SMALL)


@given(n_levels=st.integers(7, 600), n_patch=st.integers(1, 600), spread=st.floats(0.05, 20))
def test_what_is_guessed_to_stay_is_possible_and_rises_with_the_levels_and_the_spread(n_levels, n_patch, spread):
    kept = guessed_kept(n_levels, n_patch, spread)
    assert 1 <= kept <= min(n_levels, n_patch)
    assert kept <= guessed_kept(n_levels + 1, n_patch, spread)
    assert kept <= guessed_kept(n_levels, n_patch, 1.1 * spread)


def test_the_guess_is_right_for_scores_from_an_exponential_distribution():
    chance = np.random.default_rng(0)
    scores = torch.tensor(chance.exponential(size=(200, 196)))
    for n_levels in (40, 100, 196, 500):
        stay = sampled(scores, n_levels).sum(dim=1).double().mean().item()
        assert guessed_kept(n_levels, 196, 1.0) == pytest.approx(stay, rel=0.1)


def test_what_a_draw_costs_before_its_repair_is_what_its_guess_says():
    space = SPACES["paper"]
    values = draw(space, seed=2)
    guessed = space.build(values, DEIT_SMALL).guessed_cost(DEIT_SMALL, values["spread"])
    assert space.drawn_gflops(values, DEIT_SMALL) == guessed.gflops
    assert Problem(space, DEIT_SMALL, Budget(None, 3.0)).propose(values).drawn_gflops == guessed.gflops


def test_where_the_guess_leaves_nothing_cheap_enough_the_cheapest_layout_is_tried():
    settings_ = {"in_attention": [6, 9, 12], "k_ratio": 1.0, "spread": 4.0}
    space = parse_space("ats", settings=settings_)
    assert space.fit({}, DEIT_SMALL, 0.8 * DENSE) == Ats(in_attention=(6, 9, 12), k_ratio=(1.0,) * 3)
    with pytest.raises(BudgetUnsatisfiable, match="no layout of this space costs as little as 1 GFLOPs"):
        space.fit({}, DEIT_SMALL, 1.0)


def test_a_budget_below_the_bounds_is_unsatisfiable_and_one_within_them_is_not():
    problem = Problem(SPACES["paper"], DEIT_SMALL, Budget(None, 0.1))
    with pytest.raises(BudgetUnsatisfiable, match=r"layouts of this space cost 0\.\d+ to 4\.\d+ GFLOPs"):
        problem.require_satisfiable()
    Problem(SPACES["paper"], DEIT_SMALL, Budget(None, 1.0)).require_satisfiable()


def test_without_repair_only_draws_that_are_certainly_over_are_rejected():
    space = parse_space("ats", settings={"in_attention": [9, 10, 11], "k_ratio": 0.5})
    layout = space.build({"spread": 1.0}, DEIT_SMALL)
    least, most = layout.least_cost(DEIT_SMALL).gflops, layout.cost(DEIT_SMALL).gflops
    for budget, excess in ((most + 0.1, 0), ((least + most) / 2, 0), (least - 0.5, 0.5)):
        problem = Problem(space, DEIT_SMALL, Budget(None, budget), "rejection")
        assert problem.excess({"spread": 1.0}) == pytest.approx(excess)


@pytest.mark.parametrize("spread", [0.0, -1.0, {"kind": "float", "low": 0.0, "high": 1.0}])
def test_a_guess_that_says_nothing_is_refused(spread):
    with pytest.raises(InvalidInput, match="spread must be above 0"):
        parse_space("ats", settings={"spread": spread})
