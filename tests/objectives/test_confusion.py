"""Confusion counts, and what follows from them."""

from __future__ import annotations

import numpy as np
import pytest

from objectives.confusion import Confusions, compare_miou

TRUTH = np.array([[0, 0, 1], [1, 2, -1]], dtype=np.int16)
FOUND = np.array([[0, 1, 1], [1, 2, 0]])


def random_images(n: int, *, right: float, seed: int = 0) -> Confusions:
    """Images of four classes, each pixel right with a probability that differs between images."""
    generator = np.random.default_rng(seed)
    pairs = []
    for _ in range(n):
        truth = generator.integers(0, 4, (6, 6)).astype(np.int16)
        is_right = generator.random((6, 6)) < right * generator.uniform(0.8, 1.0)
        pairs.append((truth, np.where(is_right, truth, generator.integers(0, 4, (6, 6)))))
    return Confusions.of(pairs, 4)


def test_a_small_case_by_hand():
    counts = Confusions.of([(TRUTH, FOUND)], 4)
    assert counts.matrix().tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(counts.iou_pct(), [50, 200 / 3, 100, np.nan])
    assert counts.miou_pct().value == pytest.approx((50 + 200 / 3 + 100) / 3)  # no pixel is, or is called, of class 3
    assert counts.pixel_accuracy_pct().value == pytest.approx(80)


def test_iou_is_taken_over_all_images_together():
    both = Confusions.of([(TRUTH, FOUND), (FOUND.astype(np.int16), FOUND)], 3)
    assert both.matrix().sum() == 11
    assert both.matrix().tolist() == [[3, 1, 0], [0, 5, 0], [0, 0, 2]]


def test_bytes_give_back_the_counts():
    counts = random_images(20, right=0.7)
    again = Confusions.from_bytes(counts.to_bytes())
    assert (again.n_classes, again.n_images) == (4, 20)
    for name in ("image", "pair", "count"):
        assert np.array_equal(getattr(again, name), getattr(counts, name))


def test_an_image_without_a_pixel_that_counts_is_remembered():
    nothing = (np.full((2, 2), -1, dtype=np.int16), np.zeros((2, 2), dtype=np.int64))
    again = Confusions.from_bytes(Confusions.of([(TRUTH, FOUND), nothing], 4).to_bytes())
    assert again.n_images == 2
    assert again.miou_pct().value == Confusions.of([(TRUTH, FOUND)], 4).miou_pct().value


def test_sparse_counts_are_small():
    generator = np.random.default_rng(0)
    truth = np.kron(generator.integers(0, 150, (2, 2)), np.ones((60, 60))).astype(np.int16)
    counts = Confusions.of([(truth, truth.astype(np.int64))] * 100, 150)
    assert len(counts.to_bytes()) < 100 * 4 * 3


def test_batches_join_to_the_whole():
    pairs = [(TRUTH, FOUND), (FOUND.astype(np.int16), FOUND), (TRUTH, FOUND)]
    whole = Confusions.of(pairs, 4)
    joined = Confusions.joined([Confusions.of(pairs[:2], 4), Confusions.of(pairs[2:], 4)])
    assert np.array_equal(joined.image, whole.image)
    assert np.array_equal(joined.matrix(), whole.matrix())


def test_the_interval_covers_the_mean_of_other_images_about_as_often_as_it_says():
    truth = random_images(4000, right=0.7, seed=99).miou_pct().value
    estimates = [random_images(60, right=0.7, seed=seed).miou_pct() for seed in range(60)]
    covered = sum(each.low <= truth <= each.high for each in estimates)
    assert 49 <= covered <= 60  # 57 expected; below 49 has a chance of one in 2,000


def test_an_interval_holds_its_value_and_narrows_with_images():
    few, many = random_images(20, right=0.7).miou_pct(), random_images(500, right=0.7).miou_pct()
    assert few.low <= few.value <= few.high
    assert many.high - many.low < 0.5 * (few.high - few.low)


def test_a_comparison_with_itself_finds_nothing():
    counts = random_images(50, right=0.7)
    found = compare_miou(counts, counts)
    assert (found.difference_pct, found.low_pct, found.high_pct, found.is_significant) == (0, 0, 0, False)


def test_a_comparison_is_paired():
    """The same images, of which one model errs on a few more pixels: significant, where the intervals overlap."""
    generator = np.random.default_rng(3)
    pairs, worse = [], []
    for _ in range(80):
        truth = generator.integers(0, 4, (6, 6)).astype(np.int16)
        found = np.where(generator.random((6, 6)) < generator.uniform(0.3, 1.0), truth, (truth + 1) % 4)
        pairs.append((truth, found))
        changed = found.copy()
        changed[0, 0] = (truth[0, 0] + 2) % 4
        worse.append((truth, changed))
    first, second = Confusions.of(pairs, 4), Confusions.of(worse, 4)
    found = compare_miou(first, second)
    assert found.is_significant
    assert found.difference_pct > 0
    assert first.miou_pct().low < second.miou_pct().high


def test_other_images_are_refused():
    with pytest.raises(ValueError, match="same images and classes, got 2 and 3 images"):
        compare_miou(random_images(2, right=0.5), random_images(3, right=0.5))


def test_a_prediction_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="must have one shape"):
        Confusions.of([(TRUTH, FOUND.T)], 4)
