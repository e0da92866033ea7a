"""One pruning layer against the same layer written out token by token."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from pruning import pruned, read_architecture
from pruning.attention import AttentionMaps
from pruning.passage import Passage
from pruning.stage import BlockTrace
from pruning.zero_tprune import zero_tprune_stages
from spaces import ZeroTPrune
from tests.tiny import tiny_images, tiny_vit

SETTINGS = [
    {},
    {"order": "I-S"},
    {"cls_init": "uniform", "vhf": False},
    {"head_agg": "mean", "v_min": 0.05, "v_max": 2.0},
    {"head_agg": "max", "partition": "alternate", "similarity": "dot"},
    {"partition": "sequential_i", "feature": "value"},
    {"partition": "none", "feature": "x", "similarity": "minkowski3"},
    {"feature": "x_pre", "order": "I-S", "k_base": "after_s"},
    {"rounding": "round_total", "temperature": 0.7},
    {"s": 0},
    {"keep_rate": (1.0,)},
]


def page_rank(attention: np.ndarray, first: np.ndarray, iterations: int) -> np.ndarray:
    signal = first / first.sum()
    for _ in range(iterations):
        signal = np.array([sum(attention[j, i] * signal[j] for j in range(len(signal))) for i in range(len(signal))])
    return signal


def importance(attention: np.ndarray, iterations: int, config: ZeroTPrune, n_prefix: int) -> np.ndarray:
    """Score patches from (head, n_token, n_token)."""
    n_token = attention.shape[-1]
    first = np.ones(n_token)
    if config.cls_init == "sqrt_n":
        first[:n_prefix] = np.sqrt(n_token)
    scores = np.array([page_rank(head, first, iterations)[n_prefix:] for head in attention])
    variances = [np.var(score / score.mean()) for score in scores]
    counted = [s for s, v in zip(scores, variances, strict=True) if not config.vhf or config.v_min <= v <= config.v_max]
    counted = counted or list(scores)
    if config.head_agg == "eir":
        return np.sqrt(np.sum(np.square(counted), axis=0)) / len(counted)
    return np.mean(counted, axis=0) if config.head_agg == "mean" else np.max(counted, axis=0)


def similarity(a: np.ndarray, b: np.ndarray, measure: str) -> float:
    if measure.startswith("minkowski"):
        return -float((np.abs(a - b) ** int(measure[-1])).sum() ** (1 / int(measure[-1])))
    scale = np.linalg.norm(a) * np.linalg.norm(b) if measure == "cosine" else 1.0
    return float(a @ b / scale)


def without_similar(patches, scores, features, s, config):
    ranked = [p for _, p in sorted(zip(scores, patches, strict=True), reverse=True)]
    half = len(ranked) // 2
    a, b = {
        "sequential_u": (ranked[len(ranked) - half :], ranked[: len(ranked) - half]),
        "sequential_i": (ranked[:half], ranked[half:]),
        "alternate": (ranked[1::2], ranked[::2]),
        "none": (ranked, ranked),
    }[config.partition]
    best = {i: max(similarity(features[i], features[j], config.similarity) for j in b if j != i) for i in a}
    gone = sorted(best, key=lambda i: (-round(best[i], 9), -ranked.index(i)))[:s]
    return [p for p in patches if p not in gone]


def by_hand(config, plan, attention, features, n_prefix):
    """Prune one image: (head, n_token, n_token) attention and (n_patch, dim) features to kept patches."""
    attention = attention ** (1 / config.temperature)
    attention /= attention.sum(-1, keepdims=True)
    patches = list(range(plan.n_in))
    if config.order == "I-S":
        scores = importance(attention, plan.iterations, config, n_prefix)
        kept = sorted(sorted(patches, key=lambda p: -scores[p])[: plan.n_important])
        return without_similar(kept, [scores[p] for p in kept], features, plan.n_similar, config)
    if plan.n_similar:
        scores = importance(attention, 1, config, n_prefix)
        patches = without_similar(patches, scores, features, plan.n_similar, config)
    if plan.n_important == len(patches):
        return patches
    rows = [*range(n_prefix), *(p + n_prefix for p in patches)]
    small = attention[:, rows][:, :, rows]
    scores = importance(small / small.sum(-1, keepdims=True), plan.iterations, config, n_prefix)
    best = sorted(range(len(patches)), key=lambda i: -scores[i])[: plan.n_important]
    return sorted(patches[i] for i in best)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())) or "paper")
@pytest.mark.parametrize("n_prefix", [1, 2])
def test_a_layer_keeps_what_it_keeps_written_out(settings, n_prefix):
    architecture = read_architecture(tiny_vit(distilled=n_prefix == 2), "tiny")
    config = ZeroTPrune(**{"after": (2,), "keep_rate": (0.6,), "s": 3, "iterations": 4} | settings)
    ((stage),) = zero_tprune_stages(config, architecture)
    n_token, heads, batch = architecture.n_patch + n_prefix, 3, 5
    logits = 1.5 * torch.randn(batch, heads, n_token, n_token, dtype=torch.float64)
    query, key, value = (torch.randn(batch, heads, n_token, 8, dtype=torch.float64) for _ in range(3))
    x_pre, x = (torch.randn(batch, n_token, 24, dtype=torch.float64) for _ in range(2))
    maps = AttentionMaps(logits.softmax(-1), query, key, value)
    kept = stage(BlockTrace(x_pre, x, maps, Passage(torch.arange(batch), n_prefix))).positions
    compared = {"x": x, "x_pre": x_pre}.get(config.feature)
    if compared is None:
        compared = getattr(maps, config.feature).transpose(1, 2).flatten(2)
    for image in range(batch):
        expected = by_hand(
            config, stage.plan, maps.weights[image].numpy(), compared[image, n_prefix:].numpy(), n_prefix
        )
        assert kept[image].tolist() == expected


VARIANTS = [
    dict(zip(("partition", "order", "feature"), values, strict=True))
    for values in itertools.product(("sequential_u", "random"), ("I'-S-I", "I-S"), ("key", "x"))
]


@pytest.mark.parametrize("settings", VARIANTS, ids=lambda s: "-".join(s.values()))
def test_an_image_keeps_the_same_tokens_alone_and_in_a_batch(settings):
    model, images = tiny_vit(), tiny_images(16)
    config = ZeroTPrune(after=(1, 3), keep_rate=(0.8, 0.7), s=2, **settings)
    with pruned(model, config, trace=True) as pruning:
        pruning.image_ids = torch.arange(100, 116)
        model(images)
        together = pruning.owners
        for index in (0, 7, 15):
            pruning.owners, pruning.image_ids = {}, torch.tensor([100 + index])
            model(images[index : index + 1])
            for block, owners in pruning.owners.items():
                assert torch.equal(owners[0], together[block][index])
