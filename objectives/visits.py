"""In which order a candidate sees the images, and what those that it saw say of all. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from struct import Struct
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from objectives.statistics import CONFIDENCE, Estimate, mean_of, pack, proportion_pct, unpack

__all__ = ["Part", "Visits", "proportion_of"]

_EXPECTED_AS = 16  # images that what is expected counts as
_HEAD = Struct("<IId")


@dataclass(frozen=True)
class Part:
    """The images of a list that a stopped candidate saw: the first, which are a random sample, and all the hardest.

    What it did on the hardest is known. What it does on the others, those of them tell that are in the sample; and
    since these may be few, how much rarer others' mistakes are there than on the hardest counts beside them.

    Attributes:
        n_listed: how many images the list has.
        n_sample: the list's first, whatever they are.
        hardest: which of all images count among the hardest, packed; in the sample or not, all of them were seen.
        rarity: how often others are wrong on an image that is not among the hardest, to how often on one that is;
            ``None`` where too few others are known.
    """

    n_listed: int
    n_sample: int
    hardest: bytes
    rarity: float | None

    @cached_property
    def places(self) -> NDArray[np.intp]:
        """The places in the list of the images seen, in order: (n_seen,)."""
        return np.flatnonzero(self._is_hard | (np.arange(self.n_listed) < self.n_sample))

    def proportion_pct(self, hits: NDArray[np.bool_]) -> Estimate:
        """Estimate a proportion of all images in percent, with its 95 % interval.

        The share of mistakes on the images that are not among the hardest is that in the sample, drawn towards its
        expectation, by the candidate's own share on the hardest and their rarity, as if that were known from 16 more
        images. The interval is of the sample alone, and bounds the estimate; it is cut to what is certain: as if none
        of the images not seen counted, and as if all did.

        Args:
            hits: (n_seen,), whether each image seen counts, in the order of the list.

        >>> part = Part(n_listed=100, n_sample=10, hardest=pack(np.arange(100) >= 90), rarity=0.05)
        >>> part.proportion_pct(np.array([True] * 9 + [False] + [True] * 2 + [False] * 8)).text(".1f", alone=".1f")
        '86.3 [51.9, 91.0]'

        Source: a stratified estimate, Cochran 1977, Sampling Techniques, section 5.3, with one stratum counted whole
        and a beta prior (own) in the other. The interval is that of Clopper and Pearson 1934,
        doi:10.1093/biomet/26.4.404: where mistakes are rare Wilson's covers less than it says.
        """
        is_hard = self._is_hard[self.places]
        easy, hard, n_hits = hits[~is_hard], hits[is_hard], int(hits.sum())
        least, most = 100 * n_hits / self.n_listed, 100 * (1 - (len(hits) - n_hits) / self.n_listed)
        known, share = 100 * float(hard.sum()) / self.n_listed, float((~self._is_hard).mean())
        n_wrong, n = float((~easy).sum()), len(easy)
        if self.rarity is not None:
            n_wrong, n = n_wrong + _EXPECTED_AS * min(1.0, self.rarity * float((~hard).mean())), n + _EXPECTED_AS
        value = known + 100 * share * (1 - n_wrong / max(n, 1))
        low, high = (known + 100 * share * end for end in _exact_interval(int(easy.sum()), len(easy)))
        low, high = max(low, least), min(high, most)
        return Estimate(min(max(value, low), high), low, high)

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

        >>> part = Part(n_listed=9, n_sample=2, hardest=pack(np.arange(9) > 6), rarity=0.25)
        >>> Part.from_bytes(part.to_bytes()) == part
        True
        """
        return _HEAD.pack(self.n_listed, self.n_sample, -1.0 if self.rarity is None else self.rarity) + self.hardest

    @classmethod
    def from_bytes(cls, written: bytes) -> Self:
        """Undo ``to_bytes``."""
        n_listed, n_sample, rarity = _HEAD.unpack(written[: _HEAD.size])
        return cls(n_listed, n_sample, written[_HEAD.size :], None if rarity < 0 else rarity)

    @cached_property
    def _is_hard(self) -> NDArray[np.bool_]:
        return unpack(self.hardest, self.n_listed)


