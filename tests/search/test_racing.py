from __future__ import annotations

import numpy as np
import pytest

from objectives.metrics import Measurement
from objectives.statistics import pack, proportion_pct
from search.racing import Rivals

N = 100


def measurement(hits) -> Measurement:
    hits = np.asarray(hits, dtype=bool)
    return Measurement(
        n_images=len(hits),
        image_list_hash="list",
        values={"top1_pct": proportion_pct(int(hits.sum()), len(hits))},
        outcomes={"top1_pct": pack(hits)},
        macs=1,
        tokens_per_block=(1,),
        seconds=0.0,
    )


def right_on(n: int) -> Measurement:
    return measurement(np.arange(N) < n)


@pytest.fixture
def rivals() -> Rivals:
    return filled(is_front=True)


def filled(*, is_front: bool) -> Rivals:
    found = Rivals("top1", 0.05, is_front=is_front)
    for number, (gflops, n_right) in enumerate([(1.0, 50), (2.0, 80), (1.5, 80), (3.0, 70), (2.5, 90)]):
        found.add(number, gflops, right_on(n_right))
    return found


@pytest.mark.parametrize(
    ("gflops", "before", "rival"),
    [(0.5, 5, None), (1.0, 5, 0), (2.0, 5, 2), (2.0, 2, 1), (3.0, 5, 4), (3.0, 4, 2), (9.0, 0, None)],
)
def test_the_rival_is_the_best_told_that_costs_no_more(rivals, gflops, before, rival):
    race = rivals.race(gflops, before=before)
    assert (None if race is None else race.rival) == rival


def test_under_one_budget_the_rival_is_the_best_of_all_that_were_told():
    assert filled(is_front=False).race(1.0, before=5).rival == 4
    assert filled(is_front=False).race(1.0, before=4).rival == 2  # of equals the cheaper


def test_a_win_within_the_margin_is_no_win():
    found = Rivals("top1", 0.05, is_front=False, margin_pct=2.5)
    found.add(0, 1.0, right_on(90))
    race = found.race(1.0, before=1)
    assert race.margin == 2  # of 100 images, rounded down
    level = {"top1_pct": np.arange(98) < 90}  # two images are left, and it would have to be ahead by three
    assert race.is_lost(level)
    within = Rivals("top1", 0.05, is_front=False)
    within.add(0, 1.0, right_on(90))
    assert not within.race(1.0, before=1).is_lost(level)


@pytest.mark.parametrize("is_front", [False, True])
def test_the_rival_is_the_one_that_a_search_through_all_of_them_finds(is_front):
    chance = np.random.default_rng(5)
    found = Rivals("top1", 0.05, is_front=is_front)
    known = []
    for number in range(200):
        gflops, n_right = float(chance.integers(1, 12)), int(chance.integers(1, N))
        for before in (number, max(0, number - 20)):
            allowed = [each for each in known if each[2] < before and (each[1] <= gflops or not is_front)]
            best = min(allowed, default=(None, None, None))[2]
            race = found.race(gflops, before=before)
            assert (None if race is None else race.rival) == best
        if chance.random() < 0.7:  # the others were stopped
            found.add(number, gflops, right_on(n_right))
            known.append((-n_right, gflops, number))


def test_a_race_is_lost_by_falling_behind_on_the_same_images(rivals):
    race = rivals.race(3.0, before=5)  # trial 4, right on the first 90
    assert not race.is_lost({"top1_pct": np.ones(20, dtype=bool)})
    assert not race.is_lost({"top1_pct": np.arange(20) < 18})
    assert race.is_lost({"top1_pct": np.zeros(20, dtype=bool)})


def test_a_race_that_cannot_be_won_any_more_is_lost(rivals):
    race = rivals.race(3.0, before=5)
    behind = np.arange(96) < 85  # 5 fewer, 4 images left
    assert race.is_lost({"top1_pct": behind})
    ahead_at_last = np.concatenate([np.arange(90) < 88, np.ones(6, dtype=bool)])
    assert not race.is_lost({"top1_pct": ahead_at_last})


def test_what_is_expected_of_a_stopped_candidate_is_paired_with_its_rival(rivals):
    half = measurement(np.arange(50) % 2 == 0)  # 50 % of images of which the rival has 100 %
    assert rivals.expected(half, 4) == pytest.approx(90 - 50)
    assert rivals.expected(right_on(60), 4) == pytest.approx(60)
    assert rivals.n_images(4) == N
