from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from search.surrogate import Surrogate

RNG = np.random.default_rng(0)
PROFILES = RNG.uniform(size=(60, 3))


def smooth(profiles: np.ndarray) -> np.ndarray:
    return 80 + 10 * np.sin(3 * profiles[:, 0]) - 5 * profiles[:, 1]


def test_it_predicts_a_smooth_metric_where_nothing_was_measured():
    unseen = RNG.uniform(size=(200, 3))
    expected, deviation = Surrogate(PROFILES, smooth(PROFILES)).predict(unseen)
    assert np.abs(expected - smooth(unseen)).mean() < 0.5
    assert np.corrcoef(expected, smooth(unseen))[0, 1] > 0.99
    assert (deviation > 0).all()


def test_what_it_is_unsure_of_lies_within_its_deviations_as_often_as_it_says():
    noisy = smooth(PROFILES) + RNG.normal(scale=2.0, size=60)
    unseen = RNG.uniform(size=(500, 3))
    expected, deviation = Surrogate(PROFILES, noisy).predict(unseen)
    within = (np.abs(expected - smooth(unseen)) < 2 * deviation).mean()
    assert within > 0.85


def test_noise_is_smoothed_instead_of_followed():
    noisy = smooth(PROFILES) + RNG.normal(scale=3.0, size=60)
    expected, _ = Surrogate(PROFILES, noisy).predict(PROFILES)
    assert np.abs(expected - smooth(PROFILES)).mean() < 0.7 * np.abs(noisy - smooth(PROFILES)).mean()


def test_far_from_everything_it_expects_the_mean_and_is_unsure():
    surrogate = Surrogate(PROFILES, smooth(PROFILES))
    (expected,), (deviation,) = surrogate.predict(np.full((1, 3), 1e4))
    assert expected == pytest.approx(smooth(PROFILES).mean())
    assert deviation > surrogate.predict(PROFILES)[1].max()


def test_expected_improvement_is_what_chance_would_gain_over_the_best_known():
    surrogate = Surrogate(PROFILES, smooth(PROFILES))
    unseen = RNG.uniform(size=(5, 3))
    best = surrogate.predict(PROFILES)[0].max()
    expected, deviation = surrogate.predict(unseen)
    chance = norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    gained = np.maximum(expected + deviation * chance[:, None] - best, 0).mean(axis=0)
    assert surrogate.expected_improvement(unseen) == pytest.approx(gained, rel=0.02, abs=1e-4)


def test_a_layout_that_is_still_out_is_expected_the_same_and_draws_no_other_like_it():
    surrogate = Surrogate(PROFILES, smooth(PROFILES))
    out, elsewhere = np.full((1, 3), 1.3), RNG.uniform(size=(20, 3))
    before, unsure = surrogate.predict(out)
    far_before = surrogate.predict(elsewhere)[0]
    surrogate.pretend(out)
    after, sure = surrogate.predict(out)
    assert after == pytest.approx(before, abs=0.05)
    assert sure < 0.5 * unsure
    assert surrogate.predict(elsewhere)[0] == pytest.approx(far_before, abs=0.05)


def test_equal_metrics_and_profiles_that_never_differ_are_borne():
    surrogate = Surrogate(np.ones((4, 2)), np.full(4, 90.0))
    assert surrogate.predict(np.ones((1, 2)))[0] == pytest.approx([90])
    assert np.isfinite(surrogate.expected_improvement(np.zeros((3, 2)))).all()
