"""The order in which images are seen, and what those that were seen say of all."""

from __future__ import annotations

import numpy as np
import pytest

from objectives.statistics import pack, unpack
from objectives.visits import Part, Visits


def visits(n: int, n_sample: int, seed: int = 0) -> Visits:
    return Visits(n_sample, np.random.default_rng(seed).random((4, n)) < 0.3)


def test_the_sample_comes_first_and_then_the_hardest():
    mistakes = np.array([2, 4, 0, 0, 0, 3, 1, 4]) > np.arange(4)[:, None]
    assert Visits(3, mistakes).hardest_first.tolist() == [1, 7, 5, 0, 6, 2, 3, 4]
    assert Visits(3, mistakes).order.tolist() == [0, 1, 2, 7, 5, 6, 3, 4]


def test_the_best_guide_decides_first_and_all_that_are_known_last():
    mistakes = np.array([[0, 1, 1, 0, 0, 0], [1, 0, 1, 0, 0, 0]], dtype=bool)
    assert Visits(0, mistakes).hardest_first.tolist() == [2, 1, 0, 3, 4, 5]
    assert Visits(0, mistakes, np.array([9, 1, 2, 1, 3, 3])).hardest_first.tolist() == [2, 1, 0, 4, 5, 3]


@pytest.mark.parametrize("n_others", [0, 5])
def test_each_guide_is_judged_by_what_the_rest_find_hard(n_others):
    chance = np.random.default_rng(7)
    others, mistakes = chance.random((n_others, 60)) < 0.3, chance.random((3, 60)) < 0.2
    part = Visits(8, mistakes, mistakes.sum(axis=0) + others.sum(axis=0)).part(30)
    n_hard, n_on_hard = int(unpack(part.hardest, 60).sum()), 0
    for guide in range(3):
        rest = np.delete(mistakes, guide, axis=0)
        doubtful = rest.sum(axis=0) + others.sum(axis=0)
        hard = sorted(range(60), key=lambda place: (*~rest[:, place], -doubtful[place]))[:n_hard]
        n_on_hard += int(mistakes[guide][hard].sum())
    assert 0 < n_on_hard < mistakes.sum()
    assert part.rarity == pytest.approx((mistakes.sum() - n_on_hard) / (60 - n_hard) * n_hard / n_on_hard)


@pytest.mark.parametrize("n_sample", [0, 1, 9, 40])
def test_a_part_is_what_was_seen(n_sample):
    made = visits(40, n_sample)
    assert sorted(made.order) == list(range(40))
    for n_seen in range(1, 41):
        assert made.part(n_seen).places.tolist() == sorted(made.order[:n_seen])


def test_all_images_give_the_proportion_itself():
    hits = np.random.default_rng(1).random(50) < 0.7
    found = visits(50, 10).part(50).proportion_pct(hits)
    assert (found.value, found.low, found.high) == pytest.approx([100 * hits.mean()] * 3)


def test_the_first_images_alone_are_a_plain_sample():
    hits = np.arange(20) < 13
    found = visits(200, 50).part(20).proportion_pct(hits)
    assert found.value == 65
    assert found.low == pytest.approx(40.78, abs=0.01)  # Clopper and Pearson's interval
    assert found.high == pytest.approx(84.61, abs=0.01)


def test_nothing_is_estimated_that_cannot_be():
    chance = np.random.default_rng(2)
    for _ in range(300):
        n = int(chance.integers(20, 60))
        made, hits = visits(n, int(chance.integers(1, 12)), int(chance.integers(1000))), chance.random(n) < 0.8
        part = made.part(int(chance.integers(1, n + 1)))
        seen = hits[part.places]
        found = part.proportion_pct(seen)
        assert 100 * seen.sum() / n - 1e-9 <= found.low <= found.value + 1e-9
        assert found.value - 1e-9 <= found.high <= 100 * (1 - (~seen).sum() / n) + 1e-9


