"""Pairs of attentive tokens against the same written out token by token."""

from __future__ import annotations

import math

import pytest
import torch

from pruning.pairing import bipartite_pairs, greedy_pairs


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def bipartite(features, n):
    """Give (rank that goes, its partner's) for each of the ``n`` best pairs of one image."""
    best = []
    for source in range(1, len(features), 2):
        partner = max(range(0, len(features), 2), key=lambda j: cosine(features[source], features[j]))
        best.append((cosine(features[source], features[partner]), source, partner))
    return [(source, partner) for _, source, partner in sorted(best, reverse=True)[:n]]


def greedy(features, n):
    ranks = range(len(features))
    pairs = sorted(((cosine(features[i], features[j]), j, i) for j in ranks for i in range(j)), reverse=True)
    taken, found = set(), []
    for _, source, partner in pairs:
        if len(found) < n and not {source, partner} & taken:
            taken |= {source, partner}
            found.append((source, partner))
    return found


@pytest.mark.parametrize(("vectorised", "written_out"), [(bipartite_pairs, bipartite), (greedy_pairs, greedy)])
@pytest.mark.parametrize(("n_token", "n"), [(2, 1), (11, 5), (12, 6), (12, 3), (35, 10)])
def test_pairs_are_what_they_are_written_out(vectorised, written_out, n_token, n):
    features = torch.randn(6, n_token, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(n_token))
    sources, partners = vectorised(features, n)
    for image in range(6):
        found = list(zip(sources[image].tolist(), partners[image].tolist(), strict=True))
        assert found == written_out(features[image].tolist(), n)


def test_bipartite_partners_may_be_shared_and_greedy_pairs_are_disjoint():
    alike = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 0.2]]])
    sources, partners = bipartite_pairs(alike, 2)
    assert (sources.tolist(), partners.tolist()) == ([[1, 3]], [[0, 0]])
    sources, partners = greedy_pairs(alike, 2)
    assert sorted((*sources[0].tolist(), *partners[0].tolist())) == [0, 1, 2, 3]


@pytest.mark.parametrize("pairs", [bipartite_pairs, greedy_pairs])
def test_length_does_not_count(pairs):
    features = torch.randn(2, 10, 4, dtype=torch.float64)
    longer = features * torch.rand(2, 10, 1, dtype=torch.float64).add(0.5)
    assert all(torch.equal(one, two) for one, two in zip(pairs(features, 4), pairs(longer, 4), strict=True))
