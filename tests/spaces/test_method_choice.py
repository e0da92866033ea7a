from __future__ import annotations

import itertools

import numpy as np
import pytest

from spaces import (
    METHODS,
    Budget,
    BudgetUnsatisfiable,
    InvalidInput,
    Problem,
    RandomDropSpace,
    UnsupportedModel,
    ZeroTPruneSpace,
    dense_cost,
    parse_space,
)
from spaces.domains import Choice, FloatRange, IntRange
from spaces.method_choice import MethodChoice
from spaces.methods import method_names
from tests.tiny import DEIT_SMALL

BOTH = ("zero_tprune", "random_drop")
WITHOUT_CLASS_TOKEN = DEIT_SMALL.model_copy(update={"n_prefix": 0, "has_class_token": False, "pool": "mean"})


def drawn(space, seed: int = 0, **fixed) -> dict:
    rng = np.random.default_rng(seed)

    def value(domain):
        if isinstance(domain, Choice):
            return domain.values[rng.integers(len(domain.values))]
        if isinstance(domain, IntRange):
            return int(rng.integers(domain.low, domain.high + 1))
        return float(rng.uniform(domain.low, domain.high))

    return {each.name: value(each.domain) for each in space.parameters(DEIT_SMALL)} | fixed


def problem(budget: str, architecture=DEIT_SMALL, methods=BOTH, preset="paper", **settings) -> Problem:
    space = parse_space(methods, preset, settings)
    return Problem(space, architecture, Budget.parse(budget, dense_cost(architecture).gflops))


def test_one_method_is_searched_as_if_there_were_no_others():
    assert parse_space(["zero_tprune"]) == parse_space("zero_tprune") == ZeroTPruneSpace()
    assert [each.name for each in parse_space("zero_tprune").parameters(DEIT_SMALL)][:2] == ["n_layers", "after_1"]
    assert all(each.method is None for each in parse_space("zero_tprune").parameters(DEIT_SMALL))


def test_all_parameters_of_all_methods_are_drawn_under_their_methods_name():
    parameters = parse_space(BOTH).parameters(DEIT_SMALL)
    assert (parameters[0].name, parameters[0].domain) == ("method", Choice(values=BOTH))
    of_each = [
        (f"{method}.{each.name}", each.domain, method)
        for method in BOTH
        for each in parse_space(method).parameters(DEIT_SMALL)
    ]
    assert [(each.name, each.domain, each.method) for each in parameters[1:]] == of_each


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("method", BOTH)
def test_a_draw_becomes_what_its_method_alone_makes_of_its_part(method, seed):
    space, alone = parse_space(BOTH), parse_space(method)
    values = drawn(space, seed, method=method)
    own = {name.removeprefix(f"{method}."): value for name, value in values.items() if name.startswith(method)}
    assert space.build(values, DEIT_SMALL) == alone.build(own, DEIT_SMALL)
    fitted = space.fit(values, DEIT_SMALL, 2.0)
    assert fitted == alone.fit(own, DEIT_SMALL, 2.0)
    assert fitted.cost(DEIT_SMALL).gflops <= 2.0


def test_parameters_of_other_methods_never_reach_the_layout():
    space = parse_space(BOTH)
    one = drawn(space, 1, method="random_drop")
    two = drawn(space, 2) | {name: value for name, value in one.items() if not name.startswith("zero_tprune.")}
    assert one != two
    assert space.fit(one, DEIT_SMALL, 3.0) == space.fit(two, DEIT_SMALL, 3.0)


def test_the_cheapest_and_the_dearest_layout_are_those_of_any_method():
    space = parse_space(BOTH, settings={"random_drop.keep_rate": FloatRange(low=0.1, high=0.5)})
    costs = [
        config.cost(DEIT_SMALL).gflops
        for config in itertools.chain.from_iterable(each.extremes(DEIT_SMALL) for each in space.spaces)
    ]
    assert [config.cost(DEIT_SMALL).gflops for config in space.extremes(DEIT_SMALL)] == [min(costs), max(costs)]


def test_a_method_that_cannot_meet_the_budget_is_left_out_and_said_so():
    left, lines = problem("50%", **{"random_drop.keep_rate": FloatRange(low=0.9, high=1.0)}).without_misfits()
    assert left.space == ZeroTPruneSpace()  # alone, and so without prefixes
    (line,) = lines
    assert line.startswith("random_drop is left out: the budget of 2.304 GFLOPs is unsatisfiable")


