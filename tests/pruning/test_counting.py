"""Two counters agree with the closed form: fvcore, and the operations as they are dispatched."""

from __future__ import annotations

from functools import partial

import pytest
import timm
import torch
from fvcore.nn import FlopCountAnalysis

from objectives.cost import count_macs
from pruning import pruned, read_architecture
from pruning.reduction import Keep
from spaces import (
    Ats,
    AttentionRank,
    Bat,
    CLSTopK,
    RandomDrop,
    StageCost,
    ToMe,
    UnsupportedModel,
    ZeroTPrune,
    cost_of,
    dense_cost,
)
from tests.spaces.test_zero_tprune import PAPER_X, PAPER_Y, ROWS
from tests.tiny import TINY_MODELS, tiny_images, tiny_lvvit, tiny_tnt, tiny_vit

MODELS = TINY_MODELS | {
    "no classifier": partial(tiny_vit, num_classes=0),
    "no final norm": partial(tiny_vit, final_norm=False),
    "oblong": partial(tiny_vit, img_size=(32, 48), patch_size=(8, 16), in_chans=1),
    "TNT, no classifier": partial(tiny_tnt, num_classes=0),
    "TNT, oblong": partial(tiny_tnt, img_size=(32, 48), patch_size=(8, 16), in_chans=1, first_stride=3),
    "legacy TNT, oblong": partial(tiny_tnt, img_size=(32, 48), patch_size=(8, 16), in_chans=1, legacy=True),
    "LV-ViT, no classifier": partial(tiny_lvvit, num_classes=0),
    "LV-ViT, oblong": partial(tiny_lvvit, img_size=(32, 48), patch_size=(8, 16), in_chans=1),
}
LAYOUTS = [
    ZeroTPrune(after=(1, 3), keep_rate=(0.7, 0.6), s=2, cls_init="uniform"),
    ZeroTPrune(after=(1, 3), keep_rate=(0.7, 0.6), s=2, cls_init="uniform", order="I-S", iterations=3),
    ZeroTPrune(after=(1, 2), keep_rate=(1, 0.6), s=(3, 0), cls_init="uniform", partition="none", feature="x"),
    ZeroTPrune(after=(1, 2), keep_rate=(0.8, 1), s=(0, 3), cls_init="uniform", similarity="minkowski2"),
    ZeroTPrune(after=(2,), keep_rate=(1,), s=3, cls_init="uniform", order="I-S", iterations=2),
    CLSTopK(inside=(1, 4), keep_rate=(0.7, 0.6), query="prefix", head_reduce="max"),
    CLSTopK(inside=(2, 3), keep_rate=(0.7, 0.6), fuse=False),
    AttentionRank(after=(1, 3), keep_rate=(0.7, 0.6)),
    AttentionRank(after=(3,), keep_rate=(0.6,), score="accumulated"),
    ToMe(r=3),
    ToMe(r=2, start_block=3, metric_feature="query"),
    ToMe(r=(2, 0, 9), metric_feature="x", prop_attn=False),
    RandomDrop(after=(2,), keep_rate=(0.5,)),
    Bat(inside=(1, 3), keep_rate=(0.7, 0.6), c_num=2, p=3),
    Bat(inside=(2, 4), keep_rate=(0.5, 0.5), match="greedy", density="gauss", c_num=(3, 1), p=(2, 1)),
    Bat(inside=(1, 2), keep_rate=(0.6, 0.6), c_num=(0, 3), p=(2, 0)),
    Bat(inside=(1, 4), keep_rate=(0.5, 0.5), c_num=0, p=0, merge_norm=False),
]
NEED_CLASS_TOKEN = (Bat, CLSTopK)


def fvcore_macs(model: torch.nn.Module, images: torch.Tensor) -> int:
    analysis = FlopCountAnalysis(model, images)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    return int(analysis.total())


def unfused(model):
    """Let fvcore see the attention: it does not count the fused one."""
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    return model


