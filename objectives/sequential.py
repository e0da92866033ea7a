"""A paired test that may be looked at after every image: has one candidate lost against another? Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln, logsumexp

__all__ = ["Standing", "evidence_of_losing"]

# How often a candidate may be right where its rival is wrong, and wrong where its rival is right: even mixtures of beta
# distributions, from any chance to a small one. Of those tried none needs fewer images wherever the rival may stand.
_GAINING = ((1.0, 1.0), (1.0, 6.0))
_LOSING = ((1.0, 1.0), (1.0, 5.0), (1.0, 25.0))
_MOST = 700.0  # whose exponential a float still holds


@dataclass(frozen=True)
class Standing:
    """How a candidate stands against its rival, whose outcomes on all images are known.

    Attributes:
        gains: images so far that the candidate got right and the rival wrong.
        losses: images so far that the candidate got wrong and the rival right.
        n_wrong: images so far that the rival got wrong.
        n_right: images so far that the rival got right.
        n_wrong_in_all: of all images, seen or not.
        n_right_in_all: likewise.
    """

    gains: int
    losses: int
    n_wrong: int
    n_right: int
    n_wrong_in_all: int
    n_right_in_all: int

    @classmethod
    def of(cls, candidate: NDArray[np.bool_], rival: NDArray[np.bool_]) -> Standing:
        """Compare outcomes.

        Args:
            candidate: (n_seen,), on the first images.
            rival: (n_images,), on all.
        """
        seen = rival[: len(candidate)]
        n_right, n_right_in_all = int(seen.sum()), int(rival.sum())
        return cls(
            gains=int((candidate & ~seen).sum()),
            losses=int((seen & ~candidate).sum()),
            n_wrong=len(seen) - n_right,
            n_right=n_right,
            n_wrong_in_all=len(rival) - n_right_in_all,
            n_right_in_all=n_right_in_all,
        )


def evidence_of_losing(standing: Standing, margin: int = 0) -> float:
    """Weigh the evidence that a candidate will not be right on more of all images than its rival, by a margin.

    Stop a candidate when the evidence reaches 1 / error_rate. Of the candidates that would have beaten their rival on
    the whole list by more than the margin, no more than that share is then stopped, over the orders in which the images
    may come, and however often one looks.

    Args:
        standing: so far.
        margin: images; a win by no more of them is no win.

    Returns:
        An e-value: 0 while the candidate is ahead by the margin or more, infinite when it cannot win any more.

    >>> behind = Standing(gains=2, losses=12, n_wrong=6, n_right=58, n_wrong_in_all=50, n_right_in_all=462)
    >>> evidence_of_losing(behind) > 20
    True

    Of 50 images that its rival got wrong 4 are left, and it is 5 behind:

    >>> evidence_of_losing(Standing(2, 7, n_wrong=46, n_right=58, n_wrong_in_all=50, n_right_in_all=462))
    inf

    Source: own, of known parts. A candidate gains only on images that its rival got wrong, and loses only on the
    others; how many there are of both is known. Suppose that on all images it gains ``G`` and loses ``L``. In a random
    order the images seen are draws without replacement from the two groups, and what was seen has a probability that
    ``G`` and ``L`` decide. Its probability if each group had some chance of its own, spread as above, divided by that
    is a martingale, and by Ville's inequality (1939) it ever reaches ``x`` with a probability of at most ``1 / x``. The
    candidate wins if ``G > L + margin``: of all such pairs the one that suits it best counts.
    """
    behind = standing.losses + margin - standing.gains
    if behind <= 0:
        return 0.0
    if behind >= standing.n_wrong_in_all - standing.n_wrong:
        return math.inf
    gains, losses = _wins_that_suit_best(standing, margin)
    if not len(gains):
        return math.inf
    if_it_wins = (
        _log_draws(gains, standing.n_wrong_in_all, standing.gains, standing.n_wrong)
        + _log_draws(losses, standing.n_right_in_all, standing.losses, standing.n_right)
    ).max()
    in_general = _log_spread(_GAINING, standing.gains, standing.n_wrong) + _log_spread(
        _LOSING, standing.losses, standing.n_right
    )
    return float(np.exp(min(in_general - if_it_wins, _MOST)))


def _wins_that_suit_best(standing: Standing, margin: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give each number of gains in all that is still possible, with the losses that then fit best and still win."""
    most_gains = standing.n_wrong_in_all - (standing.n_wrong - standing.gains)
    gains = np.arange(standing.gains, most_gains + 1, dtype=np.float64)
    # The likeliest number of losses in all, or as many as a win allows.
    likeliest = standing.losses * (standing.n_right_in_all + 1) // max(standing.n_right, 1)
    most_losses = standing.n_right_in_all - (standing.n_right - standing.losses)
    losses = np.minimum(gains - margin - 1, min(likeliest, most_losses))
    possible = losses >= standing.losses
    return gains[possible], losses[possible]


def _log_draws(marked: NDArray[np.float64], n: int, n_marked_seen: int, n_seen: int) -> NDArray[np.float64]:
    """Give the log-probability of a row of draws without replacement from ``n``, of which ``marked`` are marked."""
    unmarked = _log_falling(n - marked, n_seen - n_marked_seen)
    return _log_falling(marked, n_marked_seen) + unmarked - _log_falling(np.float64(n), n_seen)


def _log_falling(n: NDArray[np.float64] | np.float64, k: int) -> NDArray[np.float64]:
    """Give the logarithm of n (n - 1) ... (n - k + 1)."""
    return np.asarray(gammaln(n + 1) - gammaln(n - k + 1))


def _log_spread(chances: tuple[tuple[float, float], ...], n_marked: int, n: int) -> float:
    """Give the log-probability of a row of ``n`` draws, ``n_marked`` of them marked, whose chance is spread so."""
    each = [betaln(left + n_marked, right + n - n_marked) - betaln(left, right) for left, right in chances]
    return float(logsumexp(each) - math.log(len(each)))
