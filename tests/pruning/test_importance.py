from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pruning.importance import (
    aggregate_heads,
    first_signal,
    informative_heads,
    restrict,
    sharpen,
    weighted_page_rank,
)


def attention(batch=2, heads=3, n=12, beta=2.0, column=0.0, seed=0):
    """Softmax over beta times noise plus a bias of each column: the wider, the more uneven."""
    generator = torch.Generator().manual_seed(seed)
    noise = beta * torch.randn(batch, heads, n, n, generator=generator, dtype=torch.float64)
    bias = column * torch.randn(batch, heads, 1, n, generator=generator, dtype=torch.float64)
    return (noise + bias).softmax(-1)


def test_page_rank_converges_to_the_eigenvector_of_the_transposed_attention():
    matrix = attention(batch=1, heads=1)
    ranks = weighted_page_rank(matrix, first_signal(12, 1, "sqrt_n", matrix), 200)[0, 0].numpy()
    values, vectors = np.linalg.eig(matrix[0, 0].numpy().T)
    leading = np.real(vectors[:, np.argmax(np.abs(values))])
    np.testing.assert_allclose(ranks, leading / leading.sum(), atol=1e-12)


@pytest.mark.parametrize("iterations", [1, 5, 30])
def test_votes_conserve_their_sum(iterations):
    matrix = attention()
    ranks = weighted_page_rank(matrix, first_signal(12, 1, "sqrt_n", matrix), iterations)
    torch.testing.assert_close(ranks.sum(-1), torch.ones(2, 3, dtype=torch.float64))


def test_one_vote_is_the_attention_received_weighted_by_who_gives_it():
    matrix, first = attention(), first_signal(12, 1, "sqrt_n", torch.zeros((), dtype=torch.float64))
    by_hand = torch.zeros(2, 3, 12, dtype=torch.float64)
    for voter in range(12):
        by_hand += matrix[:, :, voter] * first[voter]
    torch.testing.assert_close(weighted_page_rank(matrix, first, 1), by_hand)


def test_many_votes_forget_the_first():
    matrix = attention()
    starts = [first_signal(12, 1, init, matrix) for init in ("sqrt_n", "uniform")]
    few, many = ([weighted_page_rank(matrix, start, n) for start in starts] for n in (1, 60))
    assert not torch.allclose(few[0], few[1], atol=1e-3)
    torch.testing.assert_close(many[0], many[1])


def test_the_class_token_weighs_the_root_of_the_tokens_times_a_patch():
    first = first_signal(197, 1, "sqrt_n", torch.zeros(()))
    assert first[0] / first[1] == pytest.approx(math.sqrt(197))
    assert first.sum() == pytest.approx(1)
    assert first_signal(197, 1, "uniform", torch.zeros(())).unique().numel() == 1


def test_eir_gives_the_papers_table_4_and_ranks_as_it_does():
    tokens = torch.tensor([[[9.0, 9, 3], [9, 0, 3], [9, 0, 3]]])  # heads by tokens A, B, C
    scores = aggregate_heads(tokens)[0]
    assert [round(score, 1) for score in scores.tolist()] == [5.2, 3.0, 1.7]
    assert aggregate_heads(tokens, how="mean")[0].tolist() == [9, 3, 3]
    assert aggregate_heads(tokens, how="max")[0].tolist() == [9, 9, 3]


def test_filtered_heads_count_neither_in_the_sum_nor_in_the_number():
    scores = torch.rand(2, 3, 8)
    heads = torch.tensor([[True, False, True], [False, True, False]])
    for how in ("eir", "mean", "max"):
        kept = aggregate_heads(scores, heads, how)
        torch.testing.assert_close(kept[0], aggregate_heads(scores[:1, [0, 2]], None, how)[0])
        torch.testing.assert_close(kept[1], aggregate_heads(scores[1:, [1]], None, how)[0])


@pytest.mark.parametrize(
    ("beta", "column", "kept"), [(0.5, 0, False), (1, 0.5, True), (2, 0, True), (1, 1, False), (4, 0, True)]
)
def test_vhf_keeps_the_heads_whose_variance_lies_between_the_thresholds(beta, column, kept):
    matrix = torch.cat([attention(1, 1, 197, b, c, seed=3) for b, c in ((beta, column), (1.5, 0.3))], dim=1)
    ranks = weighted_page_rank(matrix, first_signal(197, 1, "uniform", matrix), 30)[..., 1:]
    heads = informative_heads(ranks, 0.01, 0.7)
    assert bool(heads[0, 1])  # a head between the thresholds, so that no fallback hides the answer
    assert bool(heads[0, 0]) is kept


def test_where_all_heads_are_filtered_all_are_kept_for_that_image_alone():
    even, uneven = torch.ones(3, 8), torch.rand(3, 8) + 0.5
    heads = informative_heads(torch.stack([even, uneven]), 0.01, 0.7)
    assert heads[0].all()
    one_even = torch.stack([even[0], uneven[0], uneven[1]])[None]
    assert informative_heads(one_even, 0.01, 0.7)[0].tolist() == [False, True, True]


def test_only_on_the_mean_scale_can_the_papers_thresholds_bind():
    ranks = weighted_page_rank(attention(2, 3, 197), first_signal(197, 1, "uniform", attention(1, 1, 2)), 30)[..., 1:]
    variance = ranks.var(-1, correction=0)
    assert (variance < 0.01).all()  # as they are, every head would be filtered
    assert (informative_heads(ranks, variance.max().item() * 1.01, 0.7, "none")).all()  # and the fallback runs
    mean_one = (ranks / ranks.mean(-1, keepdim=True)).var(-1, correction=0)
    torch.testing.assert_close(mean_one, (ranks.std(-1, correction=0) / ranks.mean(-1)) ** 2)


def test_a_restricted_attention_is_the_attention_among_those_tokens():
    matrix = attention()
    positions = torch.tensor([[0, 3, 4, 9], [0, 1, 2, 11]])
    small = restrict(matrix, positions)
    for image in range(2):
        rows = matrix[image][:, positions[image]][:, :, positions[image]]
        torch.testing.assert_close(small[image], rows / rows.sum(-1, keepdim=True))


def test_sharpening_is_a_softmax_at_that_temperature():
    logits = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(sharpen(logits.softmax(-1), 0.5), (logits / 0.5).softmax(-1))


def test_sharpening_a_flat_row_far_leaves_its_ranking():
    flat = torch.full((1, 1, 1, 200), 1 / 200)
    flat[..., 7] += 1e-4
    sharpened = sharpen(flat, 0.01)
    assert torch.isfinite(sharpened).all()
    assert sharpened.argmax() == 7
