"""In which order a candidate sees the images, and what those that it saw say of all. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from objectives.statistics import CONFIDENCE, Estimate, mean_of, pack, unpack

__all__ = ["Part", "Visits"]


@dataclass(frozen=True)
class Part:
    """The images of a list that a stopped candidate saw: the first, which are a random sample, and all the hardest.

    What it did on the hardest is known; what it does on the others, those of them tell that are in the sample.

    Attributes:
        n_listed: how many images the list has.
        n_sample: the list's first, whatever they are.
        hardest: which of all images count among the hardest, packed; in the sample or not, all of them were seen.
    """

    n_listed: int
    n_sample: int
    hardest: bytes

    @cached_property
    def places(self) -> NDArray[np.intp]:
        """The places in the list of the images seen, in order: (n_seen,)."""
        return np.flatnonzero(self._is_hard | (np.arange(self.n_listed) < self.n_sample))

    def proportion_pct(self, hits: NDArray[np.bool_]) -> Estimate:
        """Estimate a proportion of all images in percent, with its 95 % interval.

        It lies within what is certain: as if none of the images not seen counted, and as if all did.

        Args:
            hits: (n_seen,), whether each image seen counts, in the order of the list.

        >>> part = Part(n_listed=100, n_sample=10, hardest=pack(np.arange(100) >= 90))
        >>> part.proportion_pct(np.array([True] * 9 + [False] + [True] * 2 + [False] * 8)).text(".1f", alone=".1f")
        '83.0 [51.9, 91.0]'

        Source: a stratified estimate, Cochran 1977, Sampling Techniques, section 5.3, with one stratum counted whole;
        the interval is that of Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404, of the other: where mistakes are
        rare, which they are among the others, Wilson's covers less than it says.
        """
        is_hard = self._is_hard[self.places]
        easy, n_easy, n_hits = hits[~is_hard], int((~self._is_hard).sum()), int(hits.sum())
        least, most = 100 * n_hits / self.n_listed, 100 * (1 - (len(hits) - n_hits) / self.n_listed)
        if not len(easy):  # the sample has none of the others
            return Estimate(100 * float(hits.mean()), least, most)
        known, share = 100 * float(hits[is_hard].sum()) / self.n_listed, n_easy / self.n_listed
        low, high = (known + 100 * share * end for end in _exact_interval(int(easy.sum()), len(easy)))
        return Estimate(known + 100 * share * float(easy.mean()), max(low, least), min(high, most))

    def mean(self, values: NDArray[np.float64]) -> Estimate:
        """Estimate the mean over all images, with its 95 % interval where the sample allows one.

        Args:
            values: (n_seen,), of each image seen, in the order of the list.
        """
        is_hard = self._is_hard[self.places]
        if is_hard.all():
            return Estimate(float(values.mean()))
        known, share = float(values[is_hard].sum()) / self.n_listed, float((~self._is_hard).mean())
        others = mean_of(values[~is_hard])
        low, high = (None if end is None else known + share * end for end in (others.low, others.high))
        return Estimate(known + share * others.value, low, high)

    def to_bytes(self) -> bytes:
        """Write it for the store.

        >>> part = Part(n_listed=9, n_sample=2, hardest=pack(np.arange(9) > 6))
        >>> Part.from_bytes(part.to_bytes()) == part
        True
        """
        return np.array([self.n_listed, self.n_sample], dtype="<u4").tobytes() + self.hardest

    @classmethod
    def from_bytes(cls, written: bytes) -> Self:
        """Undo ``to_bytes``."""
        n_listed, n_sample = np.frombuffer(written[:8], dtype="<u4")
        return cls(int(n_listed), int(n_sample), written[8:])

    @cached_property
    def _is_hard(self) -> NDArray[np.bool_]:
        return unpack(self.hardest, self.n_listed)


@dataclass(frozen=True, eq=False)
class Visits:
    """The order in which a candidate sees the images: the list's first, a random sample; then the others by hardness.

    Attributes:
        n_sample: how many of the list's first.
        hardest_first: (n_images,), the places of all images.
    """

    n_sample: int
    hardest_first: NDArray[np.int32]

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """The places of all images, as they are seen."""
        others = self.hardest_first[self.hardest_first >= self.n_sample]
        return np.concatenate((np.arange(self.n_sample), others)).astype(np.intp)

    def part(self, n_seen: int) -> Part:
        """Say which images were seen when so many were; of the sample alone, as many of it."""
        is_hard = np.zeros(len(self.order), dtype=bool)
        if n_seen > self.n_sample:
            last = np.flatnonzero(self.hardest_first == self.order[n_seen - 1])[0]
            is_hard[self.hardest_first[: last + 1]] = True
        return Part(len(self.order), min(self.n_sample, n_seen), pack(is_hard))

    def estimate_pct(self, hits: NDArray[np.bool_]) -> Estimate:
        """Estimate a proportion of all images in percent, from the images seen so far in the order they were seen.

        Args:
            hits: (n_seen,).
        """
        return self.part(len(hits)).proportion_pct(hits[np.argsort(self.order[: len(hits)])])


def _exact_interval(n_hits: int, n: int) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if n_hits == 0 else float(betaincinv(n_hits, n - n_hits + 1, tail))
    return low, 1.0 if n_hits == n else float(betaincinv(n_hits + 1, n - n_hits, 1 - tail))
