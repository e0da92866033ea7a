"""Density peaks clustering (DPC) of tokens: pure tensor functions.

Source: Rodriguez and Laio 2014, "Clustering by fast search and find of density peaks", doi:10.1126/science.1242072,
as Long et al. 2023, "Beyond Attentive Tokens", arXiv:2211.11315, section 4.4, simplify it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pruning.tokens import gather_tokens, sorted_top

__all__ = ["density_peaks", "log_density", "nearest_centre", "separation", "squared_distances"]

_JITTER = 1e-6


def squared_distances(features: Tensor) -> Tensor:
    """Give the squared Euclidean distance of every two tokens of an image.

    Args:
        features: (batch, n, dim).

    Returns:
        (batch, n, n), exactly 0 on the diagonal.

    >>> squared_distances(torch.tensor([[[0.0, 0.0], [3.0, 4.0]]]))
    tensor([[[ 0., 25.],
             [25.,  0.]]])
    """
    # About their mean, tokens that share a large part lose no digits to it.
    centred = features - features.mean(dim=1, keepdim=True)
    norms = centred.square().sum(dim=-1)
    squared = norms[:, :, None] + norms[:, None, :] - 2 * (centred @ centred.transpose(1, 2))
    others = 1 - torch.eye(features.shape[1], dtype=features.dtype, device=features.device)
    return squared.clamp(min=0) * others


def log_density(squared: Tensor, kind: str, *, knn: int, dim: int) -> Tensor:
    """Say how dense the tokens lie about each of them, as a logarithm: of far tokens the density itself would be 0.

    ``knn`` is exp(-mean of the ``knn`` smallest d^2 / dim), with the token itself among them; ``gauss`` is
    exp(-mean of all d^2 / 2 sigma^2), where sigma^2 is the median d^2 of two different tokens. Of equally dense tokens
    the earlier counts as the denser.

    Args:
        squared: (batch, n, n), squared distances; n at least 2.
        kind: ``knn`` or ``gauss``.
        knn: at most ``n`` are taken.
        dim: width of the features.

    Returns:
        (batch, n), float64.

    Source: Equation 6, whose sum over all tokens we make a mean: the sum leaves every density at 0.
    """
    n = squared.shape[1]
    if kind == "knn":
        log = -squared.topk(min(knn, n), dim=2, largest=False).values.double().mean(dim=2) / dim
    else:
        rows, columns = torch.triu_indices(n, n, offset=1, device=squared.device)
        pairs = squared.flatten(1).index_select(1, rows * n + columns).sort(dim=1).values
        median = pairs[:, (pairs.shape[1] - 1) // 2].double().clamp(min=torch.finfo(torch.float64).tiny)
        log = -squared.double().mean(dim=2) / (2 * median[:, None])
    order = torch.arange(n, dtype=torch.float64, device=squared.device)
    return log - _JITTER / n * order


def separation(distances: Tensor, density: Tensor) -> Tensor:
    """Give each token's distance to the nearest denser one; for the densest, to the farthest of all.

    Args:
        distances: (batch, n, n).
        density: (batch, n), no two of an image equal; only the order matters.

    Returns:
        (batch, n).

    Source: Equation 7.
    """
    is_denser = density[:, None, :] > density[:, :, None]
    nearest = distances.masked_fill(~is_denser, torch.inf).amin(dim=2)
    return torch.where(nearest.isinf(), distances.amax(dim=2), nearest)


def nearest_centre(distances: Tensor, centres: Tensor) -> Tensor:
    """Number the nearest centre of each token; a centre's is itself.

    Args:
        distances: (batch, n, n), symmetric.
        centres: (batch, n_centre), positions.

    Returns:
        (batch, n), int64, from 0 to ``n_centre - 1``.
    """
    batch, n_centre = centres.shape
    numbers = torch.arange(n_centre, device=centres.device).expand(batch, -1)
    return gather_tokens(distances, centres).argmin(dim=1).scatter(1, centres, numbers)


def density_peaks(features: Tensor, n_cluster: int, *, kind: str, knn: int) -> Tensor:
    """Put tokens into clusters about those that are dense and far from any denser one.

    Args:
        features: (batch, n, dim).
        n_cluster: from 1 to ``n``.
        kind: of density, ``knn`` or ``gauss``.
        knn: neighbours of density ``knn``.

    Returns:
        (batch, n), int64, the cluster of each token. Clusters are numbered in the order of their centres' positions.

    >>> density_peaks(torch.tensor([[[0.0], [5.0], [0.2], [5.1], [0.1]]]), 2, kind="knn", knn=2)
    tensor([[0, 1, 0, 1, 0]])
    """
    batch, n, dim = features.shape
    if n_cluster == 1:
        return torch.zeros(batch, n, dtype=torch.int64, device=features.device)
    if n_cluster == n:
        return torch.arange(n, device=features.device).expand(batch, -1)
    squared = squared_distances(features)
    distances = squared.sqrt()
    density = log_density(squared, kind, knn=knn, dim=dim)
    # The product of density and separation, as a logarithm too.
    far = separation(distances, density).double().clamp(min=torch.finfo(torch.float64).tiny)
    return nearest_centre(distances, sorted_top(density + far.log(), n_cluster))
