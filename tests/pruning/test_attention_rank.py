"""Rankings by average attention against the same rankings written out, block by block."""

from __future__ import annotations

import pytest
import torch

from pruning import prune, pruned, read_architecture
from pruning.attention import AttentionMaps
from pruning.attention_rank import attention_rank_stages
from pruning.passage import Passage
from pruning.stage import BlockTrace
from spaces import AttentionRank
from tests.tiny import tiny_images, tiny_vit

MODELS = {"class token": {}, "none": {"global_pool": "avg", "class_token": False}, "registers": {"reg_tokens": 2}}


def received(weights, n_prefix):
    """Average (head, n_token, n_token) attention for each patch of one image."""
    n_head, n_token, _ = weights.shape
    of_all = [(head, query) for head in range(n_head) for query in range(n_token)]
    return [sum(weights[h, q, p].item() for h, q in of_all) / len(of_all) for p in range(n_prefix, n_token)]


@pytest.mark.parametrize("score", ["mean", "accumulated"])
@pytest.mark.parametrize("model", MODELS)
def test_layers_keep_what_they_keep_written_out(model, score):
    architecture = read_architecture(tiny_vit(**MODELS[model]), "tiny")
    n_prefix, n_images = architecture.n_prefix, 3
    config = AttentionRank(after=(2, 4), keep_rate=(0.7, 0.5), score=score)
    passage = Passage(torch.arange(n_images), n_prefix)
    alive = [list(range(16)) for _ in range(n_images)]
    sums = [dict.fromkeys(range(16), 0.0) for _ in range(n_images)]
    stages = {stage.block: stage for stage in attention_rank_stages(config, architecture)}
    assert list(stages) == ([1, 2, 3, 4] if score == "accumulated" else [2, 4])
    for block, stage in stages.items():
        n_token = n_prefix + len(alive[0])
        weights = torch.randn(n_images, 3, n_token, n_token, dtype=torch.float64).mul(2).softmax(-1)
        x = torch.randn(n_images, n_token, 24, dtype=torch.float64)
        keep = stage(BlockTrace(x, x, AttentionMaps(weights, x, x, x), passage))
        for image, patches in enumerate(alive):
            for patch, value in zip(patches, received(weights[image], n_prefix), strict=True):
                sums[image][patch] = value + (sums[image][patch] if score == "accumulated" else 0)
        if block not in config.after:
            assert keep is None
            continue
        n_kept = {2: 11, 4: 5}[block]
        for image, patches in enumerate(alive):
            best = sorted(patches, key=lambda patch, of=sums[image]: -of[patch])[:n_kept]
            assert [patches[place] for place in keep.positions[image].tolist()] == sorted(best)
            alive[image] = sorted(best)
        passage.go_through(keep, counts_sizes=stage.counts_sizes)


def test_the_two_scores_are_one_after_the_first_block_and_two_after_others():
    def owners(block, score):
        model = tiny_vit()
        with pruned(model, AttentionRank(after=(block,), keep_rate=(0.5,), score=score), trace=True) as pruning:
            model(tiny_images())
        return pruning.owners[block]

    assert torch.equal(owners(1, "mean"), owners(1, "accumulated"))
    assert not torch.equal(owners(3, "mean"), owners(3, "accumulated"))


def test_blocks_that_only_add_up_change_nothing():
    """A class token that leaves the last block does not depend on which patches are dropped behind it."""
    model, images = tiny_vit(), tiny_images()
    dense = model(images)
    layout = AttentionRank(after=(4,), keep_rate=(0.5,), score="accumulated")
    with pytest.warns(UserWarning, match="saves nothing"):
        model = prune(model, layout)
    torch.testing.assert_close(model(images), dense, atol=1e-5, rtol=0)


def test_each_batch_adds_up_from_nothing():
    model, images = tiny_vit(), tiny_images()
    with pruned(model, AttentionRank(after=(3,), keep_rate=(0.5,), score="accumulated")):
        assert torch.equal(model(images), model(images))
