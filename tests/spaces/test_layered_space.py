from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spaces import BudgetUnsatisfiable, InvalidInput, UnsupportedModel, dense_cost, parse_space
from spaces.domains import Choice, IntRange, bounds
from spaces.layered import last_place
from tests.tiny import DEIT_SMALL

SPACES = {
    (method, preset): parse_space(method, preset)
    for method in ("zero_tprune", "cls_topk", "attention_rank", "bat", "random_drop")
    for preset in ("paper", "full")
}


def draw(space, architecture=DEIT_SMALL, seed=0):
    generator = random.Random(seed)
    values = {}
    for parameter in space.parameters(architecture):
        domain = parameter.domain
        if isinstance(domain, Choice):
            values[parameter.name] = generator.choice(domain.values)
        elif isinstance(domain, IntRange):
            values[parameter.name] = generator.randint(domain.low, domain.high)
        else:
            values[parameter.name] = generator.uniform(domain.low, domain.high)
    return values


@pytest.mark.parametrize("space", SPACES.values(), ids=map("-".join, SPACES))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), share=st.floats(0.0, 1.0))
def test_every_draw_fits_every_budget_that_the_space_can_meet(space, seed, share):
    cheapest, dearest = (layout.cost(DEIT_SMALL).gflops for layout in space.extremes(DEIT_SMALL))
    target = cheapest + share * (dearest - cheapest)
    values = draw(space, seed=seed)
    layout = space.fit(values, DEIT_SMALL, target)
    assert layout.cost(DEIT_SMALL).gflops <= target
    assert all(1 <= place <= last_place(space.places_name, DEIT_SMALL) for place in layout.places)
    low, high = bounds(space.keep_rate)
    assert all(low <= rate <= high for rate in layout.keep_rate)


@pytest.mark.parametrize("space", SPACES.values(), ids=map("-".join, SPACES))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_no_draw_costs_less_or_more_than_the_extremes(space, seed):
    cheapest, dearest = (layout.cost(DEIT_SMALL).macs for layout in space.extremes(DEIT_SMALL))
    cost = space.build(draw(space, seed=seed), DEIT_SMALL).cost(DEIT_SMALL)
    # Choosing a few tokens of many, late, may cost more than it saves: a draw may cost that more than the dense model.
    assert cheapest <= cost.macs
    assert cost.model_macs <= dearest


@pytest.mark.parametrize("space", SPACES.values(), ids=map("-".join, SPACES))
@pytest.mark.parametrize("share", [0.3, 0.65, 0.95])
@pytest.mark.parametrize("seed", range(10))
def test_a_repaired_draw_spends_the_budget(space, seed, share):
    target = share * dense_cost(DEIT_SMALL).gflops
    layout = space.fit(draw(space, seed=seed), DEIT_SMALL, target)
    # One more token in one layer would cost more than is left, or nearly.
    assert 0.97 * target <= layout.cost(DEIT_SMALL).gflops <= target


def test_a_layout_that_costs_too_little_also_removes_fewer_tokens_by_count():
    space = parse_space("zero_tprune", settings={"n_layers": 3, "keep_rate": 1.0})
    values = {f"after_{slot}": slot for slot in (1, 2, 3)} | {f"s_{slot}": 30 for slot in (1, 2, 3)}
    values |= {f"iterations_{slot}": 1 for slot in (1, 2, 3)}
    layout = space.fit(values, DEIT_SMALL, 4.4)
    assert 0 < max(layout.s) < 30
    assert 4.3 <= layout.cost(DEIT_SMALL).gflops <= 4.4


def test_a_draw_that_fits_exactly_keeps_its_layers_and_iterations():
    space = SPACES["zero_tprune", "paper"]
    values = draw(space, seed=3)
    drawn = space.build(values, DEIT_SMALL)
    fitted = space.fit(values, DEIT_SMALL, drawn.cost(DEIT_SMALL).gflops)
    assert (fitted.after, fitted.iterations, fitted.s) == (drawn.after, drawn.iterations, drawn.s)
    assert fitted.keep_rate == pytest.approx(drawn.keep_rate, abs=0.02)


