"""Values of a layered space's parameters: those that a layout stands for, and those with which a search begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spaces.domains import FloatRange, IntRange, Parameter, ParameterValue
from spaces.layer_draw import spread_out
from spaces.layered import LayeredConfig

__all__ = ["openings", "values_of"]

_STARTS = (0.0, 0.2, 0.4, 0.6)  # of the way from the first to the last place


def values_of(
    config: LayeredConfig, parameters: Sequence[Parameter], names: Sequence[str]
) -> dict[str, ParameterValue]:
    """Give the values of the layers of a layout, as they are.

    Args:
        config: the layout.
        parameters: of its space.
        names: of what each layer has besides a place.
    """
    values: dict[str, Any] = {"n_layers": len(config.places)}
    for name in (config.places_name, *names):
        of_layers = getattr(config, name)
        if isinstance(of_layers, tuple):  # otherwise all layers share a value, which the space fixes
            values |= {f"{name}_{slot}": value for slot, value in enumerate(of_layers, start=1)}
    return {each.name: _within(each, values[each.name]) for each in parameters if each.name in values}


def openings(
    parameters: Sequence[Parameter], places_name: str, rate_name: str
) -> tuple[dict[str, ParameterValue], ...]:
    """Give parts of draws that begin to prune ever later, and from there evenly to the last place.

    Where a layout begins to prune decides most about it, and random places hardly ever leave the first half alone.

    Args:
        parameters: of the space.
        places_name: of the parameters that say where layers lie.
        rate_name: of those that say how much they keep; all keep as much as the middle of their range.

    Returns:
        One for each beginning, without those parameters that are left to chance; none where the places are fixed.
    """
    domains: dict[str, Any] = {each.name: each.domain for each in parameters}
    places = domains.get(f"{places_name}_1")
    if places is None:
        return ()
    n_slots = sum(name.startswith(f"{places_name}_") for name in domains)
    middle: dict[str, ParameterValue] = {
        name: _middle(domain)
        for name, domain in domains.items()
        if name == "n_layers" or name.startswith(f"{rate_name}_")
    }
    n_layers = int(middle.get("n_layers", n_slots))
    found: dict[tuple[int, ...], None] = {}
    for share in _STARTS:
        start = places.low + share * (places.high - places.low)
        step = (places.high - start) / max(n_layers - 1, 1)
        found[spread_out([round(start + index * step) for index in range(n_layers)], places.low, places.high)] = None
    return tuple(
        middle | {f"{places_name}_{slot}": place for slot, place in enumerate(chosen, start=1)} for chosen in found
    )


def _middle(domain: IntRange | FloatRange) -> ParameterValue:
    middle = (domain.low + domain.high) / 2
    return round(middle) if isinstance(domain, IntRange) else middle


def _within(parameter: Parameter, value: Any) -> ParameterValue:
    domain: Any = parameter.domain
    within: ParameterValue = min(max(value, domain.low), domain.high)
    return within
