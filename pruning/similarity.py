"""Which tokens are too similar to another to be worth keeping: Zero-TPrune's S stage, as pure functions.

Source: Wang, Dedhia and Jha 2024, "Zero-TPrune", arXiv:2305.17328, section 3.3 and supplement G.3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pruning.tokens import gather_tokens

__all__ = ["most_similar", "similarity_matrix", "split_by_rank"]


def split_by_rank(importance: Tensor, partition: str, random_scores: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Split the patches into those that may be removed (A) and those they are compared with (B).

    Of ranks 1 (most important) to 6, ``sequential_u`` puts 4, 5, 6 into A; ``sequential_i`` 1, 2, 3;
    ``alternate`` 2, 4, 6; ``random`` any three; ``none`` puts all into both. Of an odd number B gets the larger half.

    Args:
        importance: (batch, n_patch).
        partition: one of the names above.
        random_scores: (batch, n_patch), which ``random`` sorts by.

    Returns:
        Positions of A and of B, (batch, n_a) and (batch, n_b), most important first (A of ``random``: any order).
    """
    scores = random_scores if partition == "random" and random_scores is not None else importance
    ranked = scores.argsort(dim=1, descending=True)
    n_a = ranked.shape[1] // 2
    if partition == "none":
        return ranked, ranked
    if partition == "sequential_i":
        return ranked[:, :n_a], ranked[:, n_a:]
    if partition == "alternate":
        return ranked[:, 1::2], ranked[:, 0::2]
    n_b = ranked.shape[1] - n_a
    return ranked[:, n_b:], ranked[:, :n_b]


def similarity_matrix(a: Tensor, b: Tensor, measure: str) -> Tensor:
    """Compare every feature of A with every feature of B; more is more similar.

    Args:
        a: (batch, n_a, dim).
        b: (batch, n_b, dim).
        measure: ``cosine``, ``dot``, or a negated Minkowski distance: ``minkowski1`` to ``minkowski5``,
            ``minkowski_inf``.

    Returns:
        (batch, n_a, n_b).

    >>> similarity_matrix(torch.tensor([[[3.0, 4.0]]]), torch.zeros(1, 1, 2), "minkowski2")
    tensor([[[-5.]]])
    """
    if measure == "cosine":
        a, b = torch.nn.functional.normalize(a, dim=-1), torch.nn.functional.normalize(b, dim=-1)
    if measure in ("cosine", "dot"):
        return a @ b.transpose(1, 2)
    power = float(measure.removeprefix("minkowski").removeprefix("_"))
    if torch.compiler.is_exporting():  # ONNX has no cdist, which takes a fraction of the memory
        apart = (a[:, :, None] - b[:, None]).abs()  # (batch, n_a, n_b, dim)
        return -(apart.amax(dim=-1) if power == torch.inf else apart.pow(power).sum(dim=-1).pow(1 / power))
    return -torch.cdist(a, b, p=power)


def most_similar(a: Tensor, b: Tensor, features: Tensor, measure: str, n: int) -> Tensor:
    """Find the ``n`` patches of A that have the most similar partner in B.

    Without a partition two patches that are each other's partner tie; then the less important is taken first.

    Args:
        a: (batch, n_a), positions among the patches, most important first.
        b: (batch, n_b), likewise; where it is A itself, no patch is its own partner.
        features: (batch, n_patch, dim).
        measure: see ``similarity_matrix``.
        n: at most ``n_a``.

    Returns:
        (batch, n), positions among the patches.
    """
    of_a, of_b = (gather_tokens(features, group) for group in (a, b))
    similarity = similarity_matrix(of_a, of_b, measure)
    if b is a:
        # Rounding must not decide which of two partners goes.
        similarity = (similarity + similarity.transpose(1, 2)) / 2
        itself = torch.eye(a.shape[1], dtype=torch.bool, device=a.device)
        similarity = similarity.masked_fill(itself, -torch.inf)
    # Far below the spacing of float32, so that only ties are broken.
    later_first = 1e-12 * torch.arange(a.shape[1], dtype=torch.float64, device=a.device)
    best = similarity.amax(dim=2).double() + later_first
    return a.gather(1, best.topk(n, dim=1).indices)
