"""Spaces of layered layouts: a fixed-length draw, sorted into layers, and repaired onto a budget.

A draw names more layers than most candidates use: every slot has a position, a keep rate and whatever else
the method wants for a layer, and ``n_layers`` says how many slots count. The encoding is then of fixed
length, so that every sampler can work on it, and a repair can add a layer without inventing its settings.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import model_validator

from spaces.architecture import Architecture
from spaces.base import PruningConfig, SearchSpace
from spaces.domains import Choice, FloatRange, IntRange, Parameter, ParameterValue, bounds, value_in
from spaces.errors import BudgetUnsatisfiable, InvalidInput
from spaces.layer_draw import LayerDraw, spread_out
from spaces.layer_values import openings, values_of
from spaces.layered import FloatSetting, LayeredConfig, PlacesSetting, last_place, per_layer
from spaces.repair import smallest_power_that_fits, to_the_power

__all__ = ["LayeredSpace", "SpaceAfter", "SpaceInside"]

_DIGITS = 10_000  # a repaired rate is rounded down to four


class LayeredSpace(SearchSpace):
    """A space of layered layouts.

    Attributes:
        n_layers: pruning layers.
        keep_rate: patch tokens kept of those that enter a layer.
        min_tokens: patch tokens that always remain.
    """

    n_layers: IntRange | int = IntRange(low=3, high=6)
    keep_rate: FloatSetting = FloatRange(low=0.3, high=1.0)
    min_tokens: int = 1

    places_name: ClassVar[str]  # of the setting that says where they may lie
    layer_settings: ClassVar[tuple[str, ...]] = ()  # drawn once for each slot, beside the keep rate
    layout_settings: ClassVar[tuple[str, ...]] = ()  # drawn once for the layout
    count_settings: ClassVar[tuple[str, ...]] = ()  # of the layer settings, those that remove so many tokens

    @model_validator(mode="after")
    def _fixed_layers_agree(self) -> LayeredSpace:
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

    def narrowed(self, architecture: Architecture) -> LayeredSpace:
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
        """List ``n_layers``, then each slot's position, keep rate and further settings, then the layout's."""
        space = self.narrowed(architecture)
        slots = range(1, space._n_slots + 1)
        named: list[tuple[str, Any]] = [("n_layers", space.n_layers)]
        low, high = space._places(architecture)
        if not isinstance(space.given_places, tuple) and low < high:
            named += [(f"{space.places_name}_{slot}", IntRange(low=low, high=high)) for slot in slots]
        for name in ("keep_rate", *space.layer_settings):
            named += [(f"{name}_{slot}", getattr(space, name)) for slot in slots]
        named += [(name, getattr(space, name)) for name in space.layout_settings]
        return tuple(
            Parameter(name, domain) for name, domain in named if isinstance(domain, IntRange | FloatRange | Choice)
        )

    def build(self, values: Mapping[str, ParameterValue], architecture: Architecture) -> LayeredConfig:
        """Turn a draw into the layout of its first ``n_layers`` slots."""
        space = self.narrowed(architecture)
        return space._layout(space._draw(values, architecture), architecture)

    def fit(
        self, values: Mapping[str, ParameterValue], architecture: Architecture, target_gflops: float
    ) -> LayeredConfig:
        """Bring a draw onto the budget, changing as little as is needed.

        All keep rates are raised to one power, within their bounds, so that the layout costs the target or just
        less; a draw that costs less than the target also removes fewer tokens by count. Only where even the lowest
        rates cost too much do the layers move towards the input; then further slots of the draw count; then the
        space's cheapest settings take over.

        Raises:
            BudgetUnsatisfiable: nothing in the space costs as little.
        """
        space = self.narrowed(architecture)
        for draw in space._ever_cheaper(space._draw(values, architecture), architecture):
            if space._costs(space._hardest(draw), architecture) <= target_gflops:
                return space._matched(draw, architecture, target_gflops)
        raise BudgetUnsatisfiable(
            f"no layout of this space costs as little as {target_gflops:.4g} GFLOPs on {architecture.name}"
        )

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
        if not isinstance(config, LayeredConfig):
            raise TypeError(f"{type(config).__name__} has no layers, and is no layout of {type(self).__name__}")
        return {**drawn, **values_of(config, self.parameters(architecture), self.layer_settings)}

    def openings(self, architecture: Architecture) -> tuple[dict[str, ParameterValue], ...]:
        """Give parts of draws that begin to prune ever later, evenly from there on."""
        return openings(self.parameters(architecture), self.places_name)

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

        def of_slots(name: str) -> tuple[Any, ...]:
            setting = getattr(self, name)
            return tuple(
                value_in(per_layer(setting, slot), values.get(f"{name}_{slot + 1}")) for slot in range(self._n_slots)
            )

        return LayerDraw(
            n_layers=int(value_in(self.n_layers, values.get("n_layers"))),
            positions=self.given_places
            if isinstance(self.given_places, tuple)
            else tuple(int(values.get(f"{self.places_name}_{slot + 1}", low)) for slot in range(self._n_slots)),
            keep_rate=of_slots("keep_rate"),
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
        return self._layout(draw, architecture).cost(architecture).gflops

    def _ever_cheaper(self, draw: LayerDraw, architecture: Architecture) -> Iterator[LayerDraw]:
        low, high = self._places(architecture)
        moves = 0 if isinstance(self.given_places, tuple) else high - low
        for n_layers in range(draw.n_layers, self._n_slots + 1):
            for moved in range(moves + 1):
                yield replace(draw, n_layers=n_layers, moved=moved)
        yield self._extreme_draw(architecture, dearest=False)

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
                keep_rate=self._rates_at(rate_end),
                settings=settings,
            )

    def _slots_at(self, name: str, end: int) -> tuple[Any, ...]:
        setting = getattr(self, name)
        return tuple(_end(per_layer(setting, slot), end) for slot in range(self._n_slots))

    def _rates_at(self, end: int) -> tuple[float, ...]:
        return self._slots_at("keep_rate", end)

    def _matched(self, draw: LayerDraw, architecture: Architecture, target_gflops: float) -> LayeredConfig:
        lowest = self._rates_at(0)

        def rounded(power: float) -> LayerDraw:
            found = self._at_power(draw, power)
            rates = zip(found.keep_rate, lowest, strict=True)
            return replace(found, keep_rate=tuple(max(int(rate * _DIGITS) / _DIGITS, low) for rate, low in rates))

        def fits(power: float) -> bool:
            return self._costs(self._at_power(draw, power), architecture) <= target_gflops

        def are_alike(power: float, other: float) -> bool:
            # Powers further apart than this hardly ever round alike, and rounding takes half as long as bisecting on.
            return (
                other - power < 1 / _DIGITS
                and (alike := rounded(power)) == rounded(other)
                and self._costs(alike, architecture) <= target_gflops
            )

        power = smallest_power_that_fits(fits, are_alike)
        if power is None:
            return self._layout(self._hardest(draw), architecture)
        if self._costs(fitting := rounded(power), architecture) > target_gflops:
            fitting = self._at_power(draw, power)
        return self._layout(fitting, architecture)

    def _hardest(self, draw: LayerDraw) -> LayerDraw:
        """Let the draw prune as much as a repair may."""
        return replace(draw, keep_rate=self._rates_at(0))

    def _at_power(self, draw: LayerDraw, power: float) -> LayerDraw:
        """Let the draw prune more (above 1) or less (below 1) than it was drawn to.

        Keep rates are raised to the power. Token counts are multiplied by it where it is below 1: above, they stay,
        for they are few and say what a layer is for.
        """
        setting: Any = self.keep_rate
        ends = (bounds(per_layer(setting, slot)) for slot in range(self._n_slots))
        settings = dict(draw.settings)
        for name in self.count_settings:
            domain = getattr(self, name)
            if power < 1 and isinstance(domain, IntRange):
                settings[name] = tuple(domain.low + round((count - domain.low) * power) for count in settings[name])
        return replace(
            draw,
            keep_rate=tuple(
                to_the_power(rate, power, low=low, high=high)
                for rate, (low, high) in zip(draw.keep_rate, ends, strict=True)
            ),
            settings=settings,
        )


class SpaceAfter(LayeredSpace):
    """A space of layouts with pruning layers behind blocks.

    Attributes:
        after: where they may lie; by default anywhere between the model's blocks. A list fixes them.
    """

    after: PlacesSetting = None

    places_name: ClassVar[str] = "after"


class SpaceInside(LayeredSpace):
    """A space of layouts with pruning layers between the attention and the MLP of blocks.

    Attributes:
        inside: where they may lie; by default in any block. A list fixes them.
    """

    inside: PlacesSetting = None

    places_name: ClassVar[str] = "inside"


def _end(setting: Any, end: int) -> Any:
    return bounds(setting)[end] if isinstance(setting, IntRange | FloatRange) else setting
