"""Adaptive token sampling on real tokens: each image keeps the patches that evenly spaced samples of its scores hit.

Source: Fayyaz et al. 2022, "Adaptive Token Sampling", arXiv:2111.15667, and its code. The integers come from
``spaces.ats``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pruning.attention import AttentionMaps
from pruning.reduction import KeepSome
from pruning.stage import BlockTrace, PruningStage
from spaces import Architecture, Ats
from spaces.cost import Where

__all__ = ["AtsPruning", "ats_scores", "ats_stages", "sampled"]


def ats_stages(config: Ats, architecture: Architecture) -> list[PruningStage]:
    """Make the pruning layers of a layout: all of them, since none keeps every patch."""
    sizes = config.sample_sizes(architecture)
    return [AtsPruning(config, *layer) for layer in zip(config.in_attention, sizes, strict=True)]


def ats_scores(maps: AttentionMaps, n_prefix: int, score: str) -> Tensor:
    """Score patches by the class token's attention, summed over heads.

    Args:
        maps: of the block.
        n_prefix: tokens before the patches, the class token first.
        score: ``cls`` for that attention alone, ``cls_vnorm`` times the length of the value over all heads.

    Returns:
        (batch, n_patch), not negative.
    """
    attention = maps.weights[:, :, 0, n_prefix:].sum(dim=1)
    if score == "cls":
        return attention
    length: Tensor = torch.linalg.vector_norm(maps.value[:, :, n_prefix:], dim=(1, 3))
    return attention * length


def sampled(scores: Tensor, n_levels: int, is_real: Tensor | None = None) -> Tensor:
    """Sample patches by the inverse of the cumulative distribution of their scores.

    Patches are sorted by score, the sums of their scores mapped onto 0 to 1, and for each of evenly spaced levels,
    from the smallest sum above 0 up to 1, the patch with the nearest sum is taken.

    Args:
        scores: (batch, n_patch), not negative.
        n_levels: K - 1, at least 2; one patch may be nearest to several.
        is_real: (batch, n_patch), false for what only fills a row; ``None`` where nothing does.

    Returns:
        (batch, n_patch) booleans: at least 1 and at most ``n_levels`` are true, none of them filling.
    """
    if is_real is None:
        is_real = torch.ones_like(scores, dtype=torch.bool)
    # In float64: sums over an image's patches are then the same whatever fills its row.
    order = scores.double().where(is_real, -1.0).argsort(dim=1)  # filling first
    real = is_real.gather(1, order)
    sums = (scores.double().gather(1, order) * real).cumsum(dim=1)
    least = sums.where(real, torch.inf).amin(dim=1, keepdim=True)
    span = (sums[:, -1:] - least).clamp(min=torch.finfo(sums.dtype).tiny)
    # Below every level, filling is nearest to none; an image with nothing to tell its patches apart keeps the last.
    cdf = ((sums - least) / span).where(real, -1.0)
    lowest = cdf.where(cdf > 0, 1.0).amin(dim=1, keepdim=True)
    steps = torch.linspace(0, 1, n_levels, dtype=cdf.dtype, device=cdf.device)
    levels = lowest + (1 - lowest) * steps
    # As searchsorted does it, which ONNX does not have.
    above = (cdf[:, None] < levels[..., None]).sum(dim=2).clamp(max=cdf.shape[1] - 1)
    below = (above - 1).clamp(min=0)
    below_is_nearer = levels - cdf.gather(1, below) <= cdf.gather(1, above) - levels
    nearest = below.where(below_is_nearer & real.gather(1, below), above)
    return torch.zeros_like(is_real).scatter(1, order.gather(1, nearest), torch.ones_like(nearest, dtype=torch.bool))


class AtsPruning:
    """One pruning layer."""

    where: Where = "in_attention"
    needs_attention = True
    counts_sizes = True  # so that nobody attends to what fills the rows of a batch

    def __init__(self, config: Ats, block: int, size: int) -> None:
        self.score = config.score
        self.block = block
        self.n_levels = size - 1

    def __call__(self, trace: BlockTrace) -> KeepSome:
        """Keep what is sampled of each image."""
        if trace.maps is None:
            raise RuntimeError("ATS needs its block's attention, and the block did not keep it")
        passage = trace.passage
        scores = ats_scores(trace.maps, passage.n_prefix, self.score)
        is_real = None if passage.sizes is None else passage.sizes > 0
        return KeepSome.where(sampled(scores, self.n_levels, is_real))
