"""The order in which images are seen, and what those that were seen say of all."""

from __future__ import annotations

import numpy as np
import pytest

from objectives.statistics import pack
from objectives.visits import Part, Visits


def visits(n: int, n_sample: int, seed: int = 0) -> Visits:
    return Visits(n_sample, np.random.default_rng(seed).permutation(n).astype(np.int32))


def test_the_sample_comes_first_and_then_the_hardest():
    hardest_first = np.array([7, 1, 5, 0, 6, 2, 4, 3], dtype=np.int32)
    assert Visits(3, hardest_first).order.tolist() == [0, 1, 2, 7, 5, 6, 4, 3]


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


@pytest.mark.parametrize("n_seen", [48, 120, 300])
def test_the_estimate_has_no_bias_and_its_interval_covers_the_truth(n_seen):
    """The list is in random order, as studies shuffle it; mistakes are likelier on what counts as hard."""
    chance, n = np.random.default_rng(3), 512
    difficulty = chance.random(n) ** 6
    hits = chance.random(n) > difficulty
    truth, values, covered = 100 * hits.mean(), [], 0
    for _ in range(2000):
        order = chance.permutation(n)
        part = Visits(48, np.argsort(-difficulty[order]).astype(np.int32)).part(n_seen)
        found = part.proportion_pct(hits[order][part.places])
        values.append(found.value)
        covered += found.low <= truth <= found.high
    assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / np.sqrt(len(values)))
    assert covered / len(values) >= 0.95
    plain = np.sqrt(truth * (100 - truth) / 48)
    assert np.std(values) < (plain if n_seen == 48 else 0.7 * plain)


def test_a_mean_is_estimated_as_a_proportion_is():
    chance = np.random.default_rng(4)
    part, hits = visits(80, 20).part(45), chance.random(80) < 0.6
    seen = hits[part.places]
    assert 100 * part.mean(seen.astype(float)).value == pytest.approx(part.proportion_pct(seen).value)
    same = part.mean(np.full(45, 3.5))
    assert (same.value, same.low, same.high) == pytest.approx((3.5, 3.5, 3.5))


def test_where_the_sample_has_none_of_the_others_nothing_is_claimed_of_them():
    part = Part(n_listed=10, n_sample=1, hardest=pack(np.arange(10) < 4))
    found = part.proportion_pct(np.array([True, True, True, False]))
    assert (found.value, found.low, found.high) == pytest.approx((75, 30, 90))
    assert part.mean(np.ones(4)).low is None


def test_an_estimate_may_be_made_in_the_order_of_seeing():
    made, hits = visits(64, 16), np.random.default_rng(6).random(64) < 0.7
    part = made.part(40)
    assert made.estimate_pct(hits[made.order[:40]]) == part.proportion_pct(hits[part.places])
