"""What a search is about: a space of layouts, for one architecture, under a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from spaces.architecture import Architecture
from spaces.base import PruningConfig, SearchSpace
from spaces.budget import Budget
from spaces.cost import Cost, dense_cost
from spaces.domains import FloatRange, Parameter, ParameterValue
from spaces.errors import BudgetUnsatisfiable, PrunefrontError, UnsupportedModel
from spaces.method_choice import MethodChoice, choice_of

__all__ = ["TARGET", "BudgetBy", "Problem", "Proposal"]

Array = npt.NDArray[np.float64]
BudgetBy = Literal["repair", "rejection", "constraint"]

TARGET = "target_gflops"  # the parameter that spreads a front over its range of budgets


@dataclass(frozen=True)
class Proposal:
    """A layout within the budget, or that may be, and what it took to get there.

    Attributes:
        config: the layout.
        cost: what it costs, overhead included; the most that it can, where only measuring tells.
        drawn_gflops: what the sampler's draw would have cost, as far as can be known.
    """

    config: PruningConfig
    cost: Cost
    drawn_gflops: float


@dataclass(frozen=True)
class Problem:
    """A space of layouts, for one architecture, under a budget.

    Attributes:
        space: what may be drawn.
        architecture: of the model.
        budget: what no proposal exceeds.
        budget_by: how draws come within the budget: by ``repair``, or else by drawing again until one is, with
            ``rejection`` forgetting those that were not, and ``constraint`` telling the sampler of them.
        seeks_one: whether one best layout is looked for although the budget is a range; see ``spread``.
    """

    space: SearchSpace
    architecture: Architecture
    budget: Budget
    budget_by: BudgetBy = "repair"
    seeks_one: bool = False

    def cost_range(self) -> tuple[float, float]:
        """Give the least and the most GFLOPs that layouts of the space can cost, whatever the budget."""
        cheapest, dearest = self.space.extremes(self.architecture)
        return cheapest.least_cost(self.architecture).gflops, dearest.cost(self.architecture).gflops

    def require_satisfiable(self) -> None:
        """Refuse a budget that no layout of the space can meet.

        Raises:
            BudgetUnsatisfiable: with the least and the most that the space can cost.
        """
        least, most = self.cost_range()
        low, high = self.budget.low_gflops, self.budget.high_gflops
        if (high if low is None else low) >= least and (low is None or low <= most):
            return
        asked = f"{high:.4g}" if low is None else f"{low:.4g} to {high:.4g}"
        raise BudgetUnsatisfiable(
            f"the budget of {asked} GFLOPs is unsatisfiable: layouts of this space cost {least:.4g} to {most:.4g} "
            f"GFLOPs on {self.architecture.name} (dense {dense_cost(self.architecture).gflops:.4g})"
        )

    def without_misfits(self) -> tuple[Problem, tuple[str, ...]]:
        """Leave out the methods that cannot run on the model, or not within the budget.

        Returns:
            The problem with the methods that are left, and for each other method a line that says why it is not.

        Raises:
            UnsupportedModel: the only method, or each of several, cannot run on the model.
            BudgetUnsatisfiable: likewise, and a budget is among the reasons.
        """
        if not isinstance(self.space, MethodChoice):
            self.require_satisfiable()
            return self, ()
        left: list[SearchSpace] = []
        misfits: dict[str, PrunefrontError] = {}
        for space in self.space.spaces:
            try:
                replace(self, space=space).require_satisfiable()
            except (BudgetUnsatisfiable, UnsupportedModel) as error:
                misfits[space.method] = error
            else:
                left.append(space)
        if not left:
            is_budget = any(isinstance(error, BudgetUnsatisfiable) for error in misfits.values())
            reasons = "; ".join(f"{method}: {error}" for method, error in misfits.items())
            raise (BudgetUnsatisfiable if is_budget else UnsupportedModel)(f"none of the methods is left: {reasons}")
        lines = tuple(f"{method} is left out: {error}" for method, error in misfits.items())
        return replace(self, space=choice_of(left)), lines

    @property
    def is_front(self) -> bool:
        """Whether a whole front is looked for, not one best layout."""
        return self.budget.is_range and not self.seeks_one

    def spread(self, *, is_front: bool) -> Problem:
        """Let the cost to aim at be drawn, since only measuring tells how much of the budget suits a further bound.

        A range of budgets stays; a single one becomes a range from the least that each of the methods can cost.

        Args:
            is_front: whether a whole front is looked for.
        """
        spread = replace(self, seeks_one=not is_front)
        if self.budget.is_range:
            return spread
        spaces = self.space.spaces if isinstance(self.space, MethodChoice) else (self.space,)
        least = max(replace(self, space=space).cost_range()[0] for space in spaces)
        return replace(spread, budget=replace(self.budget, low_gflops=least))

    def parameters(self) -> tuple[Parameter, ...]:
        """List what a sampler draws: the space's parameters and, to repair for a front, the cost to aim at."""
        drawn = self.space.parameters(self.architecture)
        if self.budget.low_gflops is None or self.budget_by != "repair" or not self.space.aims_at_budgets:
            return drawn
        return (Parameter(TARGET, FloatRange(low=self.budget.low_gflops, high=self.budget.high_gflops)), *drawn)

    def excess(self, values: Mapping[str, ParameterValue]) -> float:
        """Give the GFLOPs by which a draw misses the budget; 0 where it may be proposed, as every draw with repair.

        Where only measuring tells what it costs, it misses the budget if it certainly does.
        """
        if self.budget_by == "repair":
            return 0.0
        config = self.space.build(values, self.architecture)
        least, most = config.least_cost(self.architecture).gflops, config.cost(self.architecture).gflops
        return max(0.0, least - self.budget.high_gflops, (self.budget.low_gflops or 0.0) - most)

    def overrun(self, gflops: float) -> float:
        """Give the GFLOPs by which a cost exceeds the budget; 0 where it does not."""
        return max(0.0, gflops - self.budget.high_gflops)

    def openings(self) -> tuple[dict[str, ParameterValue], ...]:
        """Give what a search that learns begins with, see ``SearchSpace.openings``."""
        return self.space.openings(self.architecture)

    def values_of(self, config: PruningConfig, drawn: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
        """Give the draw that becomes the layout without repair, see ``SearchSpace.values_of``."""
        return self.space.values_of(config, drawn, self.architecture)

    def profiles(self, draws: Sequence[Mapping[str, ParameterValue]]) -> Array:
        """Describe the layouts that draws become, or some much like them, see ``SearchSpace.profiles``."""
        targets = [self._target(values) for values in draws] if self.budget_by == "repair" else None
        return self.space.profiles(draws, self.architecture, targets)

    def propose(self, values: Mapping[str, ParameterValue]) -> Proposal:
        """Turn a draw into a layout within the budget: repaired onto it or its drawn target, or just as it is.

        Raises:
            BudgetUnsatisfiable: nothing in the space costs as little.
        """
        if self.budget_by != "repair":
            config = self.space.build(values, self.architecture)
            drawn = self.space.drawn_gflops(values, self.architecture)
            return Proposal(config=config, cost=config.cost(self.architecture), drawn_gflops=drawn)
        config = self.space.fit(values, self.architecture, self._target(values))
        return Proposal(
            config=config,
            cost=config.cost(self.architecture),
            drawn_gflops=self.space.drawn_gflops(values, self.architecture),
        )

    def _target(self, values: Mapping[str, ParameterValue]) -> float:
        return float(values.get(TARGET, self.budget.high_gflops))
