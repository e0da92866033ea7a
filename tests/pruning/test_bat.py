"""One pruning layer against the same layer written out token by token."""

from __future__ import annotations

import pytest
import torch

from pruning import pruned, read_architecture
from pruning.attention import AttentionMaps
from pruning.bat import bat_stages
from pruning.passage import Passage
from pruning.reduction import Keep
from pruning.stage import BlockTrace
from spaces import Bat
from tests.pruning.test_clustering import clusters_of
from tests.pruning.test_pairing import bipartite, greedy
from tests.tiny import tiny_images, tiny_vit

SETTINGS = [
    {},
    {"match": "greedy", "density": "gauss", "knn": 2},
    {"merge_weight": "uniform"},
    {"merge_norm": False},
    {"merge_norm": False, "merge_weight": "uniform", "p": 1},
    {"c_num": 0},
    {"p": 0},
    {"c_num": 0, "p": 0},
    {"c_num": 1, "p": 0},
    {"c_num": 9, "p": 5},
    {"keep_rate": (0.3,), "c_num": 6, "p": 2},
]


def by_hand(config, plan, scores, patches):
    """Merge one image: class attention and tokens of each patch to the tokens that leave, and who is in which."""
    ranked = sorted(range(plan.n_in), key=lambda i: -scores[i])
    attentive, rest = ranked[: plan.n_attentive], sorted(ranked[plan.n_attentive :])
    pairs = (greedy if config.match == "greedy" else bipartite)([patches[i] for i in attentive], plan.n_matched)
    members = {i: [i] for i in sorted(attentive)}
    for source, partner in pairs:
        members[attentive[partner]] += members.pop(attentive[source])
    groups = list(members.values())
    if plan.n_clusters:
        clusters = clusters_of([patches[i] for i in rest], plan.n_clusters, config.density, config.knn)
        groups += [[i for i, of in zip(rest, clusters, strict=True) if of == c] for c in range(plan.n_clusters)]
    tokens = []
    for number, group in enumerate(groups):
        weights = [1.0 if config.merge_weight == "uniform" else scores[i] for i in group]
        stays_as_it_is = len(group) == 1 and number < plan.n_attentive - plan.n_matched
        total = sum(weights) if config.merge_norm or stays_as_it_is else 1.0
        tokens.append(
            [
                sum(w / total * patches[i][d] for w, i in zip(weights, group, strict=True))
                for d in range(len(patches[0]))
            ]
        )
    return tokens, groups


