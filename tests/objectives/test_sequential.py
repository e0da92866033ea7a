from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.integrate import quad

from objectives.sequential import Standing, evidence_of_losing

ERROR = 0.05


def outcomes(n_both: int, n_neither: int, gains: int, losses: int):
    """Give the candidate's and the rival's outcomes on all images, in one order."""
    candidate = np.repeat([True, False, True, False], [n_both, n_neither, gains, losses])
    rival = np.repeat([True, False, False, True], [n_both, n_neither, gains, losses])
    return candidate, rival


def stopped_share(candidate, rival, *, every: int, repeats: int) -> float:
    """Draw orders of the images, and count those in which the candidate is stopped."""
    generator = np.random.default_rng(0)
    n_stopped = 0
    for _ in range(repeats):
        order = generator.permutation(len(candidate))
        looks = range(every, len(order), every)
        n_stopped += any(
            evidence_of_losing(Standing.of(candidate[order][:seen], rival[order])) >= 1 / ERROR for seen in looks
        )
    return n_stopped / repeats


@pytest.mark.parametrize(
    ("n_both", "n_neither", "losses"), [(40, 20, 1), (40, 4, 7), (10, 30, 11), (25, 0, 19), (62, 0, 0)]
)
def test_whoever_wins_by_one_image_is_hardly_ever_stopped_however_often_one_looks(n_both, n_neither, losses):
    share = stopped_share(*outcomes(n_both, n_neither, losses + 1, losses), every=1, repeats=300)
    assert share <= ERROR  # by proof in all orders together; a sample of them shows an e-value that is too large


