from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from pruning.similarity import most_similar, similarity_matrix, split_by_rank

MEASURES = ("cosine", "dot", *(f"minkowski{p}" for p in (1, 2, 3, 4, 5, "_inf")))
PARTITIONS = ("sequential_u", "sequential_i", "alternate", "random", "none")


def by_hand(a: np.ndarray, b: np.ndarray, measure: str) -> float:
    if measure == "cosine":
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    if measure == "dot":
        return float(a @ b)
    power = math.inf if measure.endswith("inf") else int(measure[-1])
    return -float(np.linalg.norm(a - b, ord=power))


@pytest.mark.parametrize("measure", MEASURES)
def test_similarities_are_those_computed_pair_by_pair(measure):
    a, b = torch.randn(2, 3, 6, dtype=torch.float64), torch.randn(2, 4, 6, dtype=torch.float64)
    found = similarity_matrix(a, b, measure)
    for image, i, j in itertools.product(range(2), range(3), range(4)):
        expected = by_hand(a[image, i].numpy(), b[image, j].numpy(), measure)
        assert found[image, i, j].item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("partition", "a", "b"),
    [
        ("sequential_u", {4, 5, 6}, {1, 2, 3}),
        ("sequential_i", {1, 2, 3}, {4, 5, 6}),
        ("alternate", {2, 4, 6}, {1, 3, 5}),
        ("none", {1, 2, 3, 4, 5, 6}, {1, 2, 3, 4, 5, 6}),
    ],
)
def test_partitions_of_six_ranks_are_the_papers(partition, a, b):
    position_of_rank = {1: 4, 2: 0, 3: 5, 4: 2, 5: 1, 6: 3}
    importance = torch.zeros(1, 6)
    for rank, position in position_of_rank.items():
        importance[0, position] = 10 - rank
    groups = split_by_rank(importance, partition)
    for group, ranks in zip(groups, (a, b), strict=True):
        assert set(group[0].tolist()) == {position_of_rank[rank] for rank in ranks}


@pytest.mark.parametrize("partition", PARTITIONS[:-1])
def test_of_an_odd_number_the_larger_half_stays(partition):
    a, b = split_by_rank(torch.rand(2, 7), partition, torch.rand(2, 7))
    assert (a.shape[1], b.shape[1]) == (3, 4)
    assert all(set(range(7)) == {*one, *two} for one, two in zip(a.tolist(), b.tolist(), strict=True))


def test_a_random_partition_follows_the_random_scores():
    importance, drawn = torch.rand(1, 6), torch.tensor([[0.6, 0.1, 0.5, 0.2, 0.4, 0.3]])
    a, _ = split_by_rank(importance, "random", drawn)
    assert set(a[0].tolist()) == {1, 3, 5}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("n", [6, 7])
def test_the_s_stage_removes_what_brute_force_removes(measure, partition, n):
    features = torch.randn(3, n, 5, dtype=torch.float64)
    importance, drawn = torch.rand(3, n), torch.rand(3, n)
    a, b = split_by_rank(importance, partition, drawn)
    removed = most_similar(a, b, features, measure, 3)
    for image in range(3):
        best = {
            i: max(
                by_hand(features[image, i].numpy(), features[image, j].numpy(), measure)
                for j in b[image].tolist()
                if j != i
            )
            for i in a[image].tolist()
        }
        expected = sorted(best, key=lambda i: (-round(best[i], 9), importance[image, i]))[:3]
        assert set(removed[image].tolist()) == set(expected)
