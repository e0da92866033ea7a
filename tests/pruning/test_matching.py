"""Bipartite matching against the same matching written out pair by pair."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

from pruning.matching import bipartite_match


def by_hand(features, n_prefix, n_merged):
    """Match one image's (n_token, dim) features; give for each patch the position, among all, it goes to."""
    n_token = len(features)
    even = [i for i in range(0, n_token, 2) if i >= n_prefix]
    odd = [i for i in range(1, n_token, 2) if i >= n_prefix]
    best = {}
    for i in even:
        similarity = {j: cosine_similarity(features[i], features[j], dim=0).item() for j in odd}
        partner = max(similarity, key=similarity.get)
        best[i] = (similarity[partner], partner)
    merged = sorted(even, key=lambda i: -best[i][0])[:n_merged]
    leaving = [i for i in even if i not in merged] + odd
    goes_to = [best[i][1] if i in merged else i for i in range(n_prefix, n_token)]
    return [leaving.index(position) for position in goes_to]


@pytest.mark.parametrize("n_prefix", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("n_patch", [2, 3, 8, 9])
def test_patches_go_where_they_go_written_out(n_prefix, n_patch):
    for n_merged in range(n_patch // 2 + 1):
        features = torch.randn(4, n_prefix + n_patch, 5, dtype=torch.float64)
        into = bipartite_match(features, n_prefix, n_merged)
        for image in range(4):
            assert into[image].tolist() == by_hand(features[image], n_prefix, n_merged)


def test_every_token_that_leaves_holds_a_patch():
    into = bipartite_match(torch.randn(8, 1 + 16, 4), 1, 6)
    for row in into.tolist():
        assert set(row) == set(range(10))


def test_the_length_of_a_feature_does_not_matter():
    features = torch.randn(2, 17, 4)
    lengths = torch.rand(2, 17, 1) + 0.1
    assert torch.equal(bipartite_match(features, 1, 5), bipartite_match(features * lengths, 1, 5))