@pytest.mark.parametrize("error", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize(
    ("counts", "margin"),
    [((3, 2, 2, 1), 0), ((2, 1, 3, 2), 0), ((4, 0, 2, 1), 0), ((1, 3, 2, 1), 0), ((2, 1, 3, 1), 1), ((2, 1, 4, 1), 2)],
)
def test_in_all_orders_of_a_few_images_the_error_rate_holds_exactly(counts, margin, error):
    candidate, rival = outcomes(*counts)
    kinds = sorted(set(itertools.permutations(zip(candidate.tolist(), rival.tolist(), strict=True))))
    n_stopped = 0
    for order in kinds:  # each as likely as the others
        shuffled, against = (np.array(each) for each in zip(*order, strict=True))
        n_stopped += any(
            evidence_of_losing(Standing.of(shuffled[:seen], against), margin) >= 1 / error
            for seen in range(1, len(order))
        )
    assert n_stopped / len(kinds) <= error


def test_who_is_clearly_worse_is_stopped_early():
    assert stopped_share(*outcomes(350, 22, 20, 120), every=32, repeats=200) > 0.99
    assert evidence_of_losing(Standing(0, 12, 2, 30, n_wrong_in_all=50, n_right_in_all=462)) > 1 / ERROR


def test_who_wins_by_more_than_the_margin_is_hardly_ever_stopped_and_who_wins_by_less_sooner():
    candidate, rival = outcomes(300, 20, 48, 40)

    def share(margin: int) -> float:
        generator, n_stopped = np.random.default_rng(1), 0
        for _ in range(200):
            order = generator.permutation(len(candidate))
            n_stopped += any(
                evidence_of_losing(Standing.of(candidate[order][:seen], rival[order]), margin) >= 1 / ERROR
                for seen in range(8, len(order), 8)
            )
        return n_stopped / 200

    assert share(0) <= share(7) <= ERROR  # it wins by 8
    assert share(30) > 0.9


def test_with_a_margin_a_win_is_out_of_reach_earlier():
    standing = Standing(2, 5, n_wrong=46, n_right=58, n_wrong_in_all=50, n_right_in_all=462)
    assert math.isfinite(evidence_of_losing(standing))
    assert evidence_of_losing(standing, 1) == math.inf


def test_who_is_not_behind_is_never_stopped():
    for gains, losses in ((0, 0), (7, 7), (9, 3)):
        assert evidence_of_losing(Standing(gains, losses, 9, 20, n_wrong_in_all=12, n_right_in_all=30)) == 0


def test_a_win_that_is_out_of_reach_is_certain_and_one_within_reach_is_not():
    # Five behind, and five images left that the rival got wrong: a draw at best.
    assert evidence_of_losing(Standing(5, 10, 15, 80, n_wrong_in_all=20, n_right_in_all=80)) == math.inf
    assert evidence_of_losing(Standing(5, 10, 14, 80, n_wrong_in_all=20, n_right_in_all=80)) < math.inf
    assert evidence_of_losing(Standing(0, 1, 0, 1, n_wrong_in_all=0, n_right_in_all=9)) == math.inf


def test_the_evidence_grows_with_the_deficit_and_with_fewer_images_to_gain_on():
    def evidence(gains, losses, n_wrong_in_all):
        return evidence_of_losing(Standing(gains, losses, 20, 200, n_wrong_in_all, n_right_in_all=400))

    assert evidence(4, 14, 60) > evidence(6, 14, 60) > evidence(6, 12, 60)
    assert evidence(4, 14, 40) > evidence(4, 14, 60)


def test_the_evidence_is_the_least_ratio_of_two_probabilities_of_what_was_seen():
    standing = Standing(gains=1, losses=3, n_wrong=2, n_right=5, n_wrong_in_all=6, n_right_in_all=8)

    def probability(gains_in_all, losses_in_all):
        """Draw image after image without putting one back: first a gain, then none, then three losses, then two not."""
        left, gains, losses = 1.0, gains_in_all, losses_in_all
        for n, is_gain in ((6, True), (5, False)):
            left *= (gains if is_gain else n - gains) / n
            gains -= is_gain
        for n, is_loss in ((8, True), (7, True), (6, True), (5, False), (4, False)):
            left *= (losses if is_loss else n - losses) / n
            losses -= is_loss
        return left

    if_it_wins = max(probability(gains, losses) for gains in range(7) for losses in range(9) if gains > losses)

    def in_a_mixture(n_marked, n_not, ends):
        """Integrate over the chance, whose density is the mean of some that fall as (1 - p) ** (end - 1)."""
        return np.mean(
            [quad(lambda p, e=end: p**n_marked * (1 - p) ** n_not * e * (1 - p) ** (e - 1), 0, 1)[0] for end in ends]
        )

    in_general = in_a_mixture(1, 1, (1, 6)) * in_a_mixture(3, 2, (1, 5, 25))
    assert evidence_of_losing(standing) == pytest.approx(in_general / if_it_wins)


def test_the_losses_that_suit_a_win_best_are_those_of_a_search_through_all():
    generator = np.random.default_rng(3)
    for _ in range(200):
        candidate, rival = generator.random((2, 30)) < generator.uniform(0.3, 0.95, (2, 1))
        for seen in (8, 20):
            standing = Standing.of(candidate[:seen], rival)
            evidence = evidence_of_losing(standing)
            if 0 < evidence < math.inf:
                assert evidence == pytest.approx(by_search(standing))


def by_search(standing: Standing) -> float:
    def falling(n, k):
        return math.prod(range(n - k + 1, n + 1)) if n >= k else 0

    def draws(marked, n, marked_seen, seen):
        return falling(marked, marked_seen) * falling(n - marked, seen - marked_seen) / falling(n, seen)

    def spread(ends, marked, n):
        return np.mean([math.gamma(1 + marked) * math.gamma(b + n - marked) / math.gamma(1 + b + n) * b for b in ends])

    if_it_wins = max(
        draws(gains, standing.n_wrong_in_all, standing.gains, standing.n_wrong)
        * draws(losses, standing.n_right_in_all, standing.losses, standing.n_right)
        for gains in range(standing.n_wrong_in_all + 1)
        for losses in range(min(gains, standing.n_right_in_all + 1))
    )
    in_general = spread((1, 6), standing.gains, standing.n_wrong) * spread(
        (1, 5, 25), standing.losses, standing.n_right
    )
    return in_general / if_it_wins
