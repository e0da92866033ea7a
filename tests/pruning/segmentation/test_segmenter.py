"""Segmenters: what they compute, and what they cost."""

from __future__ import annotations

import pytest
import timm
import torch
from torch.nn import functional

import pruning.segmentation.published  # noqa: F401  registers the models with timm
from objectives.cost import count_macs
from pruning import pruned
from pruning.apply import read_architecture
from pruning.segmentation.packing import PackedTokens
from spaces import METHODS, InvalidInput, RandomDrop, UnsupportedModel, dense_cost
from spaces.cost import upsampling_macs
from tests.tiny import tiny_images
from tests.tiny_segmenter import TINY_KINDS, tiny_segmenter

DENSE_GFLOPS = {  # METHODS 9.4: published, then how far from it ours may be
    "segvit_vit_base": (109.9, 0.05),
    "segvit_vit_large": (617.0, 0.05),
    "setr_vit_base": (107.7, 0.003 * 107.7),
}


@pytest.mark.parametrize("name", DENSE_GFLOPS)
def test_the_dense_cost_is_the_published_one_by_both_counters(name):
    published_gflops, tolerance = DENSE_GFLOPS[name]
    with torch.device("meta"):
        model = timm.create_model(name).eval()
        images = torch.empty(1, 3, *model.encoder.patch_embed.img_size)
        architecture = read_architecture(model, name)
        size = architecture.image_size
        # Once to the size of the input and once to the image's, as mmsegmentation does it.
        counted = count_macs(model, images, lambda x: functional.interpolate(model(x), size=size, mode="bilinear"))
        assert count_macs(model, images, model.forward_scores) == dense_cost(architecture).macs
    assert counted / 1e9 == pytest.approx(published_gflops, abs=tolerance)
    assert (dense_cost(architecture).macs + 2 * upsampling_macs(architecture)) / 1e9 == pytest.approx(
        published_gflops, abs=tolerance
    )


def test_the_head_of_segvit_base_costs_what_fvcore_counts_on_the_official_one():
    with torch.device("meta"):
        model = timm.create_model("segvit_vit_base").eval()
        tokens = torch.empty(1, 1024, 768)
        macs = count_macs(model, tokens, lambda x: model.read(6, PackedTokens.of(x)))
    assert macs == 2_547_340_032


@pytest.mark.parametrize("kind", TINY_KINDS)
def test_the_closed_form_of_any_kind_is_what_runs(kind):
    model = tiny_segmenter(**TINY_KINDS[kind])
    images = tiny_images(1, 64)
    assert count_macs(model, images, model.forward_scores) == dense_cost(read_architecture(model)).macs


@pytest.mark.parametrize("kind", TINY_KINDS)
def test_every_pixel_gets_a_score_for_every_class(kind):
    model = tiny_segmenter(**TINY_KINDS[kind])
    scores = model(tiny_images(2, 64))
    assert scores.shape == (2, 5, 64, 64)
    assert torch.isfinite(scores).all()


def test_a_naive_head_is_the_published_one_with_its_last_convolution_before_the_upsampling():
    model = tiny_segmenter()
    tokens = torch.randn(2, 64, 24)
    head = model.head(6)
    hidden = head.batch_norm(head.reduce(head.norm(tokens.flatten(0, 1)))).relu()
    grid = hidden.unflatten(0, (2, 8, 8)).permute(0, 3, 1, 2)
    as_published = functional.interpolate(grid, scale_factor=4, mode="bilinear", align_corners=False)
    as_published = functional.conv2d(as_published, head.classify.weight[:, :, None, None], head.classify.bias)
    as_published = functional.interpolate(as_published, size=(64, 64), mode="bilinear", align_corners=False)
    ours = model.upsampled(model.read(6, PackedTokens.of(tokens)))
    torch.testing.assert_close(ours, as_published, rtol=1e-5, atol=1e-5)


def test_the_masks_of_an_attention_to_mask_head_are_the_last_layers_scores_weighed_by_class():
    model = tiny_segmenter(head="atm")
    tokens = PackedTokens.of(torch.randn(2, 64, 24))
    said = model.head(6)(tokens)
    scores = model.read(6, tokens)
    assert said.classes.shape == (2, 5)
    torch.testing.assert_close(scores[1, 7, 3], said.classes[1, 3] * said.masks[64 + 7, 3].sigmoid())


@pytest.mark.parametrize("after", [(), (2, 4), (4, 2, 6), (2, 7), (0, 6)])
def test_heads_at_other_depths_than_the_models_are_refused(after):
    with pytest.raises(InvalidInput, match="heads must be at increasing depths from 1 to the model's last block, 6"):
        tiny_segmenter(after=after)


def test_a_head_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(InvalidInput, match="there is no head after block 3: the model has heads after 2, 4, 6"):
        tiny_segmenter().head(3)


@pytest.mark.parametrize("method", [name for name, (config, _) in METHODS.items() if not config.predicts_every_patch])
def test_methods_that_take_tokens_away_for_good_are_refused_by_name(method):
    model = tiny_segmenter()
    config, _ = METHODS[method]
    values = {"tome": {"r": 2}, "ats": {"in_attention": [3], "k": 8}, "bat": {"inside": [3], "keep_rate": [0.5]}}
    settings = values.get(method, {("inside" if method == "cls_topk" else "after"): [3], "keep_rate": [0.5]})
    layout = config.parse({"method": method, **settings})
    reason = f"{method} cannot prune Segmenter: it takes tokens away for good, and a segmenter must name the class of"
    with pytest.raises(UnsupportedModel, match=reason):
        layout.cost(read_architecture(model))
    with pytest.raises(UnsupportedModel, match=reason), pruned(model, layout):
        pass


def test_a_refused_method_leaves_the_model_as_it_was():
    model, images = tiny_segmenter(), tiny_images(1, 64)
    before = model(images)
    with pytest.raises(UnsupportedModel, match="random_drop"), pruned(model, RandomDrop(after=(2,), keep_rate=(0.5,))):
        pass
    assert torch.equal(model(images), before)