def test_layers_move_towards_the_input_only_where_the_lowest_rates_cost_too_much():
    space = parse_space("random_drop", settings={"n_layers": 1})
    late = {"after_1": 11, "keep_rate_1": 0.9}
    assert space.fit(late, DEIT_SMALL, 4.5).after == (11,)
    assert space.fit(late, DEIT_SMALL, 3.0).after[0] < 11


def test_further_slots_count_only_where_moving_is_not_enough():
    space = parse_space("random_drop", settings={"n_layers": IntRange(low=1, high=3)})
    one = {"n_layers": 1, "after_1": 6, "after_2": 8, "after_3": 9}
    one |= {f"keep_rate_{slot}": 0.5 for slot in (1, 2, 3)}
    assert len(space.fit(one, DEIT_SMALL, 2.5).after) == 1
    assert len(space.fit(one, DEIT_SMALL, 1.2).after) > 1


def test_the_encoding_has_a_fixed_length_and_inactive_slots_have_no_effect():
    space = SPACES["zero_tprune", "paper"]
    values = draw(space) | {"n_layers": 3}
    changed = values | {"keep_rate_6": 0.31, "s_6": 30, "iterations_5": 50, "after_6": 2}
    assert space.build(values, DEIT_SMALL) == space.build(changed, DEIT_SMALL)
    assert {parameter.name for parameter in space.parameters(DEIT_SMALL)} == set(values)


def test_every_setting_of_the_full_preset_can_be_fixed():
    fixed = {
        "n_layers": 3,
        "after": [3, 6, 9],
        "keep_rate": [0.9, 0.8, 0.7],
        "iterations": 5,
        "s": 0,
        "feature": "key",
        "partition": "alternate",
        "similarity": "minkowski2",
        "cls_init": "uniform",
        "head_agg": "max",
        "vhf": False,
        "v_min": 0.02,
        "v_max": 0.9,
        "order": "I-S",
        "rounding": "round_total",
        "k_base": "after_s",
    }
    space = parse_space("zero_tprune", "full", fixed)
    assert space.parameters(DEIT_SMALL) == ()
    layout = space.build({}, DEIT_SMALL)
    assert layout.after == (3, 6, 9)
    assert layout.keep_rate == (0.9, 0.8, 0.7)
    assert (layout.partition, layout.similarity, layout.v_max) == ("alternate", "minkowski2", 0.9)


def test_fixed_rates_are_never_repaired():
    space = parse_space("random_drop", settings={"after": [3, 6, 9], "keep_rate": [0.9, 0.8, 0.7]})
    assert space.fit({}, DEIT_SMALL, 4.0).keep_rate == (0.9, 0.8, 0.7)
    with pytest.raises(BudgetUnsatisfiable, match="costs as little as 3 GFLOPs"):
        space.fit({}, DEIT_SMALL, 3.0)


def test_a_shallow_model_narrows_the_number_of_layers():
    shallow = DEIT_SMALL.model_copy(update={"depth": 5})
    space = SPACES["zero_tprune", "paper"]
    n_layers = next(p.domain for p in space.parameters(shallow) if p.name == "n_layers")
    assert (n_layers.low, n_layers.high) == (3, 4)
    with pytest.raises(InvalidInput, match="3 or more pruning layers"):
        space.parameters(DEIT_SMALL.model_copy(update={"depth": 3}))


def test_layers_beyond_the_model_are_refused():
    with pytest.raises(InvalidInput, match="has 12 blocks"):
        parse_space("random_drop", settings={"after": [3, 14], "keep_rate": 0.5}).parameters(DEIT_SMALL)


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(InvalidInput, match="one value for each pruning layer"):
        parse_space("random_drop", settings={"after": [3, 6], "keep_rate": [0.5, 0.6, 0.7]})


def test_a_model_without_a_class_token_searches_the_uniform_start_alone():
    headless = DEIT_SMALL.model_copy(update={"n_prefix": 0, "has_class_token": False, "pool": "mean"})
    space = SPACES["zero_tprune", "full"]
    assert "cls_init" not in {parameter.name for parameter in space.parameters(headless)}
    assert space.build(draw(space, headless), headless).cls_init == "uniform"
    with pytest.raises(UnsupportedModel, match="set cls_init=uniform"):
        SPACES["zero_tprune", "paper"].parameters(headless)
