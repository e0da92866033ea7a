"""Hard budgets, read as people write them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spaces.errors import InvalidInput

__all__ = ["Budget"]


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
        low, colon, high = text.partition(":")
        ends = [_gflops(part, dense_gflops) for part in ((low, high) if colon else (low,))]
        if any(end is None or not (math.isfinite(end) and end > 0) for end in ends):
            raise InvalidInput(f"a budget is 3.0 (GFLOPs), 65% (of dense) or a range like 50%:90%, got {text!r}")
        costs = [end for end in ends if end is not None]
        if colon and not costs[0] < costs[1]:
            raise InvalidInput(f"a budget range goes from less to more, got {text!r}")
        return cls(low_gflops=costs[0] if colon else None, high_gflops=costs[-1])


def _gflops(text: str, dense_gflops: float) -> float | None:
    text = text.strip()
    try:
        if text.endswith("%"):
            return float(text[:-1]) / 100 * dense_gflops
        return float(text)
    except ValueError:
        return None
