"""What a pruned model must remember of one batch on its way from block to block."""

from __future__ import annotations

import torch
from torch import Tensor

from pruning.reduction import KeepSome, Merge, Reduction

__all__ = ["Passage"]


class Passage:
    """One batch's way through the blocks from the first that is not as in the dense model.

    Attributes:
        image_ids: (batch,), int64, names each image for methods that draw at random.
        n_prefix: tokens before the patches.
        sizes: (batch, n_patch), the patches that each patch token stands for, 0 where nothing but filling is;
            ``None`` while each is its own.
        weighs_keys: whether blocks attend to a token by its size.
        votes: (batch, n_patch), attention received so far, for methods that add it up; ``None`` for the others.
    """

    def __init__(self, image_ids: Tensor, n_prefix: int) -> None:
        self.image_ids = image_ids
        self.n_prefix = n_prefix
        self.sizes: Tensor | None = None
        self.weighs_keys = False
        self.votes: Tensor | None = None

    def go_through(self, reduction: Reduction, *, counts_sizes: bool) -> None:
        """Follow the tokens through a pruning layer.

        Args:
            reduction: what it did.
            counts_sizes: whether later blocks weigh a token by the patches that it stands for.
        """
        self.weighs_keys = self.weighs_keys or counts_sizes
        if self.sizes is None and isinstance(reduction, Merge):
            self.sizes = torch.ones_like(reduction.shares)
        elif self.sizes is None and isinstance(reduction, KeepSome) and reduction.has_filling:
            self.sizes = torch.ones(reduction.counts.shape[0], reduction.n_in, device=reduction.counts.device)
        if self.sizes is not None:
            self.sizes = reduction.sum_up(self.sizes)
        if self.votes is not None:
            self.votes = reduction.sum_up(self.votes)

    def key_bias(self, like: Tensor) -> Tensor | None:
        """Give what is added to every attention logit of a key, (batch, 1, 1, n_token); ``None`` for nothing.

        Proportional attention: a token that stands for several patches is attended to as often as they would be, and
        what fills the rows of a batch not at all.

        Source: Bolya et al. 2023, "Token merging", arXiv:2210.09461, Equation 1.
        """
        if self.sizes is None or not self.weighs_keys:
            return None
        prefix = self.sizes.new_zeros(self.sizes.shape[0], self.n_prefix)
        bias = torch.cat([prefix, self.sizes.log()], dim=1)[:, None, None]
        return bias.to(like.dtype)
