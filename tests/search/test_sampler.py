from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from search import tpe
from search.config import SAMPLERS
from search.sampler import Asked, Sampler, Told
from spaces.domains import Choice, FloatRange, IntRange, Parameter

PARAMETERS = (
    Parameter("a", FloatRange(low=0.0, high=1.0)),
    Parameter("b", FloatRange(low=0.001, high=10.0, log=True)),
    Parameter("n", IntRange(low=1, high=9)),
    Parameter("c", Choice(values=("x", "y", True))),
)
OF_METHODS = (
    Parameter("method", Choice(values=("one", "two"))),
    *(Parameter(f"{method}.{each.name}", each.domain, method) for method in ("one", "two") for each in PARAMETERS),
)
LOOK_AHEAD = 4
N = {"random": 30, "tpe": 40, "nsga2": 75, "gp": 20}


def merit(params) -> float:
    if "method" in params:
        own = f"{params['method']}."
        params = {name.removeprefix(own): value for name, value in params.items()}
    return -((params["a"] - 0.3) ** 2) - math.log(params["b"]) ** 2 / 50 - abs(params["n"] - 4) / 9


def told_for(asked: Asked) -> Told:
    failed = asked.number % 11 == 7
    return Told(None if failed else merit(asked.params), asked.params.get("a", asked.params.get("one.a")))


def make(kind: str, *, seed: int = 1, is_front: bool = False, parameters=PARAMETERS) -> Sampler:
    return Sampler(kind, parameters, seed=seed, is_front=is_front)


def run(sampler: Sampler, asked: list[Asked], until: int) -> list[Asked]:
    """Go on as the loop does: exactly one result is told before each further ask."""
    for number in range(len(asked), until):
        if number >= LOOK_AHEAD:
            sampler.tell(number - LOOK_AHEAD, told_for(asked[number - LOOK_AHEAD]))
        asked.append(sampler.ask(number))
    return asked


def as_rows(asked: list[Asked]) -> list[Asked]:
    """Write the draws down and read them again, as a stop and a resume do."""
    return [Asked(each.number, *json.loads(json.dumps([each.params, each.attrs]))) for each in asked]


@pytest.mark.parametrize("is_front", [False, True], ids=["one budget", "front"])
@pytest.mark.parametrize("kind", SAMPLERS)
def test_the_same_seed_and_results_give_the_same_proposals(kind, is_front):
    n = N[kind] // 2
    first = run(make(kind, is_front=is_front), [], n)
    assert run(make(kind, is_front=is_front), [], n) == first
    assert run(make(kind, seed=2, is_front=is_front), [], 3) != first[:3]


@pytest.mark.parametrize("is_front", [False, True], ids=["one budget", "front"])
@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_restored_sampler_goes_on_as_if_it_had_never_stopped(kind, is_front, monkeypatch):
    monkeypatch.setattr(tpe, "_MOST_OTHERS", 10)  # so that some trials are no longer looked at
    n = N[kind]
    whole = run(make(kind, is_front=is_front), [], n)
    stopped = make(kind, is_front=is_front)
    asked = as_rows(run(stopped, [], n // 2 + 3))
    n_told = len(asked) - LOOK_AHEAD
    restored = make(kind, is_front=is_front)
    restored.restore([(each, told_for(each)) for each in asked[:n_told]], asked[n_told:], stopped.study_attrs)
    assert run(restored, list(asked), n) == whole
    assert all(type(each.params["n"]) is int for each in whole)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_sampler_draws_all_parameters_of_several_methods_and_goes_on_after_a_stop(kind):
    def fresh():
        return make(kind, parameters=OF_METHODS)

    n = N[kind] // 2 + 6
    whole = run(fresh(), [], n)
    assert all(each.params.keys() == {each.name for each in OF_METHODS} for each in whole)
    assert {each.params["method"] for each in whole} == {"one", "two"}
    stopped = fresh()
    asked = as_rows(run(stopped, [], n - 4))
    n_told = len(asked) - LOOK_AHEAD
    restored = fresh()
    restored.restore([(each, told_for(each)) for each in asked[:n_told]], asked[n_told:], stopped.study_attrs)
    assert run(restored, list(asked), n) == whole


@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_parameter_is_drawn_within_its_domain(kind):
    for asked in run(make(kind), [], 12):
        assert 0 <= asked.params["a"] <= 1
        assert 0.001 <= asked.params["b"] <= 10
        assert asked.params["n"] in range(1, 10)
        assert asked.params["c"] in ("x", "y", True)


def test_what_is_told_is_learnt_from():
    asked = run(make("tpe"), [], 60)
    early, late = ([merit(each.params) for each in part] for part in (asked[:20], asked[40:]))
    assert sum(late) / 20 > sum(early) / 20


def test_numbers_must_come_in_order():
    sampler = make("random")
    sampler.ask(0)
    with pytest.raises(RuntimeError, match="trial 2 was to be drawn, but the sampler stands at 1"):
        sampler.ask(2)


OPENINGS = ({"a": 0.1, "n": 2}, {"a": 0.9})


def test_tpe_begins_with_its_openings_and_draws_the_rest_of_them():
    first, second, third = run(Sampler("tpe", PARAMETERS, seed=1, is_front=False, openings=OPENINGS), [], 3)
    assert (first.params["a"], first.params["n"], second.params["a"]) == (0.1, 2, 0.9)
    assert third.params["a"] not in (0.1, 0.9)
    assert all(each.params.keys() == {parameter.name for parameter in PARAMETERS} for each in (first, second))
    other = run(Sampler("tpe", PARAMETERS, seed=2, is_front=False, openings=OPENINGS), [], 1)[0]
    assert other.params["a"] == 0.1
    assert other.params["b"] != first.params["b"]


@pytest.mark.parametrize("kind", [kind for kind in SAMPLERS if kind != "tpe"])
def test_other_samplers_begin_as_they_would(kind):
    opened = Sampler(kind, PARAMETERS, seed=1, is_front=False, openings=OPENINGS)
    assert run(opened, [], 6) == run(make(kind), [], 6)


@pytest.mark.parametrize("is_front", [False, True], ids=["one budget", "front"])
def test_tpe_learns_from_draws_as_repair_left_them_also_after_a_stop(is_front):
    def fresh() -> Sampler:
        return Sampler("tpe", PARAMETERS, seed=1, is_front=is_front, openings=OPENINGS)

    def repaired(asked: Asked) -> Asked:
        return replace(asked, settled={**asked.params, "a": 1 - asked.params["a"]})

    def go_on(sampler: Sampler, asked: list[Asked], until: int) -> list[Asked]:
        for number in range(len(asked), until):
            if number >= LOOK_AHEAD:
                sampler.tell(number - LOOK_AHEAD, told_for(asked[number - LOOK_AHEAD]))
            asked.append(repaired(sampler.ask(number)))
            sampler.settle(number, asked[number].settled)
        return asked

    whole = go_on(fresh(), [], 40)
    # What is best is drawn with a = 0.3, and looks like 0.7.
    assert sum(each.params["a"] for each in whole[20:]) / 20 > 0.5
    restored = fresh()
    n_told = 26 - LOOK_AHEAD
    restored.restore([(each, told_for(each)) for each in whole[:n_told]], whole[n_told:26], {})
    assert go_on(restored, whole[:26], 40) == whole
