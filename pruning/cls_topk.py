"""Top-k by class attention (EViT) on real tokens: the most attended patches stay, the others may fuse into one.

Source: Liang et al. 2022, "EViT", arXiv:2202.07800. The integers come from ``spaces.cls_topk``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pruning.reduction import Keep, Merge, Reduction
from pruning.stage import BlockTrace, PruningStage
from pruning.tokens import sorted_top
from spaces import Architecture, CLSTopK, CLSTopKStage
from spaces.cost import Where

__all__ = ["CLSTopKPruning", "cls_topk_stages", "prefix_attention"]


def cls_topk_stages(config: CLSTopK, architecture: Architecture) -> list[PruningStage]:
    """Make the pruning layers of a layout, leaving out those that keep every patch."""
    plans = config.stages(architecture)
    return [CLSTopKPruning(config, plan, architecture.n_prefix) for plan in plans if plan.n_kept < plan.n_in]


def prefix_attention(weights: Tensor, n_prefix: int, query: str, head_reduce: str) -> Tensor:
    """Give the attention that patches receive from the prefix.

    Args:
        weights: (batch, head, n_token, n_token), each row a query.
        n_prefix: tokens before the patches, the class token first.
        query: ``cls`` for the class token's attention, ``prefix`` for the mean over all prefix tokens.
        head_reduce: ``mean`` or ``max``.

    Returns:
        (batch, n_patch).
    """
    received = weights[:, :, : 1 if query == "cls" else n_prefix, n_prefix:].mean(dim=2)
    return received.amax(dim=1) if head_reduce == "max" else received.mean(dim=1)


class CLSTopKPruning:
    """One pruning layer: ranks patches by the class token's attention."""

    where: Where = "inside"
    needs_attention = True
    counts_sizes = False

    def __init__(self, config: CLSTopK, plan: CLSTopKStage, n_prefix: int) -> None:
        self.config = config
        self.plan = plan
        self.n_prefix = n_prefix
        self.block = plan.block

    def __call__(self, trace: BlockTrace) -> Reduction:
        """Keep ``plan.n_kept`` patches, with the sum of the others behind them if the layout fuses."""
        if trace.maps is None:
            raise RuntimeError("cls_topk needs its block's attention, and the block did not keep it")
        config = self.config
        attention = prefix_attention(trace.maps.weights, self.n_prefix, config.query, config.head_reduce)
        keep = Keep(sorted_top(attention, self.plan.n_kept), self.plan.n_in)
        return self._fused(keep.owners(), attention) if config.fuse else keep

    def _fused(self, owners: Tensor, attention: Tensor) -> Merge:
        """Let what is dropped, -1 in (batch, n_in), go into one token behind the others."""
        n_kept, n_out = self.plan.n_kept, self.plan.n_out
        dropped = owners < 0
        # Softmax can round to zero; a mean by weights that are all zero would be no number.
        weights = torch.where(dropped, attention.clamp(min=torch.finfo(attention.dtype).tiny), 1.0)
        into = torch.where(dropped, n_kept, owners)
        return Merge.by_weight(into, weights, n_out) if self.config.fuse_norm else Merge(into, weights, n_out)
