from __future__ import annotations

import copy

import pytest
import torch

from pruning import prune, pruned
from pruning.ats import ats_scores, sampled
from pruning.attention import AttentionMaps, attend
from pruning.passage import Passage
from pruning.pooling import fill_with_mean
from pruning.reduction import KeepSome
from spaces import Ats
from tests.tiny import TINY_MODELS, tiny_images, tiny_vit

LAYOUT = Ats(in_attention=(1, 2, 4), k=(17, 12, 9))
WITH_CLASS_TOKEN = [name for name, make in TINY_MODELS.items() if make().cls_token is not None]


def official(scores: torch.Tensor, k: int) -> set[int]:
    """Choose one image's patches as METHODS 6 writes it down, one level after the other, over the full CDF."""
    order = sorted(range(len(scores)), key=lambda patch: scores[patch])
    shares = (scores / scores.sum())[order]
    cdf = torch.stack([shares[: rank + 1].sum() for rank in range(len(shares))])
    cdf = (cdf - cdf.min()) / (cdf.max() - cdf.min())
    lowest = min(value for value in cdf.tolist() if value > 0)
    chosen = set()
    for level in torch.linspace(lowest, 1.0, k - 1, dtype=cdf.dtype):
        chosen.add(order[int((cdf - level).abs().argmin())])
    return chosen


@pytest.mark.parametrize("n_patch", [2, 3, 16, 50])
@pytest.mark.parametrize("k", [8, 17, 51])
def test_what_is_sampled_is_what_the_official_loop_chooses(n_patch, k):
    scores = torch.rand(30, n_patch).double() ** 4
    stays = sampled(scores, k - 1)
    for row, kept in zip(scores, stays, strict=True):
        assert set(kept.nonzero().flatten().tolist()) == official(row, k)


def test_what_fills_a_row_is_never_sampled_and_changes_nothing():
    scores = torch.rand(20, 12).double() ** 3
    filling = torch.rand(20, 5).double() * 9
    order = torch.randperm(17)
    filled = torch.cat([scores, filling], dim=1)[:, order]
    is_real = (torch.arange(17) < 12)[order].expand(20, -1)
    stays = sampled(filled, 9, is_real)
    assert not (stays & ~is_real).any()
    back = order.argsort()
    assert torch.equal(stays[:, back][:, :12], sampled(scores, 9))


def test_the_fewer_patches_the_attention_rests_on_the_fewer_stay():
    even = torch.linspace(1, 1.1, 50).expand(1, -1)
    assert sampled(even, 50).sum() > sampled(even**40, 50).sum() > sampled(even**400, 50).sum()


@pytest.mark.parametrize(
    "scores", [torch.zeros(1, 6), torch.tensor([[0.0, 0, 5, 0, 0, 0]]), torch.ones(1, 1), torch.zeros(1, 1)]
)
def test_where_nothing_tells_patches_apart_one_stays(scores):
    stays = sampled(scores, 7)
    assert stays.sum() == 1
    assert scores[stays] == scores.max()


def test_scores_are_the_class_tokens_attention_times_the_values_length_over_all_heads():
    weights, value = torch.rand(2, 3, 6, 6), torch.randn(2, 3, 6, 4)
    maps = AttentionMaps(weights, value, value, value)
    for image in range(2):
        for patch in range(5):
            attention = sum(weights[image, head, 0, 1 + patch] for head in range(3))
            length = torch.cat([value[image, head, 1 + patch] for head in range(3)]).norm()
            torch.testing.assert_close(ats_scores(maps, 1, "cls")[image, patch], attention)
            torch.testing.assert_close(ats_scores(maps, 1, "cls_vnorm")[image, patch], attention * length)


def by_hand(model, image, layout) -> torch.Tensor:
    """Run a timm ViT on one image without any filling, dropping rows by hand."""
    n_prefix = model.num_prefix_tokens
    x = model.norm_pre(model._pos_embed(model.patch_embed(image[None])))
    for number, block in enumerate(model.blocks, start=1):
        mixed, maps = attend(block.attn, block.norm1(x))
        if number in layout.in_attention:
            size = layout.k[layout.in_attention.index(number)]
            patches = sorted(official(ats_scores(maps, n_prefix, layout.score)[0].double(), size))
            rows = [*range(n_prefix), *(n_prefix + patch for patch in patches)]
            x, mixed = x[:, rows], mixed[:, rows]
        x = x + block.ls1(mixed)
        x = x + block.ls2(block.mlp(block.norm2(x)))
    return model.forward_head(model.norm(x))[0]


