"""What many draws of layered layouts come to on a budget, guessed all at once: near enough to tell which is promising.

A search looks at far more draws than it measures. Bringing one exactly onto the budget takes as long as guessing all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from spaces.architecture import Architecture
from spaces.cost import Where, model_macs_of_many
from spaces.domains import Choice, FloatRange, IntRange, ParameterValue
from spaces.layered_draws import DrawsLayers
from spaces.profile import by_block, scaled, token_shares
from spaces.repair import ALMOST_ALL, powers_that_nearly_fit

__all__ = ["GuessesLayers", "Slots"]

_RANGES = IntRange | FloatRange

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Slots:
    """Draws as arrays: a row for each, and a column for each of its slots.

    Attributes:
        n_layers: (n,), slots that count.
        positions: (n, n_slot), where each slot was drawn.
        rates: (n, n_slot), how much each keeps.
        settings: (n, n_slot) each, what else layers have; (n, 1) what all layers of a layout share. Numbers alone.
    """

    n_layers: Indices
    positions: Indices
    rates: Array
    settings: Mapping[str, Array]

    def of(self, rows: Any) -> Slots:
        """Give some of the draws."""
        settings = {name: values[rows] for name, values in self.settings.items()}
        return Slots(self.n_layers[rows], self.positions[rows], self.rates[rows], settings)


class GuessesLayers(DrawsLayers):
    """A space of layered layouts that says at once what many draws come to."""

    def profiles(
        self,
        draws: Sequence[Mapping[str, ParameterValue]],
        architecture: Architecture,
        targets: Sequence[float] | None = None,
    ) -> Array:
        """Describe what draws become by the tokens that each block leaves, and what layers have under their blocks.

        A guess: what choosing tokens costs is left out, tokens need not be whole, and the budget is met to a hundredth
        or so.
        """
        space = self.narrowed(architecture)
        return space._profiles(draws, architecture, targets)

    def _profiles(
        self,
        draws: Sequence[Mapping[str, ParameterValue]],
        architecture: Architecture,
        targets: Sequence[float] | None,
    ) -> Array:
        slots, depth = self._slots(draws, architecture), architecture.depth
        if targets is None:
            powers, places = np.ones(len(draws)), self._placed(slots, np.zeros(len(draws), int), architecture)
        else:
            slots, places, powers = self._brought_onto(slots, architecture, 1e9 * np.array(targets))
        slots = self._at_powers(slots, powers)
        shares = token_shares(self._left(slots, places, architecture), architecture.n_patch)
        of_layers = [
            by_block(places, scaled(domain, slots.settings[name])[..., 0], depth)
            for name in self.layer_settings
            if isinstance(domain := getattr(self, name), _RANGES)  # otherwise all layouts share it
        ]
        of_layouts = [
            scaled(domain, [each[name] for each in draws])
            for name in self.layout_settings
            if isinstance(domain := getattr(self, name), _RANGES | Choice)
        ]
        return np.concatenate((shares, *of_layers, *of_layouts), axis=1)

    def kept(self, n_in: Array, slots: Slots, slot: int, architecture: Architecture) -> Array:
        """Guess how many patches the layers in one slot of all draws keep.

        Args:
            n_in: (n,), patches that enter them.
            slots: the draws.
            slot: which, from 0.
            architecture: of the model.
        """
        kept = slots.rates[:, slot] * n_in
        for name in self.count_settings:
            if name in slots.settings:
                kept = kept - slots.settings[name][:, slot]
        return np.maximum(kept, 1.0)

    def _slots(self, draws: Sequence[Mapping[str, ParameterValue]], architecture: Architecture) -> Slots:
        def drawn(name: str, otherwise: float) -> Array:
            names = [f"{name}_{slot}" for slot in range(1, self._n_slots + 1)]
            return np.array([[each.get(slot, otherwise) for slot in names] for each in draws], float)

        def of_layers(setting: Any, name: str) -> Array:
            if isinstance(setting, _RANGES):
                return drawn(name, setting.low)
            return np.broadcast_to(np.array(setting, float), (len(draws), self._n_slots))

        settings = {
            name: of_layers(setting, name)
            for name in self.layer_settings
            if (setting := getattr(self, name)) is not None
        }
        for name in self.layout_settings:
            setting = getattr(self, name)
            if isinstance(setting, _RANGES):
                settings[name] = np.array([[each[name]] for each in draws], float)
            elif isinstance(setting, float):
                settings[name] = np.full((len(draws), 1), setting)
        places, (low, _) = self.given_places, self._places(architecture)
        positions = of_layers(places, self.places_name) if isinstance(places, tuple) else drawn(self.places_name, low)
        return Slots(
            n_layers=np.array([each.get("n_layers", self.n_layers) for each in draws], int),
            positions=positions.astype(int),
            rates=of_layers(getattr(self, self.rate_name), self.rate_name),
            settings=settings,
        )

    def _placed(self, slots: Slots, moved: Indices, architecture: Architecture) -> Indices:
        """Find the block of each slot's layer, as ``spread_out`` does; ``depth + 1`` where it has none."""
        index = np.arange(self._n_slots)
        counts = index < slots.n_layers[:, None]
        if isinstance(self.given_places, tuple):
            places = slots.positions
        else:
            low, high = self._places(architecture)
            places = np.sort(np.where(counts, slots.positions, high), axis=1)
            places = np.maximum.accumulate(places - index, axis=1) + index
            places = np.minimum(places, high - (slots.n_layers[:, None] - 1 - index))
            places = np.maximum(low + index, places - moved[:, None])
        return np.where(counts, places, architecture.depth + 1)

    def _at_powers(self, slots: Slots, powers: Array) -> Slots:
        """Let each draw prune as much more or less as ``LayeredSpace.fit`` does at its power."""
        low, high = (np.array(self._rates_at(end)) for end in (0, 1))
        rates = np.clip(np.minimum(slots.rates, ALMOST_ALL) ** powers[:, None], low, high)
        settings = dict(slots.settings)
        shares = (self.count_settings, np.minimum(powers, 1)), (self.rest_settings, 1 / np.maximum(powers, 1))
        for names, share in shares:
            for name in names:
                if isinstance(domain := getattr(self, name), IntRange):
                    settings[name] = domain.low + np.rint((settings[name] - domain.low) * share[:, None])
        return replace(slots, rates=rates, settings=settings)

    def _left(self, slots: Slots, places: Indices, architecture: Architecture) -> Array:
        """Guess the patches behind each block, (n, depth)."""
        n_patch = np.full(len(places), float(architecture.n_patch))
        behind_slots = [n_patch]
        for slot in range(self._n_slots):
            n_patch = np.minimum(n_patch, self.kept(n_patch, slots, slot, architecture))
            behind_slots.append(n_patch)
        blocks = np.arange(1, architecture.depth + 1)
        n_before = (places[:, :, None] <= blocks).sum(axis=1)
        return np.take_along_axis(np.stack(behind_slots, axis=1), n_before, axis=1)

    def _macs(self, slots: Slots, places: Indices, powers: Array, architecture: Architecture) -> Array:
        left = self._left(self._at_powers(slots, powers), places, architecture)
        return model_macs_of_many(architecture, left, cast(Where, self.places_name))

    def _brought_onto(self, slots: Slots, architecture: Architecture, targets: Array) -> tuple[Slots, Indices, Array]:
        """Bring draws onto budgets (n,) in multiply-adds, as ``LayeredSpace.fit`` does."""
        places = self._placed(slots, np.zeros(len(targets), int), architecture)
        hardest = np.full(len(targets), np.inf)
        dear = np.flatnonzero(self._macs(slots, places, hardest, architecture) > targets)
        if len(dear) and not isinstance(self.given_places, tuple):
            slots, places = self._made_cheaper(slots, places, dear, architecture, targets)
        powers = powers_that_nearly_fit(lambda tried: self._macs(slots, places, tried, architecture), targets)
        return slots, places, powers

    def _made_cheaper(
        self, slots: Slots, places: Indices, dear: Indices, architecture: Architecture, targets: Array
    ) -> tuple[Slots, Indices]:
        """Move the layers of some draws towards the input, then let more slots count, until their budgets can be met.

        Those of which that is never so prune as much as they can.
        """
        low, high = self._places(architecture)
        n_layers, places, n_tried = slots.n_layers.copy(), places.copy(), high - low + 1
        while len(dear):
            each = np.repeat(dear, n_tried)
            tried = replace(slots.of(each), n_layers=n_layers[each])
            moved = self._placed(tried, np.tile(np.arange(n_tried), len(dear)), architecture)
            macs = self._macs(tried, moved, np.full(len(each), np.inf), architecture).reshape(len(dear), n_tried)
            fits = macs <= targets[dear, None]
            least = np.where(fits.any(axis=1), fits.argmax(axis=1), n_tried - 1)
            places[dear] = moved.reshape(len(dear), n_tried, -1)[np.arange(len(dear)), least]
            dear = dear[~fits.any(axis=1) & (n_layers[dear] < self._n_slots)]
            n_layers[dear] += 1
        return replace(slots, n_layers=n_layers), places
