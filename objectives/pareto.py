"""Fronts of cost and merit: what nothing dominates, and the area it covers. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["front", "hypervolume"]

Point = tuple[float, float]


def front(points: Sequence[Point]) -> list[int]:
    """Find the points that nothing dominates: less cost (first) and more merit (second) are better.

    Of equal points only the first is on the front.

    Returns:
        Positions in ``points``, by rising cost.

    >>> front([(2.0, 70.0), (3.0, 80.0), (3.0, 75.0), (4.0, 80.0), (1.0, 60.0)])
    [4, 0, 1]
    """
    by_cost = sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1], index))
    found: list[int] = []
    for index in by_cost:
        if not found or points[index][1] > points[found[-1]][1]:
            found.append(index)
    return found


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Measure the area that the points dominate up to a reference of more cost and less merit.

    Args:
        points: (cost, merit); those that do not dominate the reference count nothing.
        reference: (cost, merit).

    >>> hypervolume([(1.0, 60.0), (2.0, 70.0)], reference=(4.0, 50.0))
    50.0
    """
    most_cost, least_merit = reference
    inside = [point for point in points if point[0] < most_cost and point[1] > least_merit]
    area, merit_so_far = 0.0, least_merit
    for index in front(inside):
        cost, merit = inside[index]
        area += (most_cost - cost) * (merit - merit_so_far)
        merit_so_far = merit
    return area
