"""How important a token is, from the attention it receives: page rank, and its aggregation over heads.

Source: Wang, Dedhia and Jha 2024, "Zero-TPrune", arXiv:2305.17328, Algorithm 1 and Equation 2.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from pruning.tokens import gather_tokens

__all__ = ["aggregate_heads", "first_signal", "informative_heads", "restrict", "sharpen", "weighted_page_rank"]


def first_signal(n_token: int, n_prefix: int, cls_init: str, like: Tensor) -> Tensor:
    """Give every token its weight in the first vote; the weights sum to 1.

    Args:
        n_token: all tokens, prefix included.
        n_prefix: the first of them, which weigh sqrt(n_token) times a patch if ``cls_init`` is ``sqrt_n``.
        cls_init: ``sqrt_n`` or ``uniform``.
        like: gives device and dtype.

    Returns:
        (n_token,).

    >>> first_signal(4, 1, "sqrt_n", torch.zeros(()))
    tensor([0.4000, 0.2000, 0.2000, 0.2000])
    """
    signal = torch.ones(n_token, device=like.device, dtype=like.dtype)
    if cls_init == "sqrt_n":
        signal[:n_prefix] = math.sqrt(n_token)
    return signal / signal.sum()


def weighted_page_rank(attention: Tensor, first: Tensor, iterations: int) -> Tensor:
    """Let tokens vote for the tokens they attend to, with the votes they received themselves.

    Args:
        attention: (batch, head, n_token, n_token), rows sum to 1; row i is what token i attends to.
        first: (n_token,), the weights of the first vote; they sum to 1.
        iterations: votes, at least 1. No test of convergence: the count is part of the layout.

    Returns:
        (batch, head, n_token), summing to 1 over tokens.

    Source: Algorithm 1. Equation 1 of the paper divides by n_token besides, which nothing needs (rows that sum
    to 1 conserve the sum) and which would underflow float32 within some twenty votes; it is left out.
    """
    batch, n_head, n_token, _ = attention.shape
    signal = first.expand(batch, n_head, 1, n_token)
    for _ in range(iterations):
        signal = signal @ attention
    return signal.squeeze(2)


def restrict(attention: Tensor, positions: Tensor) -> Tensor:
    """Cut the attention down to some tokens, and let each row sum to 1 again.

    Args:
        attention: (batch, head, n_token, n_token).
        positions: (batch, n), among all tokens.

    Returns:
        (batch, head, n, n).
    """
    _, n_head, n_token, _ = attention.shape
    of_heads = positions.repeat_interleave(n_head, dim=0)  # (batch * head, n)
    rows = gather_tokens(attention.reshape(-1, n_token, n_token), of_heads)
    square = rows.gather(2, of_heads[:, None, :].expand(-1, positions.shape[1], -1))
    square.div_(square.sum(dim=-1, keepdim=True))  # a second matrix of this size costs more than the division
    return square.view(-1, n_head, *square.shape[1:])


def sharpen(attention: Tensor, temperature: float) -> Tensor:
    """Give the attention that a softmax at this temperature would have given.

    >>> sharpen(torch.tensor([0.2, 0.8]), 0.5)
    tensor([0.0588, 0.9412])
    """
    if temperature == 1:
        return attention
    # Each row from its largest value down: the bare powers of a flat row would all be zero.
    powered = (attention / attention.amax(dim=-1, keepdim=True)).pow(1 / temperature)
    return powered / powered.sum(dim=-1, keepdim=True)


def informative_heads(
    scores: Tensor, v_min: float, v_max: float, scale: Literal["mean1", "sum1", "none"] = "mean1"
) -> Tensor:
    """Find the heads whose scores vary neither too little nor too much (variance-based head filter, VHF).

    An image whose heads would all be left out keeps them all.

    Args:
        scores: (batch, head, n_patch), page-rank scores of the patches.
        v_min: least variance, inclusive.
        v_max: greatest variance, inclusive.
        scale: scores are first brought to mean 1 or to sum 1 over the patches, or taken as they are. Only on
            the mean-1 scale, where the variance is the squared coefficient of variation, can both of the
            paper's thresholds bind.

    Returns:
        (batch, head), bool.
    """
    if scale == "mean1":
        scores = scores / scores.mean(dim=-1, keepdim=True)
    elif scale == "sum1":
        scores = scores / scores.sum(dim=-1, keepdim=True)
    variance = scores.var(dim=-1, correction=0)
    kept = (variance >= v_min) & (variance <= v_max)
    return kept | ~kept.any(dim=1, keepdim=True)


def aggregate_heads(scores: Tensor, heads: Tensor | None = None, how: Literal["eir", "mean", "max"] = "eir") -> Tensor:
    """Make one score for each token of its scores in all heads.

    Args:
        scores: (batch, head, n_patch), not negative.
        heads: (batch, head), bool, the heads that count; all of them if ``None``. At least one for each image.
        how: ``eir`` (emphasising informative region): the root of the sum of squares, over the number of heads
            that count; ``mean``; or ``max``.

    Returns:
        (batch, n_patch).

    >>> aggregate_heads(torch.tensor([[[9.0, 9, 3], [9, 0, 3], [9, 0, 3]]]))
    tensor([[5.1962, 3.0000, 1.7321]])

    Source: Equation 2 and Table 4. The count stands outside the root there, as the table's figures confirm.
    """
    if heads is None:
        heads = torch.ones(scores.shape[:2], dtype=torch.bool, device=scores.device)
    counted = torch.where(heads[..., None], scores, torch.zeros_like(scores))
    n_heads = heads.sum(dim=1, keepdim=True)
    if how == "eir":
        return counted.square().sum(dim=1).sqrt() / n_heads
    if how == "mean":
        return counted.sum(dim=1) / n_heads
    return counted.amax(dim=1)
