"""Ranking by average attention on real tokens.

Source: Wang et al. 2024, arXiv:2305.17328, section H.2. The integers come from ``spaces.attention_rank``.
"""

from __future__ import annotations

from torch import Tensor

from pruning.reduction import Keep
from pruning.stage import BlockTrace, PruningStage
from pruning.tokens import sorted_top
from spaces import Architecture, AttentionRank, StageCost
from spaces.cost import Where

__all__ = ["AttentionRankPruning", "attention_rank_stages", "attention_received"]


def attention_rank_stages(config: AttentionRank, architecture: Architecture) -> list[PruningStage]:
    """Make the pruning layers of a layout, leaving out those that remove nothing.

    Attention is added up from the first block to the last layer, also where nothing is removed.
    """
    plans = {plan.block: plan for plan in config.stages(architecture) if plan.n_out < plan.n_in}
    accumulates = config.score == "accumulated"
    blocks = range(1, max(plans, default=0) + 1) if accumulates else plans
    return [AttentionRankPruning(block, plans.get(block), accumulates=accumulates) for block in blocks]


def attention_received(weights: Tensor, n_prefix: int) -> Tensor:
    """Average the attention that each patch receives over heads and queries, the prefix among them.

    Args:
        weights: (batch, head, n_token, n_token), each row a query.
        n_prefix: tokens before the patches.

    Returns:
        (batch, n_patch).
    """
    return weights.mean(dim=(1, 2))[:, n_prefix:]


class AttentionRankPruning:
    """One pruning layer, or one that only adds up attention for those behind it."""

    where: Where = "after"
    needs_attention = True
    counts_sizes = False

    def __init__(self, block: int, plan: StageCost | None, *, accumulates: bool) -> None:
        self.block = block
        self.plan = plan
        self.accumulates = accumulates

    def __call__(self, trace: BlockTrace) -> Keep | None:
        """Keep ``plan.n_out`` patches; without a plan only add to the passage's votes."""
        if trace.maps is None:
            raise RuntimeError("attention_rank needs its block's attention, and the block did not keep it")
        passage = trace.passage
        scores = attention_received(trace.maps.weights, passage.n_prefix)
        if self.accumulates:
            scores = passage.votes = scores if passage.votes is None else passage.votes + scores
        if self.plan is None:
            return None
        return Keep(sorted_top(scores, self.plan.n_out), self.plan.n_in)
