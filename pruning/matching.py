"""Bipartite matching: which tokens are alike enough to become one. Pure tensor functions.

Source: Bolya et al. 2023, "Token merging: your ViT but faster" (ToMe), arXiv:2210.09461, section 3 and appendix D.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

__all__ = ["bipartite_match"]


def bipartite_match(features: Tensor, n_prefix: int, n_merged: int) -> Tensor:
    """Merge the ``n_merged`` patches that are most like another, each into the one it is most like.

    Of all tokens, those at even positions may be merged, each into one at an odd position; several may go into the
    same. The tokens that leave are the even ones that are left and then all odd ones, each in their order. Prefix
    tokens count as positions and take no part.

    Args:
        features: (batch, n_token, dim), compared by the cosine.
        n_prefix: tokens before the patches.
        n_merged: at most half of the patches, rounded down.

    Returns:
        (batch, n_patch), int64: the token that each patch goes into, from 0 to n_patch - n_merged - 1.

    >>> bipartite_match(torch.tensor([[[1.0, 0], [0, 1], [2, 0.1], [1, 0.1]]]), n_prefix=0, n_merged=1)
    tensor([[0, 1, 2, 2]])

    With one prefix token this is ToMe, and with class and distillation token too, up to the order of the two; ToMe
    does not say what becomes of further prefix tokens.
    """
    unit = normalize(features, dim=-1)
    # The prefix is multiplied too, as in ToMe's code, and cut off: nothing merges with it.
    scores = (unit[:, ::2] @ unit[:, 1::2].transpose(1, 2))[:, (n_prefix + 1) // 2 :, n_prefix // 2 :]
    batch, n_even, n_odd = scores.shape
    best, partner = scores.max(dim=2)
    merged = best.topk(n_merged, dim=1).indices
    stays = torch.ones_like(partner).scatter(1, merged, 0)
    n_left = n_even - n_merged
    into_of_even = torch.where(stays > 0, stays.cumsum(dim=1) - 1, n_left + partner)
    into_of_odd = (n_left + torch.arange(n_odd, device=scores.device)).expand(batch, -1)
    patches = torch.arange(n_even + n_odd, device=scores.device)
    places = torch.cat([patches[n_prefix % 2 :: 2], patches[1 - n_prefix % 2 :: 2]]).expand(batch, -1)
    into = torch.cat([into_of_even, into_of_odd], dim=1)
    return torch.zeros_like(into).scatter(1, places, into)