@dataclass(frozen=True, eq=False)
class Visits:
    """The order in which a candidate sees the images: the list's first, a random sample; then the others by hardness.

    The hardest are those on which the first guide was wrong, of them and of the others again those on which the second
    was, and so on; of images that no guide tells apart those on which most were wrong, and of equals the earlier.

    Attributes:
        n_sample: how many of the list's first.
        mistakes: (n_guide, n_images), on which images the guides were wrong.
        n_wrong: (n_images,), how many were wrong on each of all that are known, the guides among them; if ``None``, no
            others are known.
    """

    n_sample: int
    mistakes: NDArray[np.bool_]
    n_wrong: NDArray[np.int32] | None = None

    @cached_property
    def hardest_first(self) -> NDArray[np.intp]:
        """The places of all images."""
        return _hardest_first(self.mistakes, self._n_wrong)

    @cached_property
    def _n_wrong(self) -> NDArray[np.int32]:
        return self.mistakes.sum(axis=0, dtype=np.int32) if self.n_wrong is None else self.n_wrong

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """The places of all images, as they are seen."""
        others = self.hardest_first[self.hardest_first >= self.n_sample]
        return np.concatenate((np.arange(self.n_sample), others))

    def part(self, n_seen: int) -> Part:
        """Say which images were seen when so many were; of the sample alone, as many of it."""
        is_hard = np.zeros(len(self.order), dtype=bool)
        if n_seen > self.n_sample:
            last = np.flatnonzero(self.hardest_first == self.order[n_seen - 1])[0]
            is_hard[self.hardest_first[: last + 1]] = True
        return Part(len(self.order), min(self.n_sample, n_seen), pack(is_hard), self._rarity(int(is_hard.sum())))

    def _rarity(self, n_hard: int) -> float | None:
        """Count where each erred by what the rest of them find hard: its own mistakes would make an image so."""
        n_guide, n_listed = self.mistakes.shape
        if n_guide < 2 or not 0 < n_hard < n_listed:
            return None
        n_wrong = n_wrong_on_hard = 0
        for guide in range(n_guide):
            rest = np.delete(self.mistakes, guide, axis=0)
            hard = _hardest_first(rest, self._n_wrong - self.mistakes[guide])[:n_hard]
            n_wrong += int(self.mistakes[guide].sum())
            n_wrong_on_hard += int(self.mistakes[guide][hard].sum())
        if not n_wrong_on_hard:
            return None
        elsewhere = max(n_wrong - n_wrong_on_hard, 0.5)  # that there was none does not mean that there is none
        rarity: float = elsewhere / (n_listed - n_hard) * n_hard / n_wrong_on_hard
        return rarity

    def estimate_pct(self, hits: NDArray[np.bool_]) -> Estimate:
        """Estimate a proportion of all images in percent, from the images seen so far in the order they were seen.

        Args:
            hits: (n_seen,).
        """
        return self.part(len(hits)).proportion_pct(hits[np.argsort(self.order[: len(hits)])])


def proportion_of(hits: NDArray[np.bool_], part: Part | None) -> Estimate:
    """Estimate a proportion in percent from all images, or from the part of them that was seen.

    Args:
        hits: (n_seen,), whether each image seen counts, in the order of the list.
        part: which they are; all, if ``None``.
    """
    return proportion_pct(int(hits.sum()), hits.size) if part is None else part.proportion_pct(hits)


def _exact_interval(n_hits: int, n: int) -> tuple[float, float]:
    """Give the ends of the interval of a proportion; of none the whole range."""
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if n_hits == 0 else float(betaincinv(n_hits, n - n_hits + 1, tail))
    return low, 1.0 if n_hits == n else float(betaincinv(n_hits + 1, n - n_hits, 1 - tail))


def _hardest_first(mistakes: NDArray[np.bool_], n_wrong: NDArray[np.int32]) -> NDArray[np.intp]:
    return np.lexsort((-n_wrong, *~mistakes[::-1]))  # by the last of these first; stable
