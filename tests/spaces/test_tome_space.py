from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spaces import Budget, BudgetUnsatisfiable, InvalidInput, Problem, ToMe, parse_space
from spaces.domains import FloatRange, IntRange
from spaces.tome_space import spread_schedule
from tests.spaces.test_layered_space import draw
from tests.tiny import DEIT_SMALL

SPACES = {preset: parse_space("tome", preset) for preset in ("paper", "full")}
TINY = DEIT_SMALL.model_copy(
    update={"image_size": (96, 96), "patch_size": (8, 8), "dim": 96, "n_heads": 3, "attention_dim": 96, "mlp_dim": 384}
)

each_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
each_architecture = pytest.mark.parametrize("architecture", [DEIT_SMALL, TINY], ids=["DeiT-S", "96 wide"])
many_draws = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(r=st.floats(0, 50), more=st.floats(0, 5), inflection=st.floats(-1, 1), n_blocks=st.integers(1, 24))
def test_a_schedule_spreads_its_sum_and_merges_nowhere_later_for_more(r, more, inflection, n_blocks):
    schedule, of_more = (spread_schedule(each, inflection, n_blocks) for each in (r, r + more))
    assert min(schedule) >= 0
    assert sum(schedule) == int(r * n_blocks)
    assert all(sum(of_more[:n]) >= sum(schedule[:n]) for n in range(n_blocks))


@given(r=st.integers(0, 60), n_blocks=st.integers(1, 24))
def test_a_whole_number_without_inflection_is_tomes_constant_schedule(r, n_blocks):
    assert spread_schedule(float(r), 0.0, n_blocks) == ToMe(r=r).schedule(n_blocks)


@each_space
@each_architecture
@many_draws
@given(seed=st.integers(0, 10**6), share=st.floats(0.0, 1.0))
def test_every_draw_fits_every_budget_that_the_space_can_meet(space, architecture, seed, share):
    cheapest, dearest = (layout.cost(architecture).gflops for layout in space.extremes(architecture))
    target = cheapest + share * (dearest - cheapest)
    assert space.fit(draw(space, architecture, seed), architecture, target).cost(architecture).gflops <= target


@each_space
@each_architecture
@many_draws
@given(seed=st.integers(0, 10**6))
def test_no_draw_costs_less_or_more_than_the_extremes(space, architecture, seed):
    cheapest, dearest = (layout.cost(architecture).macs for layout in space.extremes(architecture))
    assert cheapest <= space.build(draw(space, architecture, seed), architecture).cost(architecture).macs <= dearest


@pytest.mark.parametrize("feature", ["key", "x"])
@pytest.mark.parametrize("start_block", [4, IntRange(low=1, high=12)], ids=str)
def test_where_comparing_costs_more_than_merging_saves_the_dearest_layout_merges(feature, start_block):
    settings = {"start_block": start_block, "inflection": 0.0, "metric_feature": feature}
    space = parse_space("tome", settings=settings)
    _, dearest = space.extremes(DEIT_SMALL)
    starts = range(1, 13) if isinstance(start_block, IntRange) else (start_block,)
    draws = [{"start_block": start, "r": n / (13 - start)} for start in starts for n in range(5 * (13 - start))]
    assert dearest.cost(DEIT_SMALL).macs == max(space.build(d, DEIT_SMALL).cost(DEIT_SMALL).macs for d in draws)
    assert (sum(dearest.r) > 0) == (feature == "x")


@each_space
@pytest.mark.parametrize("share", [0.4, 0.65, 0.95])
@pytest.mark.parametrize("seed", range(10))
def test_a_fitted_draw_spends_the_budget(space, share, seed):
    target = share * 4.608338304
    cost = space.fit(draw(space, seed=seed), DEIT_SMALL, target).cost(DEIT_SMALL).gflops
    # One more merge in one block would have cost more than is left.
    assert 0.998 * target <= cost <= target


def test_merging_begins_earlier_and_bends_only_where_the_largest_r_costs_too_much():
    space = parse_space("tome", settings={"r": FloatRange(low=0, high=10), "start_block": IntRange(low=1, high=8)})
    values = {"r": 3.0, "inflection": 0.5, "start_block": 6}

    def first_and_last(target):
        schedule = space.fit(values, DEIT_SMALL, target).r
        first = next(block for block, r in enumerate(schedule, start=1) if r)
        return first, schedule[-1] > schedule[first]

    assert first_and_last(4.2) == (6, True)
    assert first_and_last(3.8) == (3, True)
    assert space.build({**values, "r": 10.0, "start_block": 4}, DEIT_SMALL).cost(DEIT_SMALL).gflops > 3.8
    assert first_and_last(2.8) == (1, False)


def test_a_fixed_r_is_never_changed():
    space = parse_space("tome", settings={"r": 8, "inflection": 0.0})
    assert space.parameters(DEIT_SMALL) == ()
    assert space.build({}, DEIT_SMALL).cost(DEIT_SMALL) == ToMe(r=8).cost(DEIT_SMALL)
    assert set(space.fit({}, DEIT_SMALL, 4.0).r) == {8}
    with pytest.raises(BudgetUnsatisfiable, match="costs as little as 3 GFLOPs"):
        space.fit({}, DEIT_SMALL, 3.0)


def test_a_budget_below_the_space_names_the_least_and_the_most():
    with pytest.raises(BudgetUnsatisfiable, match=r"cost 1\.46 to 4\.608 GFLOPs"):
        Problem(SPACES["paper"], DEIT_SMALL, Budget.parse("1.2", 4.6)).require_satisfiable()


def test_by_default_r_goes_up_to_merging_all_patches_by_the_last_block():
    domains = {parameter.name: parameter.domain for parameter in SPACES["paper"].parameters(DEIT_SMALL)}
    assert domains == {"r": FloatRange(low=0, high=196 / 12), "inflection": FloatRange(low=-1, high=1)}


def test_a_shallow_model_narrows_where_merging_begins():
    shallow = DEIT_SMALL.model_copy(update={"depth": 4})
    domains = {parameter.name: parameter.domain for parameter in SPACES["full"].parameters(shallow)}
    assert domains["start_block"] == IntRange(low=1, high=4)
    with pytest.raises(InvalidInput, match=r"begins to merge in block 5, .* set start_block"):
        parse_space("tome", settings={"start_block": 5}).parameters(shallow)


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"r": -1}, "r must be from 0 to inf, got -1"),
        ({"inflection": FloatRange(low=-2, high=0)}, "inflection must be from -1 to 1, got -2"),
        ({"start_block": 0}, "start_block must be from 1 to inf, got 0"),
        ({"r": [8, 8]}, "r takes a range LOW:HIGH or a number"),
        ({"metric_feature": "value"}, "metric_feature takes choices"),
    ],
)
def test_a_setting_out_of_its_values_is_refused(given_settings, message):
    with pytest.raises(InvalidInput, match=message):
        parse_space("tome", "full", given_settings)
