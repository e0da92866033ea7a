"""Density peaks clustering against the same written out token by token."""

from __future__ import annotations

import math

import pytest
import torch

from pruning.clustering import density_peaks, log_density, nearest_centre, separation, squared_distances


def distances_of(features):
    return [[math.dist(a, b) for b in features] for a in features]


def density_of(distances, i, kind, knn, dim):
    later = math.exp(-1e-6 * i / len(distances))  # tokens that are each other's nearest are equally dense
    if kind == "knn":
        nearest = sorted(distances[i])[:knn]
        return later * math.exp(-sum(d**2 for d in nearest) / len(nearest) / dim)
    pairs = sorted(distances[a][b] ** 2 for a in range(len(distances)) for b in range(a))
    return later * math.exp(-sum(d**2 for d in distances[i]) / len(distances) / (2 * pairs[(len(pairs) - 1) // 2]))


def clusters_of(features, n_cluster, kind, knn):
    """Cluster one image's tokens, a list of coordinates each."""
    n, distances = len(features), distances_of(features)
    density = [density_of(distances, i, kind, knn, len(features[0])) for i in range(n)]
    scores = []
    for i in range(n):
        denser = [distances[i][j] for j in range(n) if density[j] > density[i]]
        scores.append(density[i] * (min(denser) if denser else max(distances[i])))
    centres = sorted(sorted(range(n), key=lambda i: -scores[i])[:n_cluster])
    return [
        centres.index(i) if i in centres else min(range(n_cluster), key=lambda c: distances[i][centres[c]])
        for i in range(n)
    ]


@pytest.mark.parametrize("kind", ["knn", "gauss"])
@pytest.mark.parametrize("knn", [2, 5, 40])
@pytest.mark.parametrize("n_cluster", [1, 2, 7, 29, 30])
def test_clusters_are_what_they_are_written_out(kind, knn, n_cluster):
    # A scale on which densities are neither all 1 nor all 0 but for the jitter.
    features = 0.7 * torch.randn(6, 30, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(knn))
    found = density_peaks(features, n_cluster, kind=kind, knn=knn)
    assert found.tolist() == [clusters_of(image, n_cluster, kind, knn) for image in features.tolist()]


def test_a_case_by_hand():
    # Three tokens about 0, two about 5, which are the densest, and one far from all.
    features = torch.tensor([[[9.0], [0.0], [0.2], [5.0], [-0.2], [5.1]]])
    squared = squared_distances(features)
    torch.testing.assert_close(squared[0, 1], torch.tensor([81.0, 0.0, 0.04, 25.0, 0.04, 26.01]), atol=1e-4, rtol=0)
    density = log_density(squared, "knn", knn=2, dim=1)
    torch.testing.assert_close(density[0, :3].float(), -torch.tensor([3.9**2, 0.04, 0.04]) / 2, atol=1e-4, rtol=0)
    far = separation(squared.sqrt(), density)[0]
    torch.testing.assert_close(far, torch.tensor([3.9, 5.0, 0.2, 5.2, 0.2, 0.1]), atol=1e-3, rtol=0)
    assert density_peaks(features, 2, kind="knn", knn=2).tolist() == [[1, 0, 0, 1, 0, 1]]


def test_distances_match_those_of_torch_and_a_token_is_at_none_from_itself():
    features = 100 + torch.randn(2, 40, 16)
    squared = squared_distances(features)
    torch.testing.assert_close(squared.sqrt(), torch.cdist(features.double(), features.double()).float())
    assert (squared.diagonal(dim1=1, dim2=2) == 0).all()


def test_of_equally_dense_tokens_the_earlier_is_the_denser():
    square = torch.tensor([[[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]])
    for kind in ("knn", "gauss"):
        density = log_density(squared_distances(square), kind, knn=3, dim=2)[0]
        assert density.argsort(descending=True).tolist() == [0, 1, 2, 3]
    assert len(set(density.tolist())) == 4


@pytest.mark.parametrize("kind", ["knn", "gauss"])
def test_equal_tokens_make_no_nan_and_as_many_centres_as_asked_for(kind):
    clusters = density_peaks(torch.ones(2, 12, 4), 5, kind=kind, knn=3)
    assert clusters.tolist() == [clusters[0].tolist()] * 2
    assert set(clusters[0].tolist()) == set(range(5))


def test_tokens_too_far_apart_for_a_density_above_zero_are_still_told_apart():
    features = 1e4 * torch.randn(1, 20, 4, dtype=torch.float64)
    near = density_peaks(features / 1e4, 4, kind="gauss", knn=5)  # a density that no scale changes
    assert density_peaks(features, 4, kind="gauss", knn=5).tolist() == near.tolist()
    density = log_density(squared_distances(features), "knn", knn=5, dim=4)
    assert density.max() < -1000
    assert density.isfinite().all()


def test_a_centre_is_its_own_even_where_another_is_at_the_same_place():
    distances = torch.zeros(1, 3, 3)
    assert nearest_centre(distances, torch.tensor([[0, 2]])).tolist() == [[0, 0, 1]]
