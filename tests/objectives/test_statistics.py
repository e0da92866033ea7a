from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom, binomtest

from objectives.statistics import Estimate, compare_paired, median_of, pack, proportion_pct, unpack


@given(n=st.integers(1, 5000), share=st.floats(0, 1))
def test_wilsons_interval_is_scipys(n, share):
    hits = round(share * n)
    expected = binomtest(hits, n).proportion_ci(0.95, "wilson")
    found = proportion_pct(hits, n)
    assert found.value == pytest.approx(100 * hits / n)
    assert (found.low, found.high) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-9)


@pytest.mark.parametrize(("hits", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(hits, n):
    with pytest.raises(ValueError, match="0 <= n_hits <= n"):
        proportion_pct(hits, n)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_wilsons_interval_covers_the_truth_as_often_as_it_says(share):
    generator = np.random.default_rng(0)
    estimates = [proportion_pct(int(hits), 500) for hits in generator.binomial(500, share, 4000)]
    covered = np.mean([estimate.low <= 100 * share <= estimate.high for estimate in estimates])
    assert 0.935 <= covered <= 0.97


@pytest.mark.parametrize(("only_first", "only_second"), [(0.03, 0.03), (0.06, 0.02), (0.004, 0.001)])
def test_the_paired_interval_covers_the_true_difference_as_often_as_it_says(only_first, only_second):
    generator = np.random.default_rng(1)
    chances = [only_first, only_second, 1 - only_first - only_second]
    covered = []
    for counts in generator.multinomial(1000, chances, 2000):
        first = np.repeat([True, False, True], counts)
        second = np.repeat([False, True, True], counts)
        found = compare_paired(first, second)
        covered.append(found.low_pct <= 100 * (only_first - only_second) <= found.high_pct)
    assert 0.935 <= np.mean(covered) <= 0.995


@given(n=st.integers(1, 300), data=st.data())
def test_mcnemars_p_is_the_exact_binomial_test_of_the_discordant_pairs(n, data):
    first, second = (data.draw(arrays(bool, n)) for _ in range(2))
    found = compare_paired(first, second)
    discordant = found.only_first + found.only_second
    expected = 1.0 if discordant == 0 else binomtest(found.only_first, discordant).pvalue
    assert found.p_value == pytest.approx(expected, abs=1e-9)
    assert found.difference_pct == pytest.approx(100 * (first.mean() - second.mean()))
    assert found.low_pct <= found.difference_pct <= found.high_pct


def test_swapping_the_two_turns_the_difference_around():
    generator = np.random.default_rng(2)
    first, second = generator.random(400) < 0.8, generator.random(400) < 0.7
    one, two = compare_paired(first, second), compare_paired(second, first)
    assert one.difference_pct == -two.difference_pct
    assert (one.low_pct, one.high_pct) == pytest.approx((-two.high_pct, -two.low_pct))
    assert one.p_value == two.p_value


def test_outcomes_of_different_images_are_not_compared():
    with pytest.raises(ValueError, match="the same images"):
        compare_paired(np.ones(3, dtype=bool), np.ones(4, dtype=bool))


@given(arrays(bool, st.integers(1, 100)))
def test_packed_outcomes_unpack_to_themselves(outcomes):
    packed = pack(outcomes)
    assert len(packed) == -(-len(outcomes) // 8)
    np.testing.assert_array_equal(unpack(packed, len(outcomes)), outcomes)


@given(n=st.integers(6, 1000))
def test_a_medians_interval_covers_it_as_often_as_it_says_and_none_narrower_does(n):
    def coverage(low):  # how often the median lies between this one from below and this one from above
        return binom.cdf(n - low, n, 0.5) - binom.cdf(low - 1, n, 0.5)

    found = median_of(np.random.default_rng(n).permutation(np.arange(1.0, n + 1)))
    assert found.value == (n + 1) / 2
    assert found.low + found.high == n + 1
    assert coverage(int(found.low)) >= 0.95 > coverage(int(found.low) + 1)


@pytest.mark.parametrize("values", [[3.0], [1.0, 3.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
def test_a_median_of_too_few_has_no_interval(values):
    assert median_of(np.array(values)) == Estimate(float(np.median(values)))
