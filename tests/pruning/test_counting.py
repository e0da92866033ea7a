"""Two counters agree with the closed form: fvcore, and the operations as they are dispatched."""

from __future__ import annotations

import pytest
import timm
import torch
from fvcore.nn import FlopCountAnalysis

from objectives.cost import count_macs
from pruning import pruned, read_architecture
from spaces import RandomDrop, ZeroTPrune, dense_cost
from tests.spaces.test_zero_tprune import PAPER_X, PAPER_Y, ROWS
from tests.tiny import tiny_images, tiny_vit

MODELS = {
    "ViT": {},
    "distilled DeiT": {"distilled": True},
    "mean pooling": {"global_pool": "avg", "class_token": False},
    "registers": {"reg_tokens": 2},
    "query and key norm": {"qk_norm": True},
    "norm before the blocks": {"pre_norm": True},
    "no classifier": {"num_classes": 0},
    "no final norm": {"final_norm": False},
    "oblong": {"img_size": (32, 48), "patch_size": (8, 16), "in_chans": 1},
}
LAYOUTS = [
    ZeroTPrune(after=(1, 3), keep_rate=(0.7, 0.6), s=2, cls_init="uniform"),
    ZeroTPrune(after=(1, 3), keep_rate=(0.7, 0.6), s=2, cls_init="uniform", order="I-S", iterations=3),
    ZeroTPrune(after=(1, 2), keep_rate=(1, 0.6), s=(3, 0), cls_init="uniform", partition="none", feature="x"),
    ZeroTPrune(after=(1, 2), keep_rate=(0.8, 1), s=(0, 3), cls_init="uniform", similarity="minkowski2"),
    ZeroTPrune(after=(2,), keep_rate=(1,), s=3, cls_init="uniform", order="I-S", iterations=2),
    RandomDrop(after=(2,), keep_rate=(0.5,)),
]


def fvcore_macs(model: torch.nn.Module, images: torch.Tensor) -> int:
    analysis = FlopCountAnalysis(model, images)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    return int(analysis.total())


def unfused(model):
    """Let fvcore see the attention: it does not count the fused one."""
    for block in model.blocks:
        block.attn.fused_attn = False
    return model


@pytest.mark.parametrize("arguments", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("layout", [None, *LAYOUTS], ids=["dense", *map(str, range(len(LAYOUTS)))])
def test_closed_form_fvcore_and_dispatcher_count_the_same(arguments, layout):
    model = tiny_vit(**arguments)
    architecture = read_architecture(model)
    images = torch.randn(1, architecture.in_channels, *architecture.image_size)
    if layout is None:
        expected = dense_cost(architecture).macs
        assert count_macs(model, images) == expected == fvcore_macs(unfused(model), images)
        return
    expected = layout.cost(architecture).macs
    with pruned(model, layout):
        assert count_macs(model, images) == expected
    with pruned(unfused(model), layout):
        assert fvcore_macs(model, images) == expected


@pytest.mark.parametrize("row", ["Z1", "X floor", "X round", "Y floor", "Y round", "Table 7", "budget a", "budget b"])
def test_the_published_layouts_cost_on_timms_deit_what_the_closed_form_says(row):
    model = unfused(timm.create_model("deit_small_patch16_224"))
    layout = ZeroTPrune(**ROWS[row][0])
    images = torch.zeros(1, 3, 224, 224)
    with pruned(model.eval(), layout):
        assert fvcore_macs(model, images) == layout.cost(read_architecture(model)).macs


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("deit_tiny_patch16_224", 1_258_411_200),
        ("deit_small_distilled_patch16_224", 4_633_644_288),
        ("deit_base_patch16_224", 17_582_740_224),
    ],
)
def test_timms_models_read_as_what_the_closed_form_counts(name, macs):
    architecture = read_architecture(timm.create_model(name))
    assert architecture.name == name
    assert dense_cost(architecture).macs == macs


def test_the_count_is_of_one_image_whatever_the_batch():
    model = tiny_vit()
    assert count_macs(model, tiny_images(3)) == count_macs(model, tiny_images(1))


def test_both_readings_of_the_papers_layouts_are_close_to_its_gflops():
    for layout in (PAPER_X, PAPER_Y):
        architecture = read_architecture(timm.create_model("deit_small_patch16_224"))
        assert ZeroTPrune(**layout).cost(architecture).model_macs / 1e9 == pytest.approx(3.08, abs=0.02)