def traced(n_prefix, *, batch=5, n_patch=16, dim=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n_token = n_patch + n_prefix
    logits = 1.5 * torch.randn(batch, 3, n_token, n_token, dtype=torch.float64, generator=generator)
    x = 0.7 * torch.randn(batch, n_token, dim, dtype=torch.float64, generator=generator)
    maps = AttentionMaps(logits.softmax(-1), x, x, x)
    return BlockTrace(x + 1, x, maps, Passage(torch.arange(batch), n_prefix))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("n_prefix", [1, 2])
def test_a_layer_leaves_what_it_leaves_written_out(settings, n_prefix):
    architecture = read_architecture(tiny_vit(distilled=n_prefix == 2), "tiny")
    config = Bat(**{"inside": (2,), "keep_rate": (0.6,), "c_num": 3, "p": 3} | settings)
    (stage,) = bat_stages(config, architecture)
    trace = traced(n_prefix)
    reduction = stage(trace)
    left = reduction.reduce(trace.x, n_prefix)
    assert left.shape[1] == n_prefix + stage.plan.n_out == n_prefix + reduction.n_out
    assert torch.equal(left[:, :n_prefix], trace.x[:, :n_prefix])
    for image in range(len(trace.x)):
        scores = trace.maps.weights[image, :, 0, n_prefix:].mean(0).tolist()
        tokens, groups = by_hand(config, stage.plan, scores, trace.x[image, n_prefix:].tolist())
        torch.testing.assert_close(left[image, n_prefix:], torch.tensor(tokens, dtype=torch.float64))
        owners = [next((n for n, group in enumerate(groups) if i in group), -1) for i in range(16)]
        assert reduction.owners()[image].tolist() == owners


def test_one_cluster_is_the_mean_by_class_attention_of_all_that_is_not_attentive():
    (stage,) = bat_stages(Bat(inside=(2,), keep_rate=(0.5,), c_num=1, p=0), read_architecture(tiny_vit()))
    trace = traced(1)
    attention = trace.maps.weights[:, :, 0, 1:].mean(1)
    rest = attention.argsort(descending=True)[:, 8:]
    weights = attention.gather(1, rest)[..., None]
    tokens = trace.x[:, 1:].take_along_dim(rest[..., None], dim=1)
    fused = (weights * tokens).sum(1) / weights.sum(1)
    torch.testing.assert_close(stage(trace).reduce(trace.x, 1)[:, -1], fused)


def test_attentive_tokens_stay_bit_for_bit_in_raster_order():
    (stage,) = bat_stages(Bat(inside=(2,), keep_rate=(0.5,), c_num=2, p=0), read_architecture(tiny_vit()))
    trace = traced(1)
    attentive = trace.maps.weights[:, :, 0, 1:].mean(1).topk(8).indices.sort().values
    left = stage(trace).reduce(trace.x, 1)
    assert torch.equal(left[:, 1:9], trace.x[:, 1:].take_along_dim(attentive[..., None], dim=1))


def test_a_case_by_hand():
    """Four patches; two attentive ones are merged, and the other two make a cluster."""
    (stage,) = bat_stages(
        Bat(inside=(2,), keep_rate=(0.5,), c_num=1, p=1), read_architecture(tiny_vit(img_size=16, embed_dim=24))
    )
    weights = torch.tensor([[0.0, 0.4, 0.1, 0.2, 0.3]]).expand(1, 3, 5, 5)
    x = torch.tensor([[[9.0], [1.0], [2.0], [3.0], [8.0]]])
    reduction = stage(BlockTrace(x, x, AttentionMaps(weights, x, x, x), Passage(torch.arange(1), 1)))
    # Patches 0 and 3 (0.4 and 0.3) are attentive: (0.4 * 1 + 0.3 * 8) / 0.7; then (0.1 * 2 + 0.2 * 3) / 0.3.
    torch.testing.assert_close(reduction.reduce(x, 1), torch.tensor([[[9.0], [4.0], [8 / 3]]]))
    assert reduction.owners().tolist() == [[0, 1, 1, 0]]


def test_attentive_tokens_alone_are_kept_without_arithmetic():
    (stage,) = bat_stages(Bat(inside=(2,), keep_rate=(0.5,), c_num=0, p=0), read_architecture(tiny_vit()))
    assert isinstance(stage(traced(1)), Keep)


def test_without_any_class_attention_tokens_stay_finite():
    (stage,) = bat_stages(Bat(inside=(2,), keep_rate=(0.5,)), read_architecture(tiny_vit()))
    trace = traced(1)
    weights = torch.zeros_like(trace.maps.weights)
    weights[..., 0] = 1.0
    reduction = stage(BlockTrace(trace.x_pre, trace.x, AttentionMaps(weights, *[trace.x] * 3), trace.passage))
    assert reduction.reduce(trace.x, 1).isfinite().all()


@pytest.mark.parametrize("match", ["bipartite", "greedy"])
@pytest.mark.parametrize("density", ["knn", "gauss"])
def test_an_image_goes_into_the_same_tokens_alone_and_in_a_batch(match, density):
    model, images = tiny_vit(), tiny_images(16)
    config = Bat(inside=(1, 3), keep_rate=(0.7, 0.6), c_num=3, p=3, match=match, density=density)
    with pruned(model, config, trace=True) as pruning:
        model(images)
        together = pruning.owners
        assert len({tuple(row) for row in together[3].tolist()}) > 1
        for index in (0, 7, 15):
            pruning.owners = {}
            model(images[index : index + 1])
            for block, owners in pruning.owners.items():
                assert torch.equal(owners[0], together[block][index])


def test_the_trace_follows_patches_through_two_layers():
    model, images = tiny_vit(), tiny_images()
    with pruned(model, Bat(inside=(1, 3), keep_rate=(0.7, 0.5), c_num=2, p=2), trace=True) as pruning:
        model(images)
        counts = pruning.tokens_per_block
    first, second = pruning.owners[1], pruning.owners[3]
    assert counts == (17, 13, 13, 7)  # 12 - 2 + 2 of 16, then 6 - 2 + 2 of 12
    for before, after in zip(first.tolist(), second.tolist(), strict=True):
        together = {token: {after[i] for i in range(16) if before[i] == token} for token in before}
        assert all(len(holders) == 1 for holders in together.values())
        assert set(after) == set(range(6))


def test_a_pruned_model_learns():
    model = tiny_vit()
    with pruned(model, Bat(inside=(1, 3), keep_rate=(0.7, 0.5), c_num=2, p=2, match="greedy")):
        model(tiny_images()).sum().backward()
    assert model.blocks[0].attn.qkv.weight.grad.isfinite().all()
    assert model.blocks[3].mlp.fc1.weight.grad.abs().sum() > 0
