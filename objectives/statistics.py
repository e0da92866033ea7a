"""Intervals and paired tests for proportions. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, stdtrit

__all__ = [
    "CONFIDENCE",
    "Estimate",
    "PairedComparison",
    "compare_paired",
    "mean_of",
    "median_of",
    "pack",
    "proportion_pct",
    "unpack",
]

CONFIDENCE = 0.95
_Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


@dataclass(frozen=True)
class Estimate:
    """A measured value with its 95 % interval; without one where no interval is known."""

    value: float
    low: float | None = None
    high: float | None = None

    def text(self, digits: str, *, alone: str) -> str:
        """Write it with its interval, if that is known.

        >>> Estimate(78.04, 75.3, 80.5).text(".1f", alone=".3g"), Estimate(78.04).text(".1f", alone=".3g")
        ('78.0 [75.3, 80.5]', '78')

        Args:
            digits: how numbers are written, as ``format`` takes it.
            alone: likewise, where there is no interval.
        """
        if self.low is None or self.high is None:
            return f"{self.value:{alone}}"
        return f"{self.value:{digits}} [{self.low:{digits}}, {self.high:{digits}}]"


def proportion_pct(n_hits: int, n: int) -> Estimate:
    """Estimate a proportion in percent, with its 95 % Wilson interval.

    >>> found = proportion_pct(780, 1000)
    >>> f"{found.value:.1f} from {found.low:.2f} to {found.high:.2f}"
    '78.0 from 75.33 to 80.46'

    Raises:
        ValueError: ``n`` is not positive, or ``n_hits`` not between 0 and ``n``.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    if not (n > 0 and 0 <= n_hits <= n):
        raise ValueError(f"0 <= n_hits <= n and n > 0 must hold, got n_hits={n_hits}, n={n}")
    share = n_hits / n
    spread = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    centre = share + _Z**2 / (2 * n)
    scale = 1 + _Z**2 / n
    low, high = (centre - spread) / scale, (centre + spread) / scale
    return Estimate(100 * share, 100 * max(low, 0.0), 100 * min(high, 1.0))


def mean_of(values: NDArray[np.float64]) -> Estimate:
    """Estimate a mean, with its 95 % interval by Student's t; without one for a single value.

    Args:
        values: (n,), at least one.

    >>> found = mean_of(np.array([1.0, 2.0, 3.0]))
    >>> f"{found.value:.1f} from {found.low:.2f} to {found.high:.2f}"
    '2.0 from -0.48 to 4.48'
    """
    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(mean)
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    spread = float(stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2)) * error
    return Estimate(mean, mean - spread, mean + spread)


def median_of(values: NDArray[np.float64]) -> Estimate:
    """Estimate a median, with the narrowest interval between two of the values that covers it with at least 95 %.

    Nothing is asked of how the values are distributed, but that one does not depend on the other. Of fewer than six not
    even the least and the greatest are far enough apart, and the estimate has no interval.

    Args:
        values: (n,), at least one.

    >>> median_of(np.array([9.0, 1.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 2.0]))
    Estimate(value=5.0, low=2.0, high=8.0)

    Source: Conover 1999, Practical Nonparametric Statistics, section 3.2: as many of the values lie below the median as
    a fair coin falls heads. Both ends are as far from the middle.
    """
    ordered = np.sort(values)
    n, median = len(ordered), float(np.median(ordered))
    # So many values, at each end, may be left out: no more lie on one side of the median, but in 2.5 % of all cases.
    n_out = 0
    while bdtr(n_out, n, 0.5) <= (1 - CONFIDENCE) / 2:
        n_out += 1
    if n_out == 0:
        return Estimate(median)
    return Estimate(median, float(ordered[n_out - 1]), float(ordered[n - n_out]))


@dataclass(frozen=True)
class PairedComparison:
    """Two sets of outcomes on the same images.

    Attributes:
        n_images: images both were measured on.
        only_first: images that only the first got right.
        only_second: images that only the second got right.
        difference_pct: first minus second, percentage points.
        low_pct: lower end of its 95 % interval.
        high_pct: upper end.
        p_value: exact two-sided McNemar test of no difference.
    """

    n_images: int
    only_first: int
    only_second: int
    difference_pct: float
    low_pct: float
    high_pct: float
    p_value: float


def compare_paired(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> PairedComparison:
    """Compare two measurements image by image.

    Args:
        first: (n_images,), whether each image was right.
        second: likewise, for the same images in the same order.

    Raises:
        ValueError: the two are not of the same images, or there are none.

    >>> compare_paired(np.array([True] * 9 + [False]), np.array([True] * 6 + [False] * 4)).difference_pct
    30.0

    Source: the interval is the adjusted Wald interval of Bonett and Price 2012, doi:10.3102/1076998611411915,
    which keeps its coverage at few discordant pairs; the test is McNemar 1947 with the exact binomial tail.
    """
    if first.shape != second.shape or first.size == 0:
        raise ValueError(f"both must hold the same images and at least one, got {first.shape} and {second.shape}")
    n = first.size
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    share_first, share_second = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    centre = share_first - share_second
    spread = _Z * math.sqrt((share_first + share_second - centre**2) / (n + 2))
    return PairedComparison(
        n_images=n,
        only_first=only_first,
        only_second=only_second,
        difference_pct=100 * (only_first - only_second) / n,
        low_pct=100 * max(centre - spread, -1.0),
        high_pct=100 * min(centre + spread, 1.0),
        p_value=_two_sided_binomial(min(only_first, only_second), only_first + only_second),
    )


def pack(outcomes: NDArray[np.bool_]) -> bytes:
    r"""Pack (n_images,) outcomes into bits, eight images a byte.

    >>> pack(np.array([True, False, True]))
    b'\xa0'
    """
    return np.packbits(outcomes).tobytes()


def unpack(packed: bytes, n_images: int) -> NDArray[np.bool_]:
    r"""Undo ``pack``.

    >>> unpack(b"\xa0", 3)
    array([ True, False,  True])
    """
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=n_images).astype(bool)


def _two_sided_binomial(fewer: int, n: int) -> float:
    return 1.0 if n == 0 else min(1.0, 2 * float(bdtr(fewer, n, 0.5)))
