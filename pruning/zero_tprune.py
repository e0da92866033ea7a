"""Zero-TPrune on real tokens: I', S and I stages behind one block.

Source: Wang, Dedhia and Jha 2024, "Zero-TPrune", arXiv:2305.17328. The integers come from ``spaces.zero_tprune``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pruning.attention import AttentionMaps
from pruning.importance import (
    aggregate_heads,
    first_signal,
    informative_heads,
    restrict,
    sharpen,
    weighted_page_rank,
)
from pruning.reduction import Keep
from pruning.similarity import most_similar, split_by_rank
from pruning.stage import BlockTrace, PruningStage
from pruning.tokens import all_tokens, gather_tokens, sorted_top, uniform_scores
from spaces import Architecture, ZeroTPrune, ZeroTPruneStage
from spaces.cost import Where

__all__ = ["ZeroTPrunePruning", "zero_tprune_stages"]


def zero_tprune_stages(config: ZeroTPrune, architecture: Architecture) -> list[PruningStage]:
    """Make the pruning layers of a layout, leaving out those that remove nothing."""
    plans = config.stages(architecture)
    return [ZeroTPrunePruning(config, plan, architecture.n_prefix) for plan in plans if plan.n_out < plan.n_in]


class ZeroTPrunePruning:
    """One pruning layer: first a single vote and the removal of similar tokens, then page rank and the top ones.

    In order I-S the page rank comes first, and its ranking guides the removal.
    """

    where: Where = "after"
    needs_attention = True
    counts_sizes = False

    def __init__(self, config: ZeroTPrune, plan: ZeroTPruneStage, n_prefix: int) -> None:
        self.config = config
        self.plan = plan
        self.n_prefix = n_prefix
        self.block = plan.block

    def __call__(self, trace: BlockTrace) -> Keep:
        """Keep ``plan.n_out`` patches."""
        return Keep(self._kept(trace), self.plan.n_in)

    def _kept(self, trace: BlockTrace) -> Tensor:
        """Give the positions of the patches that stay: (batch, plan.n_out), ascending."""
        if trace.maps is None:
            raise RuntimeError("Zero-TPrune needs its block's attention, and the block did not keep it")
        attention = sharpen(trace.maps.weights, self.config.temperature)
        everyone = torch.arange(self.plan.n_in, device=attention.device).expand(attention.shape[0], -1)
        if self.config.order == "I-S":
            importance = self._importance(attention, self.plan.iterations)
            important = sorted_top(importance, self.plan.n_important)
            return self._without_similar(important, importance.gather(1, important), trace)
        kept = everyone
        if self.plan.n_similar:
            kept = self._without_similar(kept, self._importance(attention, 1), trace)
        if self.plan.n_important < kept.shape[1]:
            attention = restrict(attention, all_tokens(kept, self.n_prefix)) if self.plan.n_similar else attention
            importance = self._importance(attention, self.plan.iterations)
            kept = kept.gather(1, sorted_top(importance, self.plan.n_important))
        return kept

    def _importance(self, attention: Tensor, iterations: int) -> Tensor:
        """Score the patches of (batch, head, n_token, n_token) attention: (batch, n_patch)."""
        config = self.config
        first = first_signal(attention.shape[-1], self.n_prefix, config.cls_init, attention)
        scores = weighted_page_rank(attention, first, iterations)[..., self.n_prefix :]
        heads = informative_heads(scores, config.v_min, config.v_max, config.vhf_scale) if config.vhf else None
        return aggregate_heads(scores, heads, config.head_agg)

    def _without_similar(self, positions: Tensor, importance: Tensor, trace: BlockTrace) -> Tensor:
        """Remove the plan's ``n_similar`` patches from those at ``positions``, both (batch, n)."""
        if not self.plan.n_similar:
            return positions
        config = self.config
        drawn = None
        if config.partition == "random":
            drawn = uniform_scores(trace.passage.image_ids, positions.shape[1], seed=config.seed, layer=self.block)
        a, b = split_by_rank(importance, config.partition, drawn)
        features = gather_tokens(self._features(trace), positions)
        removed = most_similar(a, b, features, config.similarity, self.plan.n_similar)
        stays = torch.ones_like(importance).scatter(1, removed, 0.0)
        n_left = positions.shape[1] - self.plan.n_similar
        return positions.gather(1, sorted_top(stays, n_left))

    def _features(self, trace: BlockTrace) -> Tensor:
        """Give what the S stage compares: (batch, n_patch, dim), over all heads."""
        name = self.config.feature
        if name in ("x", "x_pre"):
            tokens: Tensor = trace.x if name == "x" else trace.x_pre
            return tokens[:, self.n_prefix :]
        maps: AttentionMaps | None = trace.maps
        of_heads: Tensor = getattr(maps, name)  # (batch, head, n_token, head_dim)
        return of_heads[:, :, self.n_prefix :].transpose(1, 2).flatten(2)
