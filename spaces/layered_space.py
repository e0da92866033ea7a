"""Spaces of layered layouts, whose draws are brought onto a budget by how much their layers keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from spaces.architecture import Architecture
from spaces.domains import FloatRange, IntRange, ParameterValue
from spaces.errors import BudgetUnsatisfiable
from spaces.layer_draw import LayerDraw
from spaces.layered import FloatSetting, LayeredConfig, PlacesSetting
from spaces.layered_guesses import GuessesLayers
from spaces.repair import smallest_power_that_fits, to_the_power

__all__ = ["LayeredSpace", "SpaceAfter", "SpaceInside", "share_above"]

_DIGITS = 10_000  # a repaired rate is rounded down to four


class LayeredSpace(GuessesLayers):
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
        space = self.narrowed(architecture)
        for draw in space._ever_cheaper(space._draw(values, architecture), architecture):
            if (layout := space._matched(draw, architecture, target_gflops)) is not None:
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

    def _matched(self, draw: LayerDraw, architecture: Architecture, target_gflops: float) -> LayeredConfig | None:
        """Give the layout at the power that fits; ``None`` where even the lowest rates cost too much."""
        like = self._copies(self._layout(draw, architecture), draw)
        looked_at: dict[float, LayerDraw] = {}  # by power

        def cost(other: LayerDraw) -> float:
            return self._gflops(like(other), other, architecture)

        def cost_at(power: float) -> float:
            looked_at[power] = self._at_power(draw, power)
            return cost(looked_at[power])

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
        return self._at_power(draw, math.inf)

    def _at_power(self, draw: LayerDraw, power: float) -> LayerDraw:
        """Let the draw prune more (above 1) or less (below 1) than it was drawn to.

        Rates are raised to the power. Token counts are multiplied by it where it is below 1: above, they stay,
        for they are few and say what a layer is for. What is left of removed tokens is divided by it where it is above
        1: at low rates that is most of what leaves a layer, and as drawn it would push layers to the input.
        """
        settings = dict(draw.settings)
        for names, share in ((self.count_settings, min(power, 1.0)), (self.rest_settings, 1 / max(power, 1.0))):
            for name in names if share < 1 else ():
                domain = getattr(self, name)
                if isinstance(domain, IntRange):
                    settings[name] = share_above(domain, settings[name], share)
        ends = zip(draw.rates, self._rates_at(0), self._rates_at(1), strict=True)
        rates = [to_the_power(rate, power, low=low, high=high) for rate, low, high in ends]
        return replace(draw, rates=tuple(rates), settings=settings)


def share_above(domain: IntRange, counts: Sequence[int], share: float) -> tuple[int, ...]:
    """Leave a share of what counts exceed the least of their range by.

    >>> share_above(IntRange(low=1, high=40), (1, 11, 40), 0.5)
    (1, 6, 21)
    """
    low = domain.low
    return tuple([low + round((count - low) * share) for count in counts])


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