def test_a_method_that_cannot_run_on_the_model_is_left_out_and_said_so():
    left, lines = problem("50%", WITHOUT_CLASS_TOKEN).without_misfits()
    assert left.space == RandomDropSpace()
    assert lines[0].startswith("zero_tprune is left out: deit_small_patch16_224 has no class token")
    left, lines = problem("50%", WITHOUT_CLASS_TOKEN, preset="full").without_misfits()
    assert (left.space.method, lines) == ("zero_tprune+random_drop", ())


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        (DEIT_SMALL, {"keep_rate": 0.95, "n_layers": 3, "zero_tprune.s": 0}),
        (WITHOUT_CLASS_TOKEN, {"random_drop.keep_rate": 0.95}),
    ],
)
def test_only_where_no_method_is_left_it_is_an_error(architecture, settings):
    with pytest.raises(
        BudgetUnsatisfiable, match=r"none of the methods is left: zero_tprune: .*; random_drop: .*"
    ) as raised:
        problem("50%", architecture, **settings).without_misfits()
    assert "\n" not in str(raised.value)


def test_where_the_model_is_what_no_method_takes_the_error_says_so():
    alone = Problem(parse_space("zero_tprune"), WITHOUT_CLASS_TOKEN, Budget(None, 3.0))
    twice = MethodChoice(method="zero_tprune+zero_tprune", spaces=(ZeroTPruneSpace(), ZeroTPruneSpace()))
    for each in (alone, Problem(twice, WITHOUT_CLASS_TOKEN, Budget(None, 3.0))):
        with pytest.raises(UnsupportedModel, match="has no class token"):
            each.without_misfits()


# How methods and their settings are named


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("all", tuple(METHODS)),
        ("random_drop", ("random_drop",)),
        ("random_drop, zero_tprune", ("random_drop", "zero_tprune")),
        (["zero_tprune", "random_drop,zero_tprune"], BOTH),
        ("zero_tprune+random_drop", BOTH),  # as a study shows them
    ],
)
def test_methods_are_named_one_by_one_or_together(given, names):
    assert method_names(given) == names


@pytest.mark.parametrize("given", ["magic", "zero_tprune,", [], 5, "all,magic"])
def test_what_is_no_method_is_refused_with_those_there_are(given):
    with pytest.raises(
        InvalidInput, match=r"the methods are zero_tprune, .*random_drop.* \(or all for all of them\), got"
    ):
        method_names(given)


def test_a_setting_without_a_methods_name_is_every_methods():
    rates = FloatRange(low=0.5, high=0.9)
    space = parse_space(BOTH, settings={"keep_rate": rates})
    assert [each.keep_rate for each in space.spaces] == [rates, rates]


def test_a_methods_own_setting_comes_before_a_shared_one():
    for settings in (
        {"random_drop.min_tokens": 7, "min_tokens": 3},
        {"random_drop": {"min_tokens": 7}, "min_tokens": 3},
    ):
        assert [each.min_tokens for each in parse_space(BOTH, settings=settings).spaces] == [3, 7]


@pytest.mark.parametrize(
    ("methods", "settings", "message"),
    [
        (BOTH, {"s": 3}, "s is a setting of zero_tprune, but not of all methods: say whose, such as zero_tprune.s"),
        (BOTH, {"keeprate": 3}, "has a setting 'keeprate'; did you mean keep_rate"),
        (BOTH, {"zero_tprune.keeprate": 3}, "zero_tprune has no setting 'keeprate'; did you mean keep_rate"),
        (BOTH, {"method": "random_drop"}, "has a setting 'method'"),
        ("random_drop", {"zero_tprune.s": 3}, "zero_tprune.s is set, but 'zero_tprune' is not among the methods"),
        (BOTH, {"zero_tprune": 3}, "the section zero_tprune must hold settings"),
        ("random_drop", {"s": 3}, "random_drop has no setting 's'"),
    ],
)
def test_a_setting_that_is_not_clear_is_refused(methods, settings, message):
    with pytest.raises(InvalidInput, match=message):
        parse_space(methods, settings=settings)


def test_the_values_of_a_repaired_layout_are_those_of_its_method():
    space = parse_space(BOTH)
    values = drawn(space, 3, method="random_drop")
    layout = space.fit(values, DEIT_SMALL, 2.0)
    settled = space.values_of(layout, values, DEIT_SMALL)
    assert space.build(settled, DEIT_SMALL).digest(DEIT_SMALL) == layout.digest(DEIT_SMALL)
    assert {name for name in values if values[name] != settled[name]} <= {
        name for name in values if name.startswith("random_drop.")
    }


def test_a_search_over_several_methods_opens_with_each_in_turn():
    space = parse_space(["zero_tprune", "tome", "random_drop"])
    openings = space.openings(DEIT_SMALL)
    assert [opening["method"] for opening in openings] == ["zero_tprune", "random_drop"] * 2
    for opening in openings:
        assert all(name == "method" or name.startswith(f"{opening['method']}.") for name in opening)
        assert space.build(drawn(space) | opening, DEIT_SMALL).method == opening["method"]
