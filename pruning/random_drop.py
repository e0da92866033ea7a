"""Random drop on real tokens: the baseline."""

from __future__ import annotations

from pruning.reduction import Keep
from pruning.stage import BlockTrace, PruningStage
from pruning.tokens import sorted_top, uniform_scores
from spaces import Architecture, RandomDrop, StageCost
from spaces.cost import Where

__all__ = ["RandomDropPruning", "random_drop_stages"]


def random_drop_stages(config: RandomDrop, architecture: Architecture) -> list[PruningStage]:
    """Make the pruning layers of a layout, leaving out those that remove nothing."""
    plans = config.stages(architecture)
    return [RandomDropPruning(config.seed, plan) for plan in plans if plan.n_out < plan.n_in]


class RandomDropPruning:
    """One pruning layer: keeps patches drawn uniformly without replacement, for each image its own."""

    where: Where = "after"
    needs_attention = False
    counts_sizes = False

    def __init__(self, seed: int, plan: StageCost) -> None:
        self.seed = seed
        self.plan = plan
        self.block = plan.block

    def __call__(self, trace: BlockTrace) -> Keep:
        """Keep ``plan.n_out`` patches."""
        scores = uniform_scores(trace.passage.image_ids, self.plan.n_in, seed=self.seed, layer=self.block)
        return Keep(sorted_top(scores, self.plan.n_out), self.plan.n_in)
