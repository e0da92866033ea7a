from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare, kstest

from pruning.tokens import all_tokens, gather_tokens, sorted_top, uniform_scores


def test_the_kept_positions_are_the_highest_in_their_original_order():
    scores = torch.rand(5, 20)
    kept = sorted_top(scores, 7)
    for row, positions in zip(scores, kept, strict=True):
        assert positions.tolist() == sorted(positions.tolist())
        assert set(positions.tolist()) == set(row.argsort(descending=True)[:7].tolist())


def test_keeping_everything_is_the_identity():
    x = torch.randn(2, 10, 4)
    everything = all_tokens(sorted_top(torch.rand(2, 9), 9), 1)
    assert torch.equal(gather_tokens(x, everything), x)


def test_prefix_tokens_come_first_and_always():
    positions = all_tokens(torch.tensor([[0, 4], [1, 2]]), 3)
    assert positions.tolist() == [[0, 1, 2, 3, 7], [0, 1, 2, 4, 5]]


def test_random_scores_depend_on_the_image_and_not_on_its_batch():
    together = uniform_scores(torch.tensor([7, 8, 9]), 50, seed=1, layer=3)
    alone = uniform_scores(torch.tensor([8]), 50, seed=1, layer=3)
    assert torch.equal(together[1], alone[0])


@pytest.mark.parametrize("other", [{"seed": 2, "layer": 3}, {"seed": 1, "layer": 4}])
def test_another_seed_or_layer_gives_other_scores(other):
    ids = torch.arange(4)
    assert not torch.equal(uniform_scores(ids, 50, seed=1, layer=3), uniform_scores(ids, 50, **other))


def test_random_scores_are_uniform_and_independent_of_position():
    scores = uniform_scores(torch.arange(400), 100, seed=0, layer=6)
    assert kstest(scores.flatten().numpy(), "uniform").pvalue > 0.001
    kept = sorted_top(scores, 50).flatten()
    assert chisquare(kept.bincount(minlength=100).numpy()).pvalue > 0.001
    first, second = scores[:-1].flatten(), scores[1:].flatten()
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1].item()) < 0.02


@pytest.mark.parametrize("seed", [0, -1, 2**62, 2**70])
def test_any_whole_number_is_a_seed(seed):
    scores = uniform_scores(torch.arange(3), 10, seed=seed, layer=1)
    assert ((scores >= 0) & (scores < 1)).all()
