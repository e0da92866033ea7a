"""ToMe on real tokens: in each block the patches most alike become one.

Source: Bolya et al. 2023, "Token merging", arXiv:2210.09461. The integers come from ``spaces.tome``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pruning.matching import bipartite_match
from pruning.reduction import Merge
from pruning.stage import BlockTrace, PruningStage
from spaces import Architecture, StageCost, ToMe
from spaces.cost import Where

__all__ = ["ToMePruning", "tome_stages"]


def tome_stages(config: ToMe, architecture: Architecture) -> list[PruningStage]:
    """Make the merging layers of a layout."""
    return [ToMePruning(config, plan) for plan in config.stages(architecture)]


class ToMePruning:
    """One merging layer: bipartite matching, and means by the number of patches that tokens stand for."""

    where: Where = "inside"

    def __init__(self, config: ToMe, plan: StageCost) -> None:
        self.feature = config.metric_feature
        self.plan = plan
        self.block = plan.block
        self.counts_sizes = config.prop_attn

    @property
    def needs_attention(self) -> bool | Literal["projections"]:
        """Whether the features are among the attention's projections."""
        return False if self.feature == "x" else "projections"

    def __call__(self, trace: BlockTrace) -> Merge:
        """Merge ``plan.n_in - plan.n_out`` patches into others."""
        n_out = self.plan.n_out
        into = bipartite_match(self._features(trace), trace.passage.n_prefix, self.plan.n_in - n_out)
        sizes = trace.passage.sizes
        if sizes is None:
            sizes = torch.ones(into.shape, device=into.device)
        return Merge.by_weight(into, sizes, n_out)

    def _features(self, trace: BlockTrace) -> Tensor:
        """Give what is compared, (batch, n_token, dim): the tokens, or a projection's mean over heads."""
        if self.feature == "x":
            return trace.x
        if trace.maps is None:
            raise RuntimeError("ToMe needs its block's keys, and the block did not keep them")
        of_heads: Tensor = getattr(trace.maps, self.feature)  # (batch, head, n_token, head_dim)
        return of_heads.mean(dim=1)
