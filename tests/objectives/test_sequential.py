from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from objectives.sequential import evidence_of_losing

ERROR = 0.05


def stopped_share(n_images: int, n_for_rival: int, n_for_candidate: int, *, every: int, repeats: int) -> float:
    """Draw orders in which images speak for either, and count those in which the candidate is stopped."""
    generator = np.random.default_rng(n_for_rival)
    signs = np.zeros(n_images, dtype=int)
    signs[:n_for_rival] = -1
    signs[n_for_rival : n_for_rival + n_for_candidate] = 1
    n_stopped = 0
    for _ in range(repeats):
        generator.shuffle(signs)
        rival, candidate = np.cumsum(signs == -1), np.cumsum(signs == 1)
        looks = range(every - 1, n_images - 1, every)
        n_stopped += any(
            evidence_of_losing(int(rival[at]), int(candidate[at]), n_images - at - 1) >= 1 / ERROR for at in looks
        )
    return n_stopped / repeats


@pytest.mark.parametrize("n_discordant", [3, 9, 31, 63])
def test_whoever_wins_by_one_image_is_hardly_ever_stopped_however_often_one_looks(n_discordant):
    n_for_rival = n_discordant // 2
    share = stopped_share(64, n_for_rival, n_discordant - n_for_rival, every=1, repeats=300)
    assert share <= ERROR  # by proof in all orders together; a sample of them shows an e-value that is too large


def test_in_all_orders_of_a_few_images_the_error_rate_holds_exactly():
    # Every order of 5 images for the candidate and 4 for the rival, each as likely, no others; looked at after each.
    orders = list(itertools.combinations(range(9), 4))
    for error in (0.05, 0.2, 0.5):
        n_stopped = 0
        for for_rival in orders:
            behind = [sum(at < seen for at in for_rival) for seen in range(1, 9)]
            n_stopped += any(
                evidence_of_losing(rival, seen - rival, 9 - seen) >= 1 / error
                for seen, rival in enumerate(behind, start=1)
            )
        assert n_stopped / len(orders) <= error


def test_who_is_clearly_worse_is_stopped_early():
    assert stopped_share(512, 120, 20, every=32, repeats=200) > 0.99
    assert evidence_of_losing(20, 0, 492) > 1 / ERROR


def test_who_is_not_behind_is_never_stopped():
    assert evidence_of_losing(0, 0, 10) == 0
    assert evidence_of_losing(7, 7, 10) == 0
    assert evidence_of_losing(3, 9, 10) == 0


def test_a_win_that_is_out_of_reach_is_certain_and_one_within_reach_is_not():
    assert evidence_of_losing(10, 5, 5) == math.inf  # a draw at best
    assert evidence_of_losing(10, 5, 6) < math.inf
    assert evidence_of_losing(1, 0, 0) == math.inf


def test_the_evidence_grows_with_the_deficit_and_with_fewer_images_left():
    assert evidence_of_losing(12, 2, 200) > evidence_of_losing(11, 3, 200) > evidence_of_losing(9, 5, 200)
    assert evidence_of_losing(12, 2, 12) > evidence_of_losing(12, 2, 200)


def test_the_evidence_is_a_ratio_of_two_probabilities_of_what_was_seen():
    # 2 to 1 behind with two images left, the candidate wins only if both speak for it: 3 to 2 in the end.
    if_it_wins = (3 * 2 * 1) / (5 * 4 * 3)
    # Twice the integral of p^2 (1 - p) from 1/2 to 1.
    if_it_loses = 2 * ((1 / 3 - 1 / 4) - (1 / 24 - 1 / 64))
    assert evidence_of_losing(2, 1, 2) == pytest.approx(if_it_loses / if_it_wins)