@pytest.mark.parametrize("n_seen", [48, 96, 200, 400])
@pytest.mark.parametrize("skill", [0.5, 1.0, 2.0])
def test_the_estimate_is_near_the_truth_and_its_interval_covers_it(n_seen, skill):
    """The list is in random order, as studies shuffle it; a candidate errs where others do, less or more often.

    Who errs much more often than others do also does so where they never did, and seems a little better than it is.
    """
    chance, n = np.random.default_rng(3), 512
    difficulty = chance.random(n) ** 6
    hits = chance.random(n) > skill * difficulty
    mistakes = chance.random((4, n)) < difficulty
    truth, values, covered = 100 * hits.mean(), [], 0
    for _ in range(1000):
        order = chance.permutation(n)
        part = Visits(48, mistakes[:, order]).part(n_seen)
        found = part.proportion_pct(hits[order][part.places])
        values.append(found.value)
        covered += found.low <= truth <= found.high
    assert covered / len(values) >= 0.95
    plain = np.sqrt(truth * (100 - truth) / 48)  # what the sample alone would be off by
    off_by = np.sqrt(np.mean((np.array(values) - truth) ** 2))
    assert off_by < (1.05 if n_seen == 48 or skill == 2 else 0.85) * plain
    assert abs(np.mean(values) - truth) < (3 if skill == 2 else 2)


def test_few_images_of_the_sample_among_the_others_decide_little():
    """Of 24 others one is in the sample, and wrong."""
    part = Part(n_listed=100, n_sample=1, hardest=pack((np.arange(100) > 0) & (np.arange(100) < 76)), rarity=0.05)
    found = part.proportion_pct(np.concatenate(([False], np.arange(75) % 15 > 0)))
    assert found.value == pytest.approx(70 + 25 * (1 - (1 + 16 * 0.05 * 5 / 75) / 17))
    assert found.low == pytest.approx(70)
    assert found.high == pytest.approx(94)  # six mistakes are certain


def test_mistakes_are_as_rare_as_those_of_each_where_the_rest_make_none():
    chance = np.random.default_rng(9)
    is_hard = np.arange(4000) % 10 == 0
    mistakes = chance.random((4, 4000)) < np.where(is_hard, 0.5, 0.02)
    part = Visits(0, mistakes).part(400)
    elsewhere = np.concatenate([each[~np.isin(np.arange(4000), part.places)] for each in mistakes]).mean()
    assert elsewhere < 0.018  # of 0.02, by being chosen for it
    assert 0.02 < part.rarity * 0.5 < 0.05
    assert visits(60, 5).part(60).rarity is None
    assert Visits(5, np.ones((1, 60), dtype=bool)).part(30).rarity is None


def test_a_mean_weighs_the_sample_for_the_others():
    chance = np.random.default_rng(4)
    part, hits = visits(80, 20).part(45), chance.random(80) < 0.6
    seen = hits[part.places]
    expected = hits[unpack(part.hardest, 80)].sum() + (~unpack(part.hardest, 80)).sum() * np.mean(
        [hits[place] for place in part.places if not unpack(part.hardest, 80)[place]]
    )
    assert 80 * part.mean(seen.astype(float)).value == pytest.approx(expected)
    same = part.mean(np.full(45, 3.5))
    assert (same.value, same.low, same.high) == pytest.approx((3.5, 3.5, 3.5))


def test_where_the_sample_has_none_of_the_others_only_what_is_expected_is_left():
    part = Part(n_listed=10, n_sample=1, hardest=pack(np.arange(10) < 4), rarity=0.5)
    found = part.proportion_pct(np.array([True, True, True, False]))
    assert (found.value, found.low, found.high) == pytest.approx((30 + 60 * (1 - 0.125), 30, 90))
    assert part.mean(np.ones(4)).low is None


def test_an_estimate_may_be_made_in_the_order_of_seeing():
    made, hits = visits(64, 16), np.random.default_rng(6).random(64) < 0.7
    part = made.part(40)
    assert made.estimate_pct(hits[made.order[:40]]) == part.proportion_pct(hits[part.places])
