from __future__ import annotations

import numpy as np
import pytest

from search.parzen import ParzenSpace
from search.tpe import MethodsTpe, Tpe, best, thinned, tpe_over
from spaces.domains import Choice, FloatRange, IntRange, Parameter

PARAMETERS = (Parameter("a", FloatRange(low=0.0, high=1.0)), Parameter("n", IntRange(low=1, high=9)))


def observed(n: int, *, is_front: bool) -> Tpe:
    tpe, rng = Tpe(PARAMETERS, is_front=is_front), np.random.default_rng(0)
    for _ in range(n):
        params = {"a": float(rng.uniform()), "n": int(rng.integers(1, 10))}
        merit = -abs(params["a"] - 0.3)
        tpe.observe(params, [merit, -params["a"]] if is_front else [merit])
    return tpe


@pytest.mark.parametrize("is_front", [False, True], ids=["one budget", "front"])
def test_after_many_trials_no_more_are_looked_at(is_front):
    counts = [tuple(map(len, observed(n, is_front=is_front).looked_at())) for n in (20, 1500, 4000)]
    assert counts[0] == (2, 18)
    assert counts[1] == counts[2] == (100 if is_front else 25, 200)


@pytest.mark.parametrize("is_front", [False, True], ids=["one budget", "front"])
def test_no_trial_is_both_good_and_another(is_front):
    good, others = observed(1500, is_front=is_front).looked_at()
    assert not set(good) & set(others)
    assert list(others) == sorted(others)  # the latest count most


def test_a_running_trial_keeps_the_next_away():
    tpe = observed(60, is_front=False)

    def mean_distance(running):
        drawn = [tpe.propose(running, np.random.RandomState(seed))["a"] for seed in range(40)]
        return np.mean([abs(each - 0.3) for each in drawn])

    assert mean_distance([{"a": 0.3, "n": n} for n in range(1, 10)] * 2) > 1.5 * mean_distance([])


def test_the_highest_merits_are_best_and_of_equal_ones_the_first():
    assert list(best(np.array([[5.0, 9.0, 9.0, 1.0, 9.0]]), 2)) == [1, 2]


def test_of_two_merits_the_best_are_found_layer_by_layer():
    for seed in range(20):
        merits = np.random.default_rng(seed).integers(0, 12, (2, 40)).astype(float)
        merits += np.random.default_rng(seed).permutation(40) / 1000  # no two trials are equal
        left, layers = set(range(40)), []
        while left:
            layer = {
                one for one in left if not any((merits[:, two] >= merits[:, one]).all() for two in left if two != one)
            }
            layers.append(layer)
            left -= layer
        whole = layers[0] | layers[1]
        assert set(best(merits, len(whole))) == whole
        part = set(best(merits, len(whole) + 2))
        assert whole < part <= whole | layers[2]


def test_thinning_keeps_both_ends_and_what_is_few():
    assert list(thinned(4, 9)) == [0, 1, 2, 3]
    positions = thinned(5000, 200)
    assert len(set(positions)) == 200
    assert (positions[0], positions[-1]) == (0, 4999)
    assert set(np.diff(positions)) <= {25, 26}


def test_good_trials_are_followed():
    tpe = observed(200, is_front=False)
    drawn = [tpe.propose([], np.random.RandomState(seed))["a"] for seed in range(30)]
    assert np.mean([abs(each - 0.3) for each in drawn]) < 0.1


# Several methods

TARGET = Parameter("target", FloatRange(low=0.0, high=1.0))
OF_METHODS = (
    TARGET,
    Parameter("method", Choice(values=("good", "bad", "new"))),
    Parameter("good.a", FloatRange(low=0.0, high=1.0), "good"),
    Parameter("bad.a", FloatRange(low=0.0, high=1.0), "bad"),
    Parameter("bad.n", IntRange(low=1, high=9), "bad"),
    Parameter("new.a", FloatRange(low=0.0, high=1.0), "new"),
)


def over_methods(n: int = 60, *, is_front: bool = False, seed_of_inactive: int = 0, n_new: int = 0) -> MethodsTpe:
    """Observe trials of two methods, ``good`` and ``bad``, and first some of one that is better than both."""
    tpe, rng = tpe_over(OF_METHODS, is_front=is_front), np.random.default_rng(1)
    inactive = np.random.default_rng(seed_of_inactive)
    for number in range(n):
        method = "new" if number < n_new else ("good", "bad")[number % 2]
        params = {"target": float(rng.uniform()), "method": method}
        for each in OF_METHODS[2:]:
            draws = rng if each.method == method else inactive
            params[each.name] = int(draws.integers(1, 10)) if each.name == "bad.n" else float(draws.uniform())
        merit = {"new": 1.0, "good": 0.0, "bad": -1.0}[method] - abs(params[f"{method}.a"] - 0.3)
        tpe.observe(params, [merit, -params["target"]] if is_front else [merit])
    return tpe


def proposals(tpe, running=(), n: int = 40) -> list[dict]:
    return [tpe.propose(running, np.random.RandomState(seed)) for seed in range(n)]


def test_parameters_of_one_method_take_the_plain_tpe():
    assert type(tpe_over(PARAMETERS, is_front=False)) is Tpe
    assert type(tpe_over(OF_METHODS, is_front=False)) is MethodsTpe


@pytest.mark.parametrize("is_front", [False, True], ids=["one budget", "front"])
def test_what_other_methods_drew_changes_no_proposal(is_front):
    one, two = (over_methods(is_front=is_front, seed_of_inactive=seed) for seed in (2, 3))
    assert proposals(one) == proposals(two)


