"""One pruning layer against the same layer written out token by token."""

from __future__ import annotations

import itertools

import pytest
import torch

from pruning import pruned, read_architecture
from pruning.attention import AttentionMaps
from pruning.cls_topk import cls_topk_stages
from pruning.passage import Passage
from pruning.stage import BlockTrace
from spaces import CLSTopK
from tests.tiny import tiny_images, tiny_vit

SETTINGS = [
    dict(zip(("fuse", "fuse_norm", "head_reduce", "query"), values, strict=True))
    for values in itertools.product((True, False), (True, False), ("mean", "max"), ("cls", "prefix"))
]


def by_hand(config, weights, x, n_prefix, n_kept):
    """Prune one image's (n_token, dim) tokens by its (head, n_token, n_token) attention."""
    queries = range(1 if config.query == "cls" else n_prefix)
    scores = []
    for patch in range(n_prefix, len(x)):
        of_heads = [sum(head[query, patch].item() for query in queries) / len(queries) for head in weights]
        scores.append(max(of_heads) if config.head_reduce == "max" else sum(of_heads) / len(of_heads))
    ranked = sorted(range(len(scores)), key=lambda patch: -scores[patch])
    tokens = [*x[:n_prefix], *(x[n_prefix + patch] for patch in sorted(ranked[:n_kept]))]
    if config.fuse:
        dropped = ranked[n_kept:]
        total = sum(scores[patch] for patch in dropped) if config.fuse_norm else 1.0
        tokens.append(sum(scores[patch] / total * x[n_prefix + patch] for patch in dropped))
    return torch.stack(tokens)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("n_prefix", [1, 2])
def test_a_layer_leaves_what_it_leaves_written_out(settings, n_prefix):
    architecture = read_architecture(tiny_vit(distilled=n_prefix == 2), "tiny")
    config = CLSTopK(inside=(2,), keep_rate=(0.6,), **settings)
    (stage,) = cls_topk_stages(config, architecture)
    batch, n_token = 5, 16 + n_prefix
    weights = torch.randn(batch, 3, n_token, n_token, dtype=torch.float64).mul(2).softmax(-1)
    x = torch.randn(batch, n_token, 24, dtype=torch.float64)
    reduction = stage(BlockTrace(x, x, AttentionMaps(weights, x, x, x), Passage(torch.arange(batch), n_prefix)))
    found = reduction.reduce(x, n_prefix)
    assert found.shape[1] == n_prefix + 10 + config.fuse  # ceil(0.6 * 16) = 10
    for image in range(batch):
        torch.testing.assert_close(found[image], by_hand(config, weights[image], x[image], n_prefix, 10))


def test_attention_that_rounds_to_zero_still_gives_a_mean():
    architecture = read_architecture(tiny_vit(), "tiny")
    (stage,) = cls_topk_stages(CLSTopK(inside=(2,), keep_rate=(0.5,)), architecture)
    weights = torch.zeros(1, 3, 17, 17)
    weights[..., 1:9] = 1 / 8
    x = torch.randn(1, 17, 24)
    trace = BlockTrace(x, x, AttentionMaps(weights, x, x, x), Passage(torch.arange(1), 1))
    torch.testing.assert_close(stage(trace).reduce(x, 1)[0, -1], x[0, 9:].mean(dim=0))


def test_the_fused_token_holds_all_that_was_dropped():
    model = tiny_vit()
    with pruned(model, CLSTopK(inside=(1,), keep_rate=(0.5,)), trace=True) as pruning:
        model(tiny_images())
    for row in pruning.owners[1].tolist():
        assert sorted(row) == [*range(8), *[8] * 8]


def test_a_later_layer_may_drop_or_keep_the_fused_token():
    model, images = tiny_vit(), tiny_images(16)
    with pruned(model, CLSTopK(inside=(1, 2), keep_rate=(0.5, 0.5)), trace=True) as pruning:
        model(images)
    # All that the first layer fused is together wherever the second puts it: in its own fused token, or in one it kept.
    fused_before, after = pruning.owners[1] == 8, pruning.owners[2]
    places = [set(row[mask].tolist()) for row, mask in zip(after, fused_before, strict=True)]
    assert all(len(place) == 1 for place in places)
    assert {place.pop() == 5 for place in places} == {True, False}
