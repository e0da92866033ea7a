from __future__ import annotations

import torch

from pruning.passage import Passage
from pruning.reduction import Keep, Merge


def test_merging_into_tokens_of_their_own_is_keeping():
    x = torch.randn(2, 1 + 5, 4)
    positions = torch.tensor([[0, 2, 4], [1, 2, 3]])
    keep = Keep(positions, n_in=5)
    into = torch.where(keep.owners() < 0, 3, keep.owners())
    merge = Merge(into, torch.ones(2, 5), n_out=3)
    assert torch.equal(merge.reduce(x, 1), keep.reduce(x, 1))
    assert torch.equal(merge.owners(), keep.owners())
    counts = torch.rand(2, 5)
    assert torch.equal(merge.sum_up(counts), keep.sum_up(counts))


def test_a_merged_token_is_the_mean_by_shares_and_what_goes_is_in_none():
    x = torch.randn(1, 2 + 4, 3)
    merge = Merge(torch.tensor([[1, 0, 1, 2]]), torch.tensor([[0.25, 1.0, 0.75, 1.0]]), n_out=2)
    patches = x[0, 2:]
    expected = torch.stack([x[0, 0], x[0, 1], patches[1], 0.25 * patches[0] + 0.75 * patches[2]])
    torch.testing.assert_close(merge.reduce(x, 2)[0], expected)
    assert merge.owners().tolist() == [[1, 0, 1, -1]]


def test_a_merged_token_is_the_mean_by_weight():
    merge = Merge.by_weight(torch.tensor([[1, 0, 1, 2]]), torch.tensor([[1.0, 7.0, 3.0, 5.0]]), n_out=2)
    torch.testing.assert_close(merge.shares, torch.tensor([[0.25, 1.0, 0.75, 1.0]]))


def test_sizes_are_followed_also_where_no_key_is_weighed_by_them():
    passage = Passage(torch.arange(1), n_prefix=1)
    passage.go_through(Merge(torch.tensor([[0, 0, 1, 2]]), torch.ones(1, 4), n_out=3), counts_sizes=False)
    passage.go_through(Keep(torch.tensor([[0, 2]]), n_in=3), counts_sizes=False)
    assert passage.sizes.tolist() == [[2.0, 1.0]]
    assert passage.key_bias(torch.zeros(1)) is None


def test_sizes_add_up_over_layers_and_weigh_keys():
    passage = Passage(torch.arange(1), n_prefix=1)
    assert passage.key_bias(torch.zeros(1)) is None
    passage.go_through(Merge(torch.tensor([[0, 0, 1, 2]]), torch.ones(1, 4), n_out=3), counts_sizes=True)
    passage.go_through(Merge(torch.tensor([[0, 1, 0]]), torch.ones(1, 3), n_out=2), counts_sizes=True)
    assert passage.sizes.tolist() == [[3.0, 1.0]]
    torch.testing.assert_close(passage.key_bias(torch.zeros(1)).flatten().exp(), torch.tensor([1.0, 3.0, 1.0]))
