from __future__ import annotations

import pytest
import torch

from pruning import pruned, read_architecture
from pruning.attention import AttentionMaps
from pruning.passage import Passage
from pruning.stage import BlockTrace
from pruning.tome import tome_stages
from spaces import ToMe
from tests.pruning.test_matching import by_hand
from tests.tiny import tiny_images, tiny_vit

MODELS = {
    "class token": {},
    "distilled": {"distilled": True},
    "none": {"global_pool": "avg", "class_token": False},
    "registers": {"reg_tokens": 2},
}


@pytest.mark.parametrize("feature", ["key", "query", "x"])
@pytest.mark.parametrize("model", MODELS)
def test_tokens_become_means_by_size_as_written_out(model, feature):
    architecture = read_architecture(tiny_vit(**MODELS[model]), "tiny")
    n_prefix = architecture.n_prefix
    first, second = tome_stages(ToMe(r=(5, 4), metric_feature=feature), architecture)
    passage = Passage(torch.arange(1), n_prefix)
    x = torch.randn(1, n_prefix + 16, 24, dtype=torch.float64)
    for index in range(n_prefix, n_prefix + 16, 3):
        x[0, index] = 3 * x[0, n_prefix + 1]  # so that several merge into one, and again
    held = [(1, x[0, n_prefix + patch]) for patch in range(16)]  # size and token, written out
    for stage, n_merged in ((first, 5), (second, 4)):
        n_token = n_prefix + len(held)
        heads = {name: torch.randn(1, 3, n_token, 8, dtype=torch.float64) for name in ("query", "key", "value")}
        trace = BlockTrace(x, x, AttentionMaps(torch.empty(1, 3, 0, n_token), **heads), passage)
        merge = stage(trace)
        compared = x[0] if feature == "x" else sum(heads[feature][0]) / 3
        into = by_hand(compared, n_prefix, n_merged)
        assert merge.into[0].tolist() == into
        gathered = [[held[i] for i in range(len(held)) if into[i] == place] for place in range(len(held) - n_merged)]
        sizes = [sum(size for size, _ in group) for group in gathered]
        means = [sum(s * t for s, t in group) / size for group, size in zip(gathered, sizes, strict=True)]
        held = list(zip(sizes, means, strict=True))
        x = merge.reduce(x, n_prefix)
        torch.testing.assert_close(x[0, n_prefix:], torch.stack(means))
        passage.go_through(merge, counts_sizes=stage.counts_sizes)
        assert passage.sizes[0].tolist() == sizes
    assert max(sizes) > 2


@pytest.mark.parametrize("prop_attn", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_sizes_are_the_patches_that_tokens_hold_and_sum_to_all_of_them(model, prop_attn):
    vit, images = tiny_vit(**MODELS[model]), tiny_images()
    with pruned(vit, ToMe(r=4, prop_attn=prop_attn), trace=True) as pruning:
        vit(images)
        sizes = pruning.passage(4, images).sizes
    assert torch.equal(sizes.sum(dim=1), torch.full((4,), 16.0))
    for owners, held in zip(pruning.owners[4], sizes, strict=True):
        assert owners.bincount().tolist() == held.tolist()


def images_of_runs(n_alike):
    """Give images of 4 by 4 patches of 8 px that are alike in runs of ``n_alike`` along a row."""
    patches = torch.randn(4, 3, 4, 8, 4 // n_alike, 1, 8, generator=torch.Generator().manual_seed(3))
    return patches.expand(-1, -1, -1, -1, -1, n_alike, -1).reshape(4, 3, 32, 32)


def without_positions(**arguments):
    vit = tiny_vit(**arguments)
    with torch.no_grad():
        vit.pos_embed.zero_()
    return vit


@pytest.mark.parametrize("feature", ["key", "query", "x"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("n_alike", "r"), [(2, (8,)), (2, (0, 8)), (4, (8, 4))])
def test_merging_patches_that_are_the_same_changes_nothing(model, feature, n_alike, r):
    """Proportional attention makes one token of size two the same, to all others, as the two that it stands for."""
    vit, images = without_positions(**MODELS[model]), images_of_runs(n_alike)
    dense = vit(images)
    with pruned(vit, ToMe(r=r, metric_feature=feature)):
        torch.testing.assert_close(vit(images), dense, atol=2e-5, rtol=0)


def test_merging_some_of_them_changes_nothing_only_with_proportional_attention():
    vit, images = without_positions(), images_of_runs(2)
    dense = vit(images)
    with pruned(vit, ToMe(r=(3,))):
        torch.testing.assert_close(vit(images), dense, atol=2e-5, rtol=0)
    with pruned(vit, ToMe(r=(3,), prop_attn=False)):
        assert (vit(images) - dense).abs().max() > 1e-3


def test_the_first_merging_block_attends_as_the_dense_model_does():
    vit, images, seen = tiny_vit(), tiny_images(), []
    hook = vit.blocks[1].register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    dense = vit(images)
    with pruned(vit, ToMe(r=5, start_block=4)):
        # Behind the last attention merging reaches the classifier through no other token.
        torch.testing.assert_close(vit(images), dense)
    hook.remove()
    assert torch.equal(*seen)


def test_merging_by_keys_leaves_attention_fused(monkeypatch):
    vit, calls = tiny_vit(), []
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        "pruning.attention.scaled_dot_product_attention", lambda *a, **k: calls.append(1) or fused(*a, **k)
    )
    with pruned(vit, ToMe(r=2)):
        vit(tiny_images())
    assert len(calls) == 4
