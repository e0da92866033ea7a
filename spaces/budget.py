"""Hard budgets, read as people write them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spaces.errors import InvalidInput

__all__ = ["Budget", "LatencyBudget"]


@dataclass(frozen=True)
class Budget:
    """What a layout may cost, in GFLOPs for one image. A range asks for a whole front."""

    low_gflops: float | None
    high_gflops: float

    @property
    def is_range(self) -> bool:
        """Whether a front is asked for, not one best layout."""
        return self.low_gflops is not None

    @classmethod
    def parse(cls, text: str, dense_gflops: float) -> Budget:
        """Read ``3.0`` (GFLOPs), ``65%`` (of the dense model), or a range ``2.0:4.0`` or ``50%:90%``.

        >>> Budget.parse("65%", dense_gflops=4.0)
        Budget(low_gflops=None, high_gflops=2.6)
        >>> Budget.parse("2:3.5", dense_gflops=4.0)
        Budget(low_gflops=2.0, high_gflops=3.5)

        Raises:
            InvalidInput: the text reads as neither, or names no positive cost.
        """
        low, high = _ends(text, dense_gflops, "is 3.0 (GFLOPs), 65% (of dense) or a range like 50%:90%")
        return cls(low_gflops=low, high_gflops=high)


@dataclass(frozen=True)
class LatencyBudget:
    """How long a layout may take for one image, in ms. A range asks for a whole front, from ``low_ms`` on."""

    low_ms: float | None
    high_ms: float

    @classmethod
    def parse(cls, text: str, dense_ms: float) -> LatencyBudget:
        """Read ``4.5`` (ms), ``65%`` (of the dense model), or a range of either.

        >>> LatencyBudget.parse("50%:4.5", dense_ms=6.0)
        LatencyBudget(low_ms=3.0, high_ms=4.5)

        Raises:
            InvalidInput: the text reads as neither, or names no positive time.
        """
        low, high = _ends(text, dense_ms, "in ms is 4.5, 65% (of dense) or a range like 50%:90%")
        return cls(low_ms=low, high_ms=high)


def _ends(text: str, dense: float, grammar: str) -> tuple[float | None, float]:
    """Read one budget, or the two ends of a range."""
    low, colon, high = text.partition(":")
    ends = [_amount(part, dense) for part in ((low, high) if colon else (low,))]
    if any(end is None or not (math.isfinite(end) and end > 0) for end in ends):
        raise InvalidInput(f"a budget {grammar}, got {text!r}")
    costs = [end for end in ends if end is not None]
    if colon and not costs[0] < costs[1]:
        raise InvalidInput(f"a budget range goes from less to more, got {text!r}")
    return (costs[0] if colon else None), costs[-1]


def _amount(text: str, dense: float) -> float | None:
    text = text.strip()
    try:
        if text.endswith("%"):
            return float(text[:-1]) / 100 * dense
        return float(text)
    except ValueError:
        return None