@pytest.mark.parametrize("made", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("layout", [None, *LAYOUTS], ids=["dense", *map(str, range(len(LAYOUTS)))])
def test_closed_form_fvcore_and_dispatcher_count_the_same(made, layout):
    model = made()
    architecture = read_architecture(model)
    images = torch.randn(1, architecture.in_channels, *architecture.image_size)
    if layout is None:
        expected = dense_cost(architecture).macs
        assert count_macs(model, images) == expected == fvcore_macs(unfused(model), images)
        return
    if isinstance(layout, NEED_CLASS_TOKEN) and not architecture.has_class_token:
        with pytest.raises(UnsupportedModel, match="no class token"):
            layout.cost(architecture)
        return
    expected = layout.cost(architecture).macs
    with pruned(model, layout):
        assert count_macs(model, images) == expected
    with pruned(unfused(model), layout):
        assert fvcore_macs(model, images) == expected


@pytest.mark.parametrize("made", MODELS.values(), ids=MODELS)
def test_an_image_alone_costs_what_the_closed_form_says_of_the_tokens_that_it_kept(made):
    model = unfused(made())
    architecture = read_architecture(model)
    layout = Ats(in_attention=(1, 2, 4), k=(13, 11, 9))
    if not architecture.has_class_token:
        with pytest.raises(UnsupportedModel, match="no class token"):
            layout.cost(architecture)
        return
    for seed in range(3):
        images = torch.randn(1, architecture.in_channels, *architecture.image_size, generator=seeded(seed))
        with pruned(model, layout) as pruning:
            counted = count_macs(model, images)
            n_kept = [int(pruning.n_kept[block]) for block in layout.in_attention]
            assert fvcore_macs(model, images) == counted
        assert counted == layout.cost_of_image(architecture, n_kept).macs
        assert layout.least_cost(architecture).macs <= counted <= layout.cost(architecture).macs


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class HalfGoes:
    """A stage that keeps every other patch."""

    needs_attention = counts_sizes = False

    def __init__(self, block: int, where: str) -> None:
        self.block, self.where = block, where

    def __call__(self, trace):
        n_in = trace.x.shape[1] - trace.passage.n_prefix
        return Keep(torch.arange(0, n_in, 2).expand(len(trace.x), -1), n_in)


@pytest.mark.parametrize("where", ["after", "inside", "in_attention"])
@pytest.mark.parametrize("made", MODELS.values(), ids=MODELS)
def test_a_layer_at_any_place_costs_what_the_closed_form_says(made, where):
    model = unfused(made())
    architecture = read_architecture(model)
    n_patch = architecture.n_patch
    plans = [StageCost(1, n_patch, n_patch // 2, where=where), StageCost(3, n_patch // 2, n_patch // 4, where=where)]
    images = torch.randn(1, architecture.in_channels, *architecture.image_size)
    with pruned(model, RandomDrop(after=(1, 3), keep_rate=(0.5, 0.5))):
        for plan in plans:
            model.blocks[plan.block - 1].stage = HalfGoes(plan.block, where)
        expected = cost_of(architecture, plans).macs
        assert count_macs(model, images) == expected == fvcore_macs(model, images)


@pytest.mark.parametrize("row", ["Z1", "X floor", "X round", "Y floor", "Y round", "Table 7", "budget a", "budget b"])
def test_the_published_layouts_cost_on_timms_deit_what_the_closed_form_says(row):
    model = unfused(timm.create_model("deit_small_patch16_224"))
    layout = ZeroTPrune(**ROWS[row][0])
    images = torch.zeros(1, 3, 224, 224)
    with pruned(model.eval(), layout):
        assert fvcore_macs(model, images) == layout.cost(read_architecture(model)).macs


@pytest.mark.parametrize("settings", [{}, {"match": "greedy", "density": "gauss"}], ids=["defaults", "greedy, gauss"])
def test_bat_at_the_papers_layers_costs_on_timms_deit_what_the_closed_form_says(settings):
    """With more than 25 tokens to compare, where torch computes distances in another way."""
    model = unfused(timm.create_model("deit_small_patch16_224")).eval()
    layout = Bat(inside=(4, 7, 10), keep_rate=(0.7,) * 3, **settings)
    images = torch.zeros(1, 3, 224, 224)
    with pruned(model, layout):
        expected = layout.cost(read_architecture(model)).macs
        assert count_macs(model, images) == expected == fvcore_macs(model, images)


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("deit_tiny_patch16_224", 1_258_411_200),
        ("deit_small_distilled_patch16_224", 4_633_644_288),
        ("deit_base_patch16_224", 17_582_740_224),
        ("tnt_s_patch16_224", 5_245_147_008),
        ("tnt_s_legacy_patch16_224", 5_240_631_168),
        ("tnt_b_patch16_224", 14_096_202_880),
        ("lvvit_s", 6_568_784_256),  # published: 6.6
        ("lvvit_m", 12_703_539_712),  # published: 12.7
    ],
)
def test_real_models_read_as_what_the_closed_form_counts(name, macs):
    with torch.device("meta"):
        model = timm.create_model(name)
    architecture = read_architecture(model)
    assert architecture.name == name
    assert dense_cost(architecture).macs == macs


@pytest.mark.parametrize("name", ["tnt_s_patch16_224", "tnt_s_legacy_patch16_224", "lvvit_s"])
def test_a_pruned_model_of_another_family_costs_what_the_closed_form_says(name):
    model = unfused(timm.create_model(name)).eval()
    layout = ZeroTPrune(after=(3, 6, 9), keep_rate=(0.9, 0.8, 0.7))
    images = torch.zeros(1, 3, 224, 224)
    with pruned(model, layout):
        assert count_macs(model, images) == fvcore_macs(model, images) == layout.cost(read_architecture(model)).macs


def test_the_count_is_of_one_image_whatever_the_batch():
    model = tiny_vit()
    assert count_macs(model, tiny_images(3)) == count_macs(model, tiny_images(1))


def test_both_readings_of_the_papers_layouts_are_close_to_its_gflops():
    for layout in (PAPER_X, PAPER_Y):
        architecture = read_architecture(timm.create_model("deit_small_patch16_224"))
        assert ZeroTPrune(**layout).cost(architecture).model_macs / 1e9 == pytest.approx(3.08, abs=0.02)
