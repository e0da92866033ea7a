"""Published variants of ViT, as timm names them: read right, counted right, unchanged by a layout that keeps all."""

from __future__ import annotations

import pytest
import timm
import torch

from objectives.cost import count_macs
from pruning import pruned, read_architecture
from pruning.reduction import Keep
from spaces import RandomDrop, UnsupportedModel, ZeroTPrune, dense_cost

SMALL = {"num_classes": 7, "depth": 3, "embed_dim": 48, "num_heads": 3}  # what else a name stands for stays
VARIANTS = {
    "AugReg": ("vit_tiny_patch16_224", {"img_size": 64}, {"n_prefix": 1, "pool": "token"}),
    "MAE fine-tuned": (
        "vit_base_patch16_224.mae",
        {"img_size": 64, "global_pool": "avg"},
        {"n_prefix": 1, "pool": "mean", "norms_pooled": True, "norms_final_tokens": False},
    ),
    "DeiT": ("deit_tiny_patch16_224", {"img_size": 64}, {"n_prefix": 1, "n_classifiers": 1}),
    "distilled DeiT": ("deit_tiny_distilled_patch16_224", {"img_size": 64}, {"n_prefix": 2, "n_classifiers": 2}),
    "DeiT-III": ("deit3_small_patch16_224", {"img_size": 64}, {"n_prefix": 1, "n_patch": 16}),
    "DINOv2": ("vit_small_patch14_dinov2", {"img_size": 56}, {"n_prefix": 1, "n_patch": 16}),
    "DINOv2 with registers": ("vit_small_patch14_reg4_dinov2", {"img_size": 56}, {"n_prefix": 5, "n_patch": 16}),
    "registers and no class token": (
        "vit_wee_patch16_reg1_gap_256",
        {"img_size": 64},
        {"n_prefix": 1, "has_class_token": False, "pool": "mean"},
    ),
    "query and key norm": ("vit_tiny_patch16_224", {"img_size": 64, "qk_norm": True}, {"norms_query_key": True}),
    "norm before the blocks": ("vit_xsmall_patch16_clip_224", {"img_size": 64}, {"norms_embedding": True}),
    "SWAG": ("vit_base_patch16_384", {"img_size": 64}, {"n_prefix": 1, "norms_final_tokens": True}),
}


def made(name: str, arguments: dict):
    torch.manual_seed(0)
    return timm.create_model(name, **(SMALL | arguments)).eval()


@pytest.mark.parametrize(("name", "arguments", "expected"), VARIANTS.values(), ids=VARIANTS)
def test_a_variant_is_read_and_counted_right(name, arguments, expected):
    model = made(name, arguments)
    architecture = read_architecture(model)
    assert {key: getattr(architecture, key) for key in expected} == expected
    images = torch.zeros(1, 3, *architecture.image_size)
    assert count_macs(model, images) == dense_cost(architecture).macs
    layout = RandomDrop(after=(1,), keep_rate=(0.5,))
    with pruned(model, layout):
        assert count_macs(model, images) == layout.cost(architecture).macs


class KeepEverything:
    """A stage that runs its own attention and keeps all patches."""

    where, needs_attention, counts_sizes = "after", True, True

    def __init__(self, block: int, n_patch: int) -> None:
        self.block, self.n_patch = block, n_patch

    def __call__(self, trace):
        return Keep(torch.arange(self.n_patch).expand(len(trace.x), -1), self.n_patch)


@pytest.mark.parametrize(("name", "arguments", "_"), VARIANTS.values(), ids=VARIANTS)
def test_keeping_every_token_of_a_variant_changes_nothing(name, arguments, _):
    model = made(name, arguments)
    architecture = read_architecture(model)
    images = torch.randn(2, 3, *architecture.image_size)
    with torch.inference_mode():
        dense = model(images)
        with pruned(model, ZeroTPrune(after=(1, 2), keep_rate=(0.5, 0.5), s=0, cls_init="uniform")):
            for number in (1, 2):
                model.blocks[number - 1].stage = KeepEverything(number, architecture.n_patch)
            torch.testing.assert_close(model(images), dense, atol=1e-5, rtol=0)


REFUSED = {
    "vit_base_patch16_siglip_224": "it pools with 'map'",
    "vit_small_patch16_18x2_224": "its blocks are ParallelThingsBlock, not timm's Block",
    "vit_base_patch16_rpn_224": "its blocks are ResPostBlock, not timm's Block",
    "vit_giant_patch14_reg4_dinov2": "its MLP is GluMlp, not timm's Mlp",
    "vit_dlittle_patch16_reg1_gap_256": "its attention is DiffAttention, not timm's Attention",
    "beit3_base_patch16_224": "it normalises inside its attention",
    "vit_small_patch16_rope_224": "Eva",
    "vit_relpos_small_patch16_224": "VisionTransformerRelPos",
    "vit_small_resnet26d_224": "its stem is a HybridEmbed",
}


@pytest.mark.parametrize(("name", "reason"), REFUSED.items(), ids=REFUSED)
def test_what_is_not_counted_is_refused_by_name_with_the_reason(name, reason):
    with torch.device("meta"):
        model = timm.create_model(name, depth=2)
    with pytest.raises(UnsupportedModel, match=rf"{name}.*{reason}"):
        read_architecture(model, name)
