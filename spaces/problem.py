"""What a search is about: a space of layouts, for one architecture, under a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spaces.architecture import Architecture
from spaces.base import PruningConfig, SearchSpace
from spaces.budget import Budget
from spaces.cost import Cost, dense_cost
from spaces.domains import FloatRange, Parameter, ParameterValue
from spaces.errors import BudgetUnsatisfiable

__all__ = ["TARGET", "Problem", "Proposal"]

TARGET = "target_gflops"  # the parameter that spreads a front over its range of budgets


@dataclass(frozen=True)
class Proposal:
    """A layout within the budget, and what it took to get there.

    Attributes:
        config: the layout.
        cost: what it costs, overhead included.
        drawn_gflops: what the sampler's draw would have cost.
    """

    config: PruningConfig
    cost: Cost
    drawn_gflops: float


@dataclass(frozen=True)
class Problem:
    """A space of layouts, for one architecture, under a budget."""

    space: SearchSpace
    architecture: Architecture
    budget: Budget

    def cost_range(self) -> tuple[float, float]:
        """Give the least and the most GFLOPs that layouts of the space can cost, whatever the budget."""
        cheapest, dearest = self.space.extremes(self.architecture)
        return cheapest.cost(self.architecture).gflops, dearest.cost(self.architecture).gflops

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

    def parameters(self) -> tuple[Parameter, ...]:
        """List what a sampler draws: the space's parameters and, for a front, the cost to aim at."""
        drawn = self.space.parameters(self.architecture)
        if self.budget.low_gflops is None:
            return drawn
        return (Parameter(TARGET, FloatRange(low=self.budget.low_gflops, high=self.budget.high_gflops)), *drawn)

    def propose(self, values: Mapping[str, ParameterValue]) -> Proposal:
        """Turn a draw into a layout that costs the budget, or its drawn target, or just less.

        Raises:
            BudgetUnsatisfiable: nothing in the space costs as little.
        """
        target = float(values.get(TARGET, self.budget.high_gflops))
        config = self.space.fit(values, self.architecture, target)
        return Proposal(
            config=config,
            cost=config.cost(self.architecture),
            drawn_gflops=self.space.build(values, self.architecture).cost(self.architecture).gflops,
        )
