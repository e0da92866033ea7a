"""Spaces over several methods: the method is drawn like any other setting."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from spaces.architecture import Architecture
from spaces.base import PruningConfig, SearchSpace
from spaces.domains import Choice, Parameter, ParameterValue

__all__ = ["METHOD", "MethodChoice", "choice_of"]

Array = npt.NDArray[np.float64]
METHOD = "method"  # the parameter that says which method's parameters count


class MethodChoice(SearchSpace):
    """The layouts of several methods.

    A draw holds a method and the parameters of all of them, each under its method's name, such as
    ``zero_tprune.keep_rate_1``, so that its length is fixed. Only those of the method drawn reach the layout.

    Attributes:
        method: the methods' names, joined by ``+``.
        spaces: one for each method.
    """

    spaces: tuple[SearchSpace, ...]

    def parameters(self, architecture: Architecture) -> tuple[Parameter, ...]:
        """List the method, then each method's own parameters under its name."""
        drawn = [Parameter(METHOD, Choice(values=tuple(space.method for space in self.spaces)))]
        for space in self.spaces:
            drawn += [
                replace(each, name=f"{space.method}.{each.name}", method=space.method)
                for each in space.parameters(architecture)
            ]
        return tuple(drawn)

    def build(self, values: Mapping[str, ParameterValue], architecture: Architecture) -> PruningConfig:
        """Turn a draw into a layout of the method drawn."""
        space, own = self._drawn(values)
        return space.build(own, architecture)

    def drawn_gflops(self, values: Mapping[str, ParameterValue], architecture: Architecture) -> float:
        """Say what a draw costs before it is brought onto a budget, as the method drawn has it."""
        space, own = self._drawn(values)
        return space.drawn_gflops(own, architecture)

    def fit(
        self, values: Mapping[str, ParameterValue], architecture: Architecture, target_gflops: float
    ) -> PruningConfig:
        """Bring a draw onto the budget, within the method drawn.

        Raises:
            BudgetUnsatisfiable: nothing in that method's space costs as little.
        """
        space, own = self._drawn(values)
        return space.fit(own, architecture, target_gflops)

    def extremes(self, architecture: Architecture) -> tuple[PruningConfig, PruningConfig]:
        """Give the cheapest and the dearest layout of any method."""
        cheapest, dearest = zip(*(space.extremes(architecture) for space in self.spaces), strict=True)
        return (
            min(cheapest, key=lambda config: config.least_cost(architecture).macs),
            max(dearest, key=lambda config: config.cost(architecture).macs),
        )

    def values_of(
        self, config: PruningConfig, drawn: Mapping[str, ParameterValue], architecture: Architecture
    ) -> dict[str, ParameterValue]:
        """Give the draw that becomes a layout without repair; of the method drawn alone."""
        space, own = self._drawn(drawn)
        return {**drawn, **_named(space, space.values_of(config, own, architecture))}

    def profiles(
        self,
        draws: Sequence[Mapping[str, ParameterValue]],
        architecture: Architecture,
        targets: Sequence[float] | None = None,
    ) -> Array:
        """Describe draws of one method as that does; those of several cannot be compared.

        Raises:
            ValueError: the draws are of several methods.
        """
        if len({draw[METHOD] for draw in draws}) > 1:
            raise ValueError("draws of several methods have no profiles that could be compared")
        drawn = [self._drawn(draw) for draw in draws]
        return drawn[0][0].profiles([own for _, own in drawn], architecture, targets)

    def openings(self, architecture: Architecture) -> tuple[dict[str, ParameterValue], ...]:
        """Give every other opening of each method, the methods in turn."""
        of_methods = [
            [{METHOD: space.method, **_named(space, each)} for each in space.openings(architecture)[1::2]]
            for space in self.spaces
        ]
        in_turn = itertools.zip_longest(*of_methods)
        return tuple(each for turn in in_turn for each in turn if each is not None)

    def _drawn(self, values: Mapping[str, ParameterValue]) -> tuple[SearchSpace, dict[str, ParameterValue]]:
        method = values[METHOD]
        space = next(space for space in self.spaces if space.method == method)
        own = f"{method}."
        return space, {name.removeprefix(own): value for name, value in values.items() if name.startswith(own)}


def _named(space: SearchSpace, values: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
    """Write a method's values under its name."""
    return {f"{space.method}.{name}": value for name, value in values.items()}


def choice_of(spaces: Sequence[SearchSpace]) -> SearchSpace:
    """Make one space of several; one alone stays as it is, and so do its parameters' names."""
    if len(spaces) == 1:
        return spaces[0]
    return MethodChoice(method="+".join(space.method for space in spaces), spaces=tuple(spaces))
