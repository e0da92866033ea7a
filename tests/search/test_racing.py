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
    found = Rivals("top1", is_front=is_front)
    for number, (gflops, n_right) in enumerate([(1.0, 50), (2.0, 80), (1.5, 80), (3.0, 70), (2.5, 90)]):
        found.add(number, gflops, right_on(n_right))
    return found


def hits(race, outcomes, n_seen: int):
    return {"top1_pct": np.asarray(outcomes, dtype=bool)[race.visits.order[:n_seen]]}


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


@pytest.mark.parametrize("is_front", [False, True])
def test_rival_and_guides_are_those_that_a_search_through_all_of_them_finds(is_front):
    chance = np.random.default_rng(5)
    found = Rivals("top1", is_front=is_front)
    known = []
    for number in range(200):
        gflops, outcomes = float(chance.integers(1, 12)), chance.random(N) < chance.random()
        for before in (number, max(0, number - 20)):
            allowed = sorted(each[:4] for each in known if each[2] < before and (each[1] <= gflops or not is_front))
            race = found.race(gflops, before=before)
            assert (None if race is None else race.rival) == (allowed[0][2] if allowed else None)
            if race is not None:
                told = [each[3] for each in known if each[2] < before]  # whatever they cost
                assert race.visits.hardest_first.tolist() == sorted(
                    range(N),
                    key=lambda place: (
                        *(not each[3][place] for each in allowed[:4]),
                        -sum(mistakes[place] for mistakes in told),
                    ),
                )
        if chance.random() < 0.7:  # the others were stopped
            found.add(number, gflops, measurement(outcomes))
            known.append((-int(outcomes.sum()), gflops, number, (~outcomes).tolist()))


@pytest.mark.parametrize("margin_pct", [0.0, 2.5])
def test_a_race_is_lost_just_when_nothing_can_win_it_any_more(margin_pct):
    chance = np.random.default_rng(7)
    margin = int(margin_pct)  # of 100 images, rounded down
    n_lost = 0
    for _ in range(300):
        of_rival = chance.random(N) < chance.uniform(0.5, 1)
        found = Rivals("top1", is_front=False, margin_pct=margin_pct)
        found.add(0, 1.0, measurement(of_rival))
        race = found.race(1.0, before=1)
        outcomes = chance.random(N) < chance.uniform(0.5, 1)
        for n_seen in range(10, N, 10):
            most = int(outcomes[race.visits.order[:n_seen]].sum()) + N - n_seen  # if all the others are right
            is_lost = race.is_lost(hits(race, outcomes, n_seen))
            assert is_lost == (n_seen >= 32 and most <= of_rival.sum() + margin)
            n_lost += is_lost
    assert n_lost > 100


@pytest.mark.parametrize("is_front", [False, True])
def test_the_best_are_the_same_with_races_and_without(is_front):
    """Candidates that err alike: some images are hard for all of them."""
    chance = np.random.default_rng(8)
    difficulty = chance.random(N) ** 3
    found, known, n_stopped, n_seen_in_all = Rivals("top1", is_front=is_front), [], 0, 0
    for number in range(300):
        gflops = float(chance.integers(1, 12))
        outcomes = chance.random(N) > difficulty * chance.uniform(0.2, 2)
        race = found.race(gflops, before=number - 3)
        looks = [] if race is None else [n for n in range(8, N, 8) if race.is_lost(hits(race, outcomes, n))]
        known.append((gflops, int(outcomes.sum()), not looks))
        n_seen_in_all += looks[0] if looks else N
        if not looks:
            found.add(number, gflops, measurement(outcomes))
        n_stopped += bool(looks)
    assert n_stopped > 150
    assert n_seen_in_all < 0.75 * 300 * N
    for limit in sorted({gflops for gflops, *_ in known}) if is_front else [12.0]:
        allowed = [each for each in known if each[0] <= limit]
        assert max(n for _, n, is_whole in allowed if is_whole) == max(n for _, n, _ in allowed)


def test_nobody_is_stopped_before_the_sample_tells_how_good_it_is(rivals):
    race = rivals.race(3.0, before=5)
    nothing = np.zeros(N, dtype=bool)
    assert [race.is_lost(hits(race, nothing, n_seen)) for n_seen in (16, 31, 32)] == [False, False, True]


@pytest.mark.parametrize(("n_images", "n_sample"), [(20, 20), (512, 32), (1024, 32), (5000, 156)])
def test_the_sample_is_some_images_and_of_many_a_share(n_images, n_sample):
    found = Rivals("top1", is_front=False)
    found.add(0, 1.0, measurement(np.ones(n_images)))
    assert found.race(1.0, before=1).visits.n_sample == n_sample
    assert found.n_images(0) == n_images
