"""One draw of a layered space: slots, of which the first few become layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["LayerDraw", "spread_out"]


@dataclass(frozen=True)
class LayerDraw:
    """One draw of a layered space.

    Attributes:
        n_layers: slots that count.
        positions: where each slot was drawn, in any order; ``None`` where the space fixes the layers.
        moved: blocks by which a repair has moved the layers towards the input.
        rates: how much each slot keeps, in the order of the layers.
        settings: whatever else the method needs; a tuple holds one value for each slot.
    """

    n_layers: int
    positions: tuple[int, ...]
    rates: tuple[float, ...]
    settings: Mapping[str, Any]
    moved: int = 0


def spread_out(positions: Sequence[int], low: int, high: int) -> tuple[int, ...]:
    """Sort positions and move equal ones apart, staying between ``low`` and ``high``.

    >>> spread_out([7, 3, 3, 11, 11], 1, 11)
    (3, 4, 7, 10, 11)
    """
    places: list[int] = []
    for position in sorted(positions):
        places.append(max(position, places[-1] + 1) if places else max(position, low))
    limit = high
    for index in reversed(range(len(places))):
        places[index] = min(places[index], limit)
        limit = places[index] - 1
    return tuple(places)
