from __future__ import annotations

from dataclasses import replace

import pytest

from spaces import Budget, BudgetUnsatisfiable, InvalidInput, LatencyBudget, Problem, dense_cost, parse_space
from spaces.problem import TARGET
from tests.spaces.test_layered_space import draw
from tests.tiny import DEIT_SMALL

DENSE = dense_cost(DEIT_SMALL).gflops


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("3.0", Budget(None, 3.0)),
        ("50%", Budget(None, DENSE / 2)),
        ("2:4", Budget(2.0, 4.0)),
        ("50%:3.5", Budget(DENSE / 2, 3.5)),
    ],
)
def test_budgets_are_read_as_people_write_them(text, budget):
    assert Budget.parse(text, DENSE) == budget


@pytest.mark.parametrize("text", ["", "three", "-1", "0", "nan", "inf", "4:2", "2:2", "%", ":3", "1:2:3"])
def test_what_reads_as_no_budget_is_refused(text):
    with pytest.raises(InvalidInput, match="a budget"):
        Budget.parse(text, DENSE)


@pytest.mark.parametrize(
    ("text", "budget"),
    [("4.5", LatencyBudget(None, 4.5)), ("50%", LatencyBudget(None, 4.0)), ("25%:6", LatencyBudget(2.0, 6.0))],
)
def test_budgets_in_ms_are_read_likewise(text, budget):
    assert LatencyBudget.parse(text, 8.0) == budget
    with pytest.raises(InvalidInput, match="a budget in ms is"):
        LatencyBudget.parse("4 ms", 8.0)


def problem(text: str, **settings) -> Problem:
    return Problem(parse_space("zero_tprune", settings=settings), DEIT_SMALL, Budget.parse(text, DENSE))


@pytest.mark.parametrize("text", ["1%", "0.1:0.4", "5:6"])
def test_an_unsatisfiable_budget_names_the_least_and_the_most(text):
    with pytest.raises(BudgetUnsatisfiable, match=r"cost 0\.5\d+ to 4\.608 GFLOPs on deit_small"):
        problem(text).require_satisfiable()


@pytest.mark.parametrize("text", ["12%", "3", "100%", "0.6:9"])
def test_a_satisfiable_budget_passes(text):
    problem(text).require_satisfiable()


def test_a_front_draws_its_target_and_meets_it():
    front = problem("2:4", s=0)
    values = draw(front.space) | {TARGET: 2.7}
    assert TARGET in {parameter.name for parameter in front.parameters()}
    assert 2.67 <= front.propose(values).cost.gflops <= 2.7


def test_a_proposal_says_what_the_draw_would_have_cost():
    proposal = problem("1.0").propose(draw(problem("1.0").space))
    assert proposal.drawn_gflops > 1.0 >= proposal.cost.gflops


@pytest.mark.parametrize("is_front", [True, False])
def test_where_only_measuring_tells_what_is_enough_the_cost_to_aim_at_is_drawn(is_front):
    spread = problem("2.0").spread(is_front=is_front)
    assert spread.budget == Budget(problem("2.0").cost_range()[0], 2.0)
    assert TARGET in {parameter.name for parameter in spread.parameters()}
    assert spread.is_front is is_front
    assert not problem("2.0").is_front
    least = draw(spread.space) | {TARGET: spread.budget.low_gflops}
    assert spread.propose(least).cost.gflops == pytest.approx(spread.budget.low_gflops)
    assert problem("1:2").spread(is_front=is_front).budget == Budget(1.0, 2.0)


def test_a_cost_to_aim_at_is_one_that_every_method_has():
    both = Problem(parse_space(("tome", "bat"), "paper", {}), DEIT_SMALL, Budget(None, DENSE))
    least = [replace(both, space=space).cost_range()[0] for space in both.space.spaces]
    assert both.spread(is_front=True).budget.low_gflops == max(least) > min(least)
