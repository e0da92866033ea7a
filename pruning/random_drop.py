"""Random drop on real tokens: the baseline."""

from __future__ import annotations

from torch import Tensor

from pruning.stage import BlockTrace, PruningStage
from pruning.tokens import sorted_top, uniform_scores
from spaces import Architecture, RandomDrop, StageCost

__all__ = ["RandomDropPruning", "random_drop_stages"]


def random_drop_stages(config: RandomDrop, architecture: Architecture) -> list[PruningStage]:
    """Make the pruning layers of a layout, leaving out those that remove nothing."""
    plans = config.stages(architecture)
    return [RandomDropPruning(config.seed, plan) for plan in plans if plan.n_out < plan.n_in]


class RandomDropPruning:
    """One pruning layer: keeps patches drawn uniformly without replacement, for each image its own."""

    needs_attention = False

    def __init__(self, seed: int, plan: StageCost) -> None:
        self.seed = seed
        self.plan = plan
        self.after = plan.after

    def __call__(self, trace: BlockTrace) -> Tensor:
        """Give the positions of the patches that stay: (batch, plan.n_out), ascending."""
        scores = uniform_scores(trace.image_ids, self.plan.n_in, seed=self.seed, layer=self.after)
        return sorted_top(scores, self.plan.n_out)
