from __future__ import annotations

import numpy as np
import pytest

from search.tpe import Tpe, best, thinned
from spaces.domains import FloatRange, IntRange, Parameter

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
