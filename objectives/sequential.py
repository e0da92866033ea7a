"""A paired test that may be looked at after every image: has one candidate lost against another? Imports no torch."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincc, betaln, gammaln

__all__ = ["evidence_of_losing"]


def evidence_of_losing(only_rival: int, only_candidate: int, n_left: int) -> float:
    """Weigh the evidence that a candidate will not be right on more of all images than its rival.

    Stop a candidate when the evidence reaches 1 / error_rate. Of the candidates that would have beaten their rival on
    the whole list, no more than that share is then stopped, over the orders in which the images may come, and however
    often one looks.

    Args:
        only_rival: images so far that only the rival got right.
        only_candidate: images so far that only the candidate got right.
        n_left: images that the candidate has not seen.

    Returns:
        An e-value: 0 while the candidate is not behind, infinite when it cannot win any more.

    >>> evidence_of_losing(12, 2, n_left=448) > 20
    True
    >>> evidence_of_losing(12, 8, n_left=448) > 1
    False
    >>> evidence_of_losing(5, 0, n_left=5)
    inf

    Source: own, of known parts. Images on which both are right or both wrong say nothing. The others come in random
    order, drawn without replacement. Suppose the candidate wins in the end: of ``n`` such images in all it then has
    at least ``(n + 1) / 2``. The probability of an order under that, against its probability if each image
    independently spoke for the rival with a chance spread evenly over 1/2 to 1, is a martingale, and by Ville's
    inequality (1939) it ever reaches ``x`` with a probability of at most ``1 / x``. How many images ``n`` there will be
    is not known, nor by how much the candidate wins: the case most favourable to it counts. While it is behind that is
    the narrowest win.
    """
    seen = only_rival + only_candidate
    if only_rival <= only_candidate:
        return 0.0
    in_all = np.arange(seen, seen + n_left + 1, dtype=np.float64)
    wins, losses = (in_all + 1) / 2, (in_all - 1) / 2
    possible = losses >= only_rival
    if not possible.any():
        return math.inf
    in_all, wins, losses = in_all[possible], wins[possible], losses[possible]
    if_it_wins = (
        _log_falling(wins, only_candidate) + _log_falling(losses, only_rival) - _log_falling(in_all, seen)
    ).max()
    if_it_loses = (
        math.log(2)
        + betaln(only_rival + 1, only_candidate + 1)
        + math.log(betaincc(only_rival + 1, only_candidate + 1, 0.5))
    )
    return float(np.exp(min(if_it_loses - if_it_wins, 700.0)))


def _log_falling(n: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Give the logarithm of n (n - 1) ... (n - k + 1)."""
    return np.asarray(gammaln(n + 1) - gammaln(n - k + 1))
