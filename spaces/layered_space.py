"""Spaces of layered layouts, whose draws are brought onto a budget by how much their layers keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from spaces.architecture import Architecture
from spaces.cost import dense_cost
from spaces.domains import FloatRange, IntRange, ParameterValue
from spaces.errors import BudgetUnsatisfiable
from spaces.layer_draw import LayerDraw
from spaces.layered import FloatSetting, LayeredConfig, PlacesSetting
from spaces.layered_draws import DrawsLayers
from spaces.repair import power_that_nearly_fits, smallest_power_that_fits, to_the_power

__all__ = ["LayeredSpace", "SpaceAfter", "SpaceInside"]

_SLACK = 0.02  # of a budget, that a layout which is only described may leave over
_DIGITS = 10_000  # a repaired rate is rounded down to four


class LayeredSpace(DrawsLayers):
    """A space of layered layouts that may be brought onto a budget."""

    def drawn_gflops(self, values: Mapping[str, ParameterValue], architecture: Architecture) -> float:
        """Say what a draw costs before it is brought onto a budget; a guess where only measuring tells."""
        space = self.narrowed(architecture)
        return space._costs(space._draw(values, architecture), architecture)

    def fit(
        self, values: Mapping[str, ParameterValue], architecture: Architecture, target_gflops: float
    ) -> LayeredConfig:
        """Bring a draw onto the budget, changing as little as is needed.

        All rates are raised to one power, within their bounds, so that the layout costs the target or just
        less; a draw that costs less than the target also removes fewer tokens by count. Only where even the lowest
        rates cost too much do the layers move towards the input; then further slots of the draw count; then the
        space's cheapest settings take over.

        Raises:
            BudgetUnsatisfiable: nothing in the space costs as little.
        """
        return self._fit(values, architecture, target_gflops, slack=0.0)

    def nearly_fit(
        self, values: Mapping[str, ParameterValue], architecture: Architecture, target_gflops: float
    ) -> LayeredConfig:
        """Bring a draw almost onto the budget: it may leave a fiftieth, and takes a fifth of the time.

        Raises:
            BudgetUnsatisfiable: nothing in the space costs as little.
        """
        return self._fit(values, architecture, target_gflops, slack=_SLACK)

    def _fit(
        self, values: Mapping[str, ParameterValue], architecture: Architecture, target_gflops: float, slack: float
    ) -> LayeredConfig:
        space = self.narrowed(architecture)
        for draw in space._ever_cheaper(space._draw(values, architecture), architecture):
            if (layout := space._matched(draw, architecture, target_gflops, slack)) is not None:
                return layout
        raise BudgetUnsatisfiable(
            f"no layout of this space costs as little as {target_gflops:.4g} GFLOPs on {architecture.name}"
        )

    def _ever_cheaper(self, draw: LayerDraw, architecture: Architecture) -> Iterator[LayerDraw]:
        low, high = self._places(architecture)
        moves = 0 if isinstance(self.given_places, tuple) else high - low
        for n_layers in range(draw.n_layers, self._n_slots + 1):
            for moved in range(moves + 1):
                yield replace(draw, n_layers=n_layers, moved=moved)
        yield self._extreme_draw(architecture, dearest=False)

    def _matched(
        self, draw: LayerDraw, architecture: Architecture, target_gflops: float, slack: float
    ) -> LayeredConfig | None:
        """Give the layout at the power that fits; ``None`` where even the lowest rates cost too much."""
        drawn = self._layout(draw, architecture)
        like = self._copies(drawn, draw)
        looked_at: dict[float, LayerDraw] = {}  # by power

        def cost(other: LayerDraw) -> float:
            return self._gflops(like(other), other, architecture)

        def cost_at(power: float) -> float:
            looked_at[power] = self._at_power(draw, power)
            return cost(looked_at[power])

        if slack:
            dense = dense_cost(architecture).gflops
            spared = dense * (drawn.places[0] - 1) / architecture.depth
            power = power_that_nearly_fits(cost_at, target_gflops, slack, dense=dense, spared=spared)
            return None if power is None else like(looked_at[power])
        if cost(self._hardest(draw)) > target_gflops:
            return None

        def are_alike(power: float, other: float) -> bool:
            # Powers further apart than this hardly ever round alike, and rounding takes half as long as bisecting on.
            if other - power >= 1 / _DIGITS:
                return False
            alike, rounded = (self._rounded(looked_at[each]) for each in (power, other))
            return alike == rounded and cost(alike) <= target_gflops

        power = smallest_power_that_fits(lambda power: cost_at(power) <= target_gflops, are_alike)
        if power is None:
            return self._layout(self._hardest(draw), architecture)
        rounded = self._rounded(looked_at[power])
        return self._layout(rounded if cost(rounded) <= target_gflops else looked_at[power], architecture)

    def _rounded(self, draw: LayerDraw) -> LayerDraw:
        """Round rates down to four digits, within their bounds."""
        rates = zip(draw.rates, self._rates_at(0), strict=True)
        return replace(draw, rates=tuple(max(int(rate * _DIGITS) / _DIGITS, low) for rate, low in rates))

    def _copies(self, drawn: LayeredConfig, draw: LayerDraw) -> Callable[[LayerDraw], LayeredConfig]:
        """Give a quick way to the layouts of draws that differ from this one in what ``_at_power`` changes.

        They are copies of its own layout, and not checked again: that takes longer than counting what they cost.
        """
        n = draw.n_layers

        def like(other: LayerDraw) -> LayeredConfig:
            changed: dict[str, Any] = {self.rate_name: other.rates[:n]}
            for name in self.layer_settings:
                if (values := other.settings[name]) is not draw.settings[name]:
                    changed[name] = values[:n]
            return drawn.model_copy(update=changed)

        return like

    def _hardest(self, draw: LayerDraw) -> LayerDraw:
        """Let the draw prune as much as a repair may."""
        return replace(draw, rates=self._rates_at(0))

    def _at_power(self, draw: LayerDraw, power: float) -> LayerDraw:
        """Let the draw prune more (above 1) or less (below 1) than it was drawn to.

        Rates are raised to the power. Token counts are multiplied by it where it is below 1: above, they stay,
        for they are few and say what a layer is for.
        """
        settings = draw.settings
        if power < 1 and self.count_settings:
            settings = dict(settings)
            for name in self.count_settings:
                domain = getattr(self, name)
                if isinstance(domain, IntRange):
                    low = domain.low
                    settings[name] = tuple([low + round((count - low) * power) for count in settings[name]])
        ends = zip(draw.rates, self._rates_at(0), self._rates_at(1), strict=True)
        rates = [to_the_power(rate, power, low=low, high=high) for rate, low, high in ends]
        return replace(draw, rates=tuple(rates), settings=settings)


class KeepRateSpace(LayeredSpace):
    """A space of layouts whose layers keep a share of the patches that enter them.

    Attributes:
        keep_rate: that share.
        min_tokens: patch tokens that always remain.
    """

    keep_rate: FloatSetting = FloatRange(low=0.3, high=1.0)
    min_tokens: int = 1

    rate_name: ClassVar[str] = "keep_rate"


class SpaceAfter(KeepRateSpace):
    """A space of layouts with pruning layers behind blocks.

    Attributes:
        after: where they may lie; by default anywhere between the model's blocks. A list fixes them.
    """

    after: PlacesSetting = None

    places_name: ClassVar[str] = "after"


class SpaceInside(KeepRateSpace):
    """A space of layouts with pruning layers between the attention and the MLP of blocks.

    Attributes:
        inside: where they may lie; by default in any block. A list fixes them.
    """

    inside: PlacesSetting = None

    places_name: ClassVar[str] = "inside"
