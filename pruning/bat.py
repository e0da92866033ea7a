"""Beyond Attentive Tokens on real tokens: clusters of inattentive patches, and pairs of attentive ones.

Source: Long et al. 2023, "Beyond Attentive Tokens", arXiv:2211.11315. The integers come from ``spaces.bat``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pruning.clustering import density_peaks
from pruning.pairing import bipartite_pairs, greedy_pairs
from pruning.reduction import Keep, Merge, Reduction
from pruning.stage import BlockTrace, PruningStage
from pruning.tokens import gather_tokens
from spaces import Architecture, Bat, BatStage
from spaces.cost import Where

__all__ = ["BatPruning", "bat_stages"]


def bat_stages(config: Bat, architecture: Architecture) -> list[PruningStage]:
    """Make the pruning layers of a layout, leaving out those that remove nothing."""
    plans = config.stages(architecture)
    return [BatPruning(config, plan, architecture.n_prefix) for plan in plans if plan.n_out < plan.n_in]


class BatPruning:
    """One pruning layer: the class token's attention parts the patches, then either part is merged in its own way.

    What leaves are attentive patches in raster order, each with those that were matched to it, then clusters.
    """

    where: Where = "inside"
    needs_attention = True
    counts_sizes = False

    def __init__(self, config: Bat, plan: BatStage, n_prefix: int) -> None:
        self.config = config
        self.plan = plan
        self.n_prefix = n_prefix
        self.block = plan.block

    def __call__(self, trace: BlockTrace) -> Reduction:
        """Leave ``plan.n_out`` patches."""
        if trace.maps is None:
            raise RuntimeError("BAT needs its block's attention, and the block did not keep it")
        plan = self.plan
        attention = trace.maps.weights[:, :, 0, self.n_prefix :].mean(dim=1)
        ranked = attention.argsort(dim=1, descending=True)
        attentive = ranked[:, : plan.n_attentive]
        if not plan.n_matched and not plan.n_clusters:
            return Keep(attentive.sort(dim=1).values, plan.n_in)
        owner, stays = self._matched(trace.x, attentive)
        # Attentive patches that stay are numbered in raster order, and each that goes as its partner.
        numbers = stays.cumsum(dim=1) - 1
        into = numbers.gather(1, owner)
        inattentive = ranked[:, plan.n_attentive :].sort(dim=1).values
        into = into.scatter(1, inattentive, self._clusters(trace.x, inattentive))
        return Merge(into, self._shares(attention, into), plan.n_out)

    def _matched(self, x: Tensor, attentive: Tensor) -> tuple[Tensor, Tensor]:
        """Say in which patch each attentive one is, and which of them stay: (batch, n_in) each, both int64.

        Args:
            x: (batch, n_prefix + n_in, dim).
            attentive: (batch, n_attentive), positions, the most attentive first.
        """
        owner = torch.arange(self.plan.n_in, device=x.device).expand(x.shape[0], -1)
        stays = torch.zeros_like(owner).scatter(1, attentive, 1)
        if not self.plan.n_matched:
            return owner, stays
        find = greedy_pairs if self.config.match == "greedy" else bipartite_pairs
        ranks = find(self._features(x, attentive), self.plan.n_matched)
        sources, partners = (attentive.gather(1, each) for each in ranks)
        return owner.scatter(1, sources, partners), stays.scatter(1, sources, 0)

    def _clusters(self, x: Tensor, inattentive: Tensor) -> Tensor:
        """Give the token that each of the ``inattentive`` positions goes into: (batch, n_inattentive)."""
        plan, config = self.plan, self.config
        if not plan.n_clusters:
            return torch.full_like(inattentive, plan.n_out)
        features = self._features(x, inattentive)
        clusters = density_peaks(features, plan.n_clusters, kind=config.density, knn=config.knn)
        return plan.n_attentive - plan.n_matched + clusters

    def _features(self, x: Tensor, positions: Tensor) -> Tensor:
        """Give what is compared, in float32 at least: (batch, n, dim)."""
        # Out of all tokens, which lie in one piece; the patches alone would be copied first.
        features = gather_tokens(x, positions + self.n_prefix)
        return features.float() if features.element_size() < 4 else features

    def _shares(self, attention: Tensor, into: Tensor) -> Tensor:
        """Weigh each patch in the token that it goes into: (batch, n_in).

        An attentive patch that is merged with none stays as it is, also where weights need not sum to 1.

        Source: Equation 8, normalised unless ``merge_norm`` is off.
        """
        if self.config.merge_weight == "uniform":
            weights = torch.ones_like(attention)
        else:
            # No weight is 0, so that no token is made of nothing.
            weights = attention.clamp(min=torch.finfo(attention.dtype).tiny)
        n_kept = self.plan.n_attentive - self.plan.n_matched
        sums = weights.new_zeros(weights.shape[0], self.plan.n_out + 1)
        if self.config.merge_norm:
            return weights / sums.scatter_add(1, into, weights).gather(1, into)
        n_within = sums.scatter_add(1, into, torch.ones_like(weights)).gather(1, into)
        return weights.masked_fill((n_within == 1) & (into < n_kept), 1.0)