@pytest.mark.parametrize("is_front", [False, True], ids=["one budget", "front"])
def test_a_proposal_holds_the_method_its_parameters_and_those_of_all(is_front):
    for proposed in proposals(over_methods(is_front=is_front, n_new=10)):
        own = {each.name for each in OF_METHODS if each.method in (None, proposed["method"])}
        assert proposed.keys() == own


def test_methods_are_proposed_as_often_as_the_kernels_about_good_trials_have_it():
    tpe = over_methods(n_new=2)
    good, _ = tpe._all.looked_at()
    space = ParzenSpace(OF_METHODS[1:2], is_joint=True)
    kernels = space._kernels(np.array([tpe._all._rows[trial] for trial in good]), np.ones(len(good)))
    np.testing.assert_allclose(tpe.shares(), np.exp(space._log_density(kernels, np.arange(3.0)[:, None]))[:, 0])
    assert tpe.shares().sum() == pytest.approx(1.0)
    drawn = [each["method"] for each in proposals(tpe, n=400)]
    np.testing.assert_allclose([drawn.count(name) / 400 for name in ("good", "bad", "new")], tpe.shares(), atol=0.08)


def test_the_better_method_is_proposed_most_and_near_its_good_trials():
    proposed = [each for each in proposals(over_methods()) if each["method"] == "good"]
    assert len(proposed) > 20
    assert np.mean([abs(each["good.a"] - 0.3) for each in proposed]) < 0.1


def test_a_method_with_few_trials_is_left_to_chance():
    for n_new, names in ((4, {"method"}), (5, {"method", "target", "new.a"})):
        of_new = [each for each in proposals(over_methods(n_new=n_new)) if each["method"] == "new"]
        assert of_new
        assert all(each.keys() == names for each in of_new)


def test_a_running_trial_keeps_only_its_own_methods_next_away():
    tpe = over_methods()
    running = [{"target": 0.5, "method": "bad", "bad.a": a / 10, "bad.n": 5} for a in range(10)]
    pairs = list(zip(proposals(tpe, running), proposals(tpe), strict=True))
    of_good = [(beside, alone) for beside, alone in pairs if beside["method"] == alone["method"] == "good"]
    assert of_good
    assert all(beside == alone for beside, alone in of_good)


def test_a_method_without_parameters_is_proposed_alone():
    tpe = tpe_over((OF_METHODS[1], OF_METHODS[2]), is_front=False)
    for number in range(20):
        tpe.observe({"method": ("good", "bad")[number % 2], "good.a": 0.5}, [float(number % 2)])
    assert {"method": "bad"} in proposals(tpe)


def described(params) -> float:
    return params["a"] + params["n"] / 9


def profiles(draws):
    return np.array([[described(each)] for each in draws])


def guided(n: int, **options) -> Tpe:
    tpe, rng = Tpe(PARAMETERS, is_front=False, profiles=profiles, **options), np.random.default_rng(0)
    for _ in range(n):
        params = {"a": float(rng.uniform()), "n": int(rng.integers(1, 10))}
        tpe.observe(params, [-abs(described(params) - 1.2)])
    return tpe


def test_what_draws_come_to_decides_between_them():
    blind = Tpe(PARAMETERS, is_front=False)
    rng = np.random.default_rng(0)
    for _ in range(25):
        params = {"a": float(rng.uniform()), "n": int(rng.integers(1, 10))}
        blind.observe(params, [-abs(described(params) - 1.2)])

    def mean_distance(tpe):
        drawn = [tpe.propose([], np.random.RandomState(seed)) for seed in range(60)]
        return np.mean([abs(described(each) - 1.2) for each in drawn])

    assert mean_distance(guided(25)) < 0.6 * mean_distance(blind)


def test_what_is_out_already_is_not_drawn_again():
    tpe = guided(12)
    for seed in range(20):
        first = tpe.propose([], np.random.RandomState(seed))
        assert tpe.propose([first], np.random.RandomState(seed)) != first


def test_where_a_trial_missed_the_budget_profiles_are_not_asked():
    def refuse(draws):
        raise AssertionError("described")

    tpe = Tpe(PARAMETERS, is_front=False, profiles=refuse)
    for a in (0.1, 0.5, 0.9):
        tpe.observe({"a": a, "n": 3}, [a], missed_by=a)
    assert tpe.propose([], np.random.RandomState(0)).keys() == {"a", "n"}


def test_of_several_methods_each_is_described_with_its_name():
    parameters = (
        Parameter("method", Choice(values=("one", "two"))),
        Parameter("one.a", FloatRange(low=0.0, high=1.0), method="one"),
        Parameter("two.a", FloatRange(low=0.0, high=1.0), method="two"),
    )
    seen = set()

    def describe(draws):
        seen.update((each["method"], *sorted(each.keys() - {"method"})) for each in draws)
        return np.array([[each[f"{each['method']}.a"]] for each in draws])

    tpe, rng = MethodsTpe(parameters, is_front=False, profiles=describe), np.random.default_rng(0)
    for turn in range(20):
        params = {"method": ("one", "two")[turn % 2], "one.a": rng.uniform(), "two.a": rng.uniform()}
        tpe.observe(params, [params["one.a"]])
    for seed in range(12):
        tpe.propose([], np.random.RandomState(seed))
    assert seen == {("one", "one.a"), ("two", "two.a")}
