"""Draws of layered layouts: of a fixed length, sorted into layers; the cheapest and the dearest of them.

A draw names more layers than most candidates use: every slot has a position, a rate and whatever else the method
wants for a layer, and ``n_layers`` says how many slots count. The encoding is then of fixed length, so that every
sampler can work on it, and a repair can add a layer without inventing its settings.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar, Self

from pydantic import model_validator

from spaces.architecture import Architecture
from spaces.base import PruningConfig, SearchSpace
from spaces.domains import Choice, FloatRange, IntRange, Parameter, ParameterValue, bounds, value_in
from spaces.errors import InvalidInput
from spaces.layer_draw import LayerDraw, spread_out
from spaces.layer_values import openings, values_of
from spaces.layered import LayeredConfig, PlacesSetting, last_place

__all__ = ["DrawsLayers"]


class DrawsLayers(SearchSpace):
    """A space of layered layouts, without a way onto a budget.

    Attributes:
        n_layers: pruning layers.
    """

    n_layers: IntRange | int = IntRange(low=3, high=6)

    places_name: ClassVar[str]  # of the setting that says where they may lie
    rate_name: ClassVar[str]  # of the setting that says how much a layer keeps, from 0 to 1
    layer_settings: ClassVar[tuple[str, ...]] = ()  # drawn once for each slot, beside the rate
    layout_settings: ClassVar[tuple[str, ...]] = ()  # drawn once for the layout
    count_settings: ClassVar[tuple[str, ...]] = ()  # of the layer settings, those that remove so many tokens
    rest_settings: ClassVar[tuple[str, ...]] = ()  # likewise, those that leave so many of the tokens removed

    @model_validator(mode="after")
    def _fixed_layers_agree(self) -> Self:
        names = [name for name in type(self).model_fields if isinstance(getattr(self, name), tuple)]
        for name in names:
            if not getattr(self, name):
                raise ValueError(f"{name} must name at least one pruning layer, got []")
        if any(len(getattr(self, name)) != self.n_layers for name in names):
            asked = ", ".join(f"{name}={list(getattr(self, name))}" for name in names)
            raise ValueError(
                f"a list fixes one value for each pruning layer, so n_layers must be fixed to its length, "
                f"got {asked} with n_layers={self.n_layers}"
            )
        return self

    @property
    def given_places(self) -> PlacesSetting:
        """Where pruning layers may lie; ``None`` for wherever the model has blocks, a tuple where they are fixed."""
        places: PlacesSetting = getattr(self, self.places_name)
        return places

    @abstractmethod
    def layout(self, draw: LayerDraw, places: tuple[int, ...]) -> LayeredConfig:
        """Make the layout of the draw's first ``n_layers`` slots, which prune at the blocks ``places``."""

    def narrowed(self, architecture: Architecture) -> Self:
        """Give the part of the space that this architecture allows.

        Raises:
            InvalidInput: nothing is left, with the reason.
        """
        low, high = self._places(architecture)
        n_places = high - low + 1
        fewest, most = (int(end) for end in bounds(self.n_layers))
        if high > architecture.depth or not 1 <= fewest <= n_places:
            raise InvalidInput(
                f"the space asks for {fewest} or more pruning layers {self.places_name} blocks {low} to {high}, but "
                f"{architecture.name} has {architecture.depth} blocks: set n_layers and {self.places_name} to fit them"
            )
        if most > n_places:
            n_layers = IntRange(low=fewest, high=n_places) if fewest < n_places else fewest
            return self.model_copy(update={"n_layers": n_layers})
        return self

    def parameters(self, architecture: Architecture) -> tuple[Parameter, ...]:
        """List ``n_layers``, then each slot's position, rate and further settings, then the layout's."""
        return _parameters(self.narrowed(architecture), architecture)

    def build(self, values: Mapping[str, ParameterValue], architecture: Architecture) -> LayeredConfig:
        """Turn a draw into the layout of its first ``n_layers`` slots."""
        space = self.narrowed(architecture)
        return space._layout(space._draw(values, architecture), architecture)

    def extremes(self, architecture: Architecture) -> tuple[LayeredConfig, LayeredConfig]:
        """Give the cheapest and the dearest layout, found among the corners of the space."""
        space = self.narrowed(architecture)
        return (
            space._layout(space._extreme_draw(architecture, dearest=False), architecture),
            space._layout(space._extreme_draw(architecture, dearest=True), architecture),
        )

    def values_of(
        self, config: PruningConfig, drawn: Mapping[str, ParameterValue], architecture: Architecture
    ) -> dict[str, ParameterValue]:
        """Give the draw that becomes a layout without repair: its places in order, and what each layer has."""
        of_layers = (self.rate_name, *self.layer_settings)
        return {**drawn, **values_of(self._layered(config), self.parameters(architecture), of_layers)}

    def openings(self, architecture: Architecture) -> tuple[dict[str, ParameterValue], ...]:
        """Give parts of draws that begin to prune ever later, evenly from there on."""
        return openings(self.parameters(architecture), self.places_name, self.rate_name)

    def _layered(self, config: PruningConfig) -> LayeredConfig:
        if not isinstance(config, LayeredConfig):
            raise TypeError(f"{type(config).__name__} has no layers, and is no layout of {type(self).__name__}")
        return config

    @property
    def _n_slots(self) -> int:
        return int(bounds(self.n_layers)[1])

    def _places(self, architecture: Architecture) -> tuple[int, int]:
        places = self.given_places
        if places is None:
            return 1, last_place(self.places_name, architecture)
        if isinstance(places, tuple):
            return places[0], places[-1]
        return places.low, places.high

    def _draw(self, values: Mapping[str, ParameterValue], architecture: Architecture) -> LayerDraw:
        low, _ = self._places(architecture)
        slots = range(1, self._n_slots + 1)

        def of_slots(name: str) -> tuple[Any, ...]:
            setting = getattr(self, name)
            if isinstance(setting, tuple):
                return setting
            return tuple([value_in(setting, values.get(f"{name}_{slot}")) for slot in slots])

        return LayerDraw(
            n_layers=int(value_in(self.n_layers, values.get("n_layers"))),
            positions=self.given_places
            if isinstance(self.given_places, tuple)
            else tuple([int(values.get(f"{self.places_name}_{slot}", low)) for slot in slots]),
            rates=of_slots(self.rate_name),
            settings={name: of_slots(name) for name in self.layer_settings}
            | {name: value_in(getattr(self, name), values.get(name)) for name in self.layout_settings},
        )

    def _layout(self, draw: LayerDraw, architecture: Architecture) -> LayeredConfig:
        if isinstance(self.given_places, tuple):
            return self.layout(draw, self.given_places)
        low, high = self._places(architecture)
        spread = spread_out(draw.positions[: draw.n_layers], low, high)
        return self.layout(draw, tuple(max(low + index, place - draw.moved) for index, place in enumerate(spread)))

    def _costs(self, draw: LayerDraw, architecture: Architecture) -> float:
        return self._gflops(self._layout(draw, architecture), draw, architecture)

    def _gflops(self, layout: LayeredConfig, draw: LayerDraw, architecture: Architecture) -> float:
        """Say what the layout of a draw costs."""
        return layout.cost(architecture).gflops

    def _extreme_draw(self, architecture: Architecture, *, dearest: bool) -> LayerDraw:
        """Find the cheapest or dearest draw among the corners, then over each choice in turn."""

        def extreme(draws: Iterable[LayerDraw]) -> LayerDraw:
            by_cost = sorted(draws, key=lambda draw: self._costs(draw, architecture))
            return by_cost[-1 if dearest else 0]

        found = extreme(self._corners(architecture))
        for name in self.layout_settings:
            setting = getattr(self, name)
            if isinstance(setting, Choice):
                found = extreme(replace(found, settings={**found.settings, name: value}) for value in setting.values)
        return found

    def _corners(self, architecture: Architecture) -> Iterator[LayerDraw]:
        low, high = self._places(architecture)
        ends = itertools.product((0, 1), repeat=3 + len(self.layer_settings) + 1)
        for n_end, place_end, rate_end, layout_end, *layer_ends in ends:
            n_layers = int(bounds(self.n_layers)[n_end])
            settings: dict[str, Any] = {
                name: self._slots_at(name, end) for name, end in zip(self.layer_settings, layer_ends, strict=True)
            }
            for name in self.layout_settings:
                setting = getattr(self, name)
                settings[name] = setting.values[0] if isinstance(setting, Choice) else _end(setting, layout_end)
            yield LayerDraw(
                n_layers=n_layers,
                positions=(high if place_end else low,) * self._n_slots,
                rates=self._rates_at(rate_end),
                settings=settings,
            )

    def _slots_at(self, name: str, end: int) -> tuple[Any, ...]:
        setting = getattr(self, name)
        return setting if isinstance(setting, tuple) else (_end(setting, end),) * self._n_slots

    def _rates_at(self, end: int) -> tuple[float, ...]:
        return self._slots_at(self.rate_name, end)


@lru_cache(maxsize=64)
def _parameters(space: DrawsLayers, architecture: Architecture) -> tuple[Parameter, ...]:
    slots = range(1, space._n_slots + 1)
    named: list[tuple[str, Any]] = [("n_layers", space.n_layers)]
    low, high = space._places(architecture)
    if not isinstance(space.given_places, tuple) and low < high:
        named += [(f"{space.places_name}_{slot}", IntRange(low=low, high=high)) for slot in slots]
    for name in (space.rate_name, *space.layer_settings):
        named += [(f"{name}_{slot}", getattr(space, name)) for slot in slots]
    named += [(name, getattr(space, name)) for name in space.layout_settings]
    return tuple(
        Parameter(name, domain) for name, domain in named if isinstance(domain, IntRange | FloatRange | Choice)
    )


def _end(setting: Any, end: int) -> Any:
    return bounds(setting)[end] if isinstance(setting, IntRange | FloatRange) else setting