@pytest.mark.parametrize("score", ["cls_vnorm", "cls"])
@pytest.mark.parametrize("name", ["ViT", "unfused", "DeiT-III", "MAE", "DINOv2 with registers", "LV-ViT"])
def test_a_batch_gives_what_each_image_gives_by_hand(name, score):
    model, images = TINY_MODELS[name](), tiny_images(16)
    layout = LAYOUT.model_copy(update={"score": score})
    with torch.inference_mode():
        expected = torch.stack([by_hand(model, image, layout) for image in images])
        with pruned(model, layout) as pruning:
            torch.testing.assert_close(model(images), expected, atol=1e-5, rtol=1e-5)
            assert len(set(pruning.n_kept[2].tolist())) > 1


@pytest.mark.parametrize("name", WITH_CLASS_TOKEN)
def test_an_image_is_seen_alone_as_in_a_batch(name):
    model, images = TINY_MODELS[name](), tiny_images(16)
    with torch.inference_mode(), pruned(model, LAYOUT, trace=True) as pruning:
        together, owners, n_kept = model(images), pruning.owners, pruning.n_kept
        for index in range(16):
            pruning.owners, pruning.n_kept = {}, {}
            alone = model(images[index : index + 1])
            torch.testing.assert_close(alone[0], together[index], atol=1e-5, rtol=1e-5)
            assert pruning.tokens_per_block[1] == model.num_prefix_tokens + n_kept[1][index]
            for block in LAYOUT.in_attention:
                assert pruning.n_kept[block] == n_kept[block][index]
                assert torch.equal(pruning.owners[block][0], owners[block][index])


@pytest.mark.parametrize("name", WITH_CLASS_TOKEN)
def test_tokens_go_even_where_k_is_all_of_them(name):
    """The documented exception of the law that pruning nothing changes nothing."""
    model, images = TINY_MODELS[name](), tiny_images()
    n_token = 16 + model.num_prefix_tokens
    with torch.inference_mode():
        dense = model(images)
        with pruned(model, Ats(in_attention=(2,), k=n_token)) as pruning:
            assert not torch.allclose(model(images), dense)
            assert (pruning.n_kept[2] < 16).all()


def test_a_model_pruned_for_good_is_copied_with_its_filling():
    model, images = TINY_MODELS["MAE"](), tiny_images()
    with torch.inference_mode(), pruned(model, LAYOUT):
        expected = model(images)
    assert not model.norm._forward_hooks
    twin = copy.deepcopy(prune(model, LAYOUT))
    model(images[:1])  # what it remembers of this batch is none of its copy's
    torch.testing.assert_close(twin(images), expected)
    assert twin.train()(images).requires_grad


def test_filling_with_the_mean_changes_no_mean_and_no_maximum_of_what_is_linear():
    tokens, head = torch.randn(2, 6, 8), torch.randn(8, 3)
    sizes = torch.tensor([[1.0, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    filled = fill_with_mean(tokens, sizes, n_prefix=1)
    assert torch.equal(filled[0], tokens[0])
    torch.testing.assert_close(filled[1, 1:].mean(0), tokens[1, 1:3].mean(0))
    torch.testing.assert_close((filled[1, 1:] @ head).amax(0), (tokens[1, 1:3] @ head).amax(0))


def test_nobody_attends_to_what_fills_a_row():
    passage = Passage(torch.arange(2), 1)
    stays = torch.tensor([[True, True, False], [False, False, True]])
    passage.go_through(KeepSome.where(stays), counts_sizes=True)
    bias = passage.key_bias(torch.zeros(1))
    assert bias[:, 0, 0].tolist() == [[0, 0, 0], [0, 0, -torch.inf]]


def test_a_batch_with_nothing_to_fill_keeps_its_fused_attention():
    passage = Passage(torch.arange(2), 1)
    passage.go_through(KeepSome.where(torch.tensor([[True, False], [False, True]])), counts_sizes=True)
    assert passage.key_bias(torch.zeros(1)) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_numbers(dtype):
    model, images = tiny_vit(), tiny_images(8)
    with torch.inference_mode(), torch.autocast("cpu", dtype), pruned(model, LAYOUT):
        assert torch.isfinite(model(images)).all()
