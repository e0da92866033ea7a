from __future__ import annotations

import copy
import io

import pytest
import timm
import torch
from torch import nn

from pruning import prune, pruned, read_architecture
from pruning.reduction import Keep, Merge
from spaces import (
    METHODS,
    Ats,
    AttentionRank,
    Bat,
    CLSTopK,
    InvalidInput,
    RandomDrop,
    ToMe,
    UnsupportedModel,
    ZeroTPrune,
    layout_document,
)
from storage.export import write_layout
from tests.tiny import TINY_MODELS, tiny_images, tiny_vit

LAYOUTS = {
    "zero_tprune": ZeroTPrune(after=(1, 3), keep_rate=(0.7, 0.6), s=2, cls_init="uniform"),
    "cls_topk": CLSTopK(inside=(1, 3), keep_rate=(0.7, 0.6), fuse=False),
    "cls_topk, fused": CLSTopK(inside=(1, 3), keep_rate=(0.7, 0.6)),
    "attention_rank": AttentionRank(after=(1, 3), keep_rate=(0.7, 0.6)),
    "attention_rank, accumulated": AttentionRank(after=(2, 3), keep_rate=(0.7, 0.6), score="accumulated"),
    "tome": ToMe(r=3),
    "tome, by tokens": ToMe(r=(0, 5, 2), metric_feature="x", prop_attn=False),
    "random_drop": RandomDrop(after=(2,), keep_rate=(0.5,)),
    "bat": Bat(inside=(1, 3), keep_rate=(0.7, 0.6), c_num=2, p=2),
    "ats": Ats(in_attention=(1, 3), k=(17, 10)),
}
IDENTITIES = {
    # Every block gives its tokens away and takes them all back.
    "zero_tprune": ZeroTPrune(after=(1, 2, 3), keep_rate=(1.0,) * 3, s=0, cls_init="uniform"),
    "cls_topk": CLSTopK(inside=(1, 2, 3), keep_rate=(1.0,) * 3),
    "attention_rank": AttentionRank(after=(1, 2, 3), keep_rate=(1.0,) * 3, score="accumulated"),
    "tome": ToMe(r=0),
    "random_drop": RandomDrop(after=(1, 2, 3), keep_rate=(1.0,) * 3),
    "bat": Bat(inside=(1, 2, 3), keep_rate=(1.0,) * 3),
    "ats": Ats(in_attention=(), k=17),  # a layer drops tokens whatever its K: see tests/pruning/test_ats.py
}
NEED_CLASS_TOKEN = {"cls_topk", "bat", "ats"}


@pytest.fixture(params=TINY_MODELS)
def model(request):
    return TINY_MODELS[request.param]()


def test_every_method_stands_in_these_tests():
    of_segmenters = {method for method, (config, _) in METHODS.items() if config.predicts_every_patch}
    assert {layout.method for layout in LAYOUTS.values()} == set(IDENTITIES) == set(METHODS) - of_segmenters


def is_refused(model, layout) -> bool:
    """Say whether a layout needs a class token that the model does not have, and see it refused."""
    if layout.method not in NEED_CLASS_TOKEN or model.cls_token is not None:
        return False
    with pytest.raises(UnsupportedModel, match="no class token"), pruned(model, layout):
        pass
    return True


@pytest.mark.parametrize("method", IDENTITIES)
def test_pruning_nothing_changes_nothing(model, method):
    if is_refused(model, IDENTITIES[method]):
        return
    images = tiny_images()
    with torch.inference_mode():
        dense = model(images)
        with pruned(model, IDENTITIES[method]):
            torch.testing.assert_close(model(images), dense, atol=1e-5, rtol=0)


@pytest.mark.parametrize("layouts", [LAYOUTS, IDENTITIES], ids=["layouts", "identities"])
@pytest.mark.parametrize("method", sorted(NEED_CLASS_TOKEN))
def test_a_method_that_needs_a_class_token_refuses_a_model_without_one_and_names_others(method, layouts):
    model = TINY_MODELS["mean pooling"]()
    blocks = list(model.blocks)
    with pytest.raises(UnsupportedModel, match=r"no class token, .* use attention_rank, tome, random_drop, or zero_tp"):
        prune(model, layouts[method])
    assert all(one is two for one, two in zip(model.blocks, blocks, strict=True))


class KeepEverything:
    """A stage that runs and keeps all patches."""

    counts_sizes = True

    def __init__(self, block: int, where: str, *, needs_attention: bool) -> None:
        self.block, self.where, self.needs_attention = block, where, needs_attention

    def __call__(self, trace):
        everything = torch.arange(16).expand(len(trace.x), 16)
        if self.where in ("after", "in_attention"):
            return Keep(everything, n_in=16)
        return Merge(everything, torch.ones(everything.shape), n_out=16)


@pytest.mark.parametrize("where", ["after", "inside", "in_attention"])
@pytest.mark.parametrize("needs_attention", [True, False])
def test_a_stage_that_keeps_every_token_changes_nothing(model, where, needs_attention):
    """The same law where stages do run: their own attention forward, their gather, and every token kept."""
    images = tiny_images()
    with torch.inference_mode():
        dense = model(images)
        with pruned(model, LAYOUTS["zero_tprune"]):
            for index in (0, 2):
                model.blocks[index].stage = KeepEverything(index + 1, where, needs_attention=needs_attention)
            torch.testing.assert_close(model(images), dense, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", LAYOUTS)
def test_leaving_restores_the_model_bit_for_bit(model, method):
    if is_refused(model, LAYOUTS[method]):
        return
    images, blocks, weights = tiny_images(), list(model.blocks), copy.deepcopy(model.state_dict())
    with torch.inference_mode():
        dense = model(images)
        with pruned(model, LAYOUTS[method]):
            assert not torch.equal(model(images), dense)
        assert torch.equal(model(images), dense)
    assert all(one is two for one, two in zip(model.blocks, blocks, strict=True))
    assert all(torch.equal(weights[key], tensor) for key, tensor in model.state_dict().items())


def test_an_error_inside_restores_the_model_too():
    model, images = tiny_vit(), tiny_images()
    dense = model(images)
    with pytest.raises(RuntimeError, match="on the way"), pruned(model, LAYOUTS["zero_tprune"]):
        raise RuntimeError("on the way")
    assert torch.equal(model(images), dense)


@pytest.mark.parametrize("method", [name for name, layout in LAYOUTS.items() if not layout.cost_is_measured])
def test_the_blocks_see_the_tokens_that_the_closed_form_counts(model, method):
    config = LAYOUTS[method]
    if is_refused(model, config):
        return
    seen = {}
    attentions = [getattr(block, "attn", None) or block.attn_out for block in model.blocks]
    hooks = [
        attention.proj.register_forward_pre_hook(lambda _, x, n=n: seen.update({n: x[0].shape[1]}))
        for n, attention in enumerate(attentions)
    ]
    with pruned(model, config) as pruning:
        model(tiny_images())
        counted = pruning.tokens_per_block
    for hook in hooks:
        hook.remove()
    assert tuple(seen.values()) == counted == config.cost(read_architecture(model)).tokens_per_block


def test_blocks_without_a_stage_keep_fused_attention(monkeypatch):
    model = tiny_vit()
    calls = []
    fused = nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        nn.functional, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or fused(*a, **k)
    )
    with pruned(model, ZeroTPrune(after=(2,), keep_rate=(0.5,), s=0)):
        model(tiny_images())
    assert len(calls) == 3
    calls.clear()
    with pruned(model, RandomDrop(after=(2,), keep_rate=(0.5,))):
        model(tiny_images())
    assert len(calls) == 4


def test_the_trace_names_the_patches_of_the_image_that_stay():
    model, images = tiny_vit(), tiny_images()
    with pruned(model, ZeroTPrune(after=(1, 3), keep_rate=(0.7, 0.6), s=2), trace=True) as pruning:
        model(images)
        first, second = pruning.owners[1], pruning.owners[3]
    for owners, n_kept in ((first, 9), (second, 3)):  # floor(16 * 0.7) - 2, floor(9 * 0.6) - 2
        for row in owners.tolist():
            assert [token for token in row if token >= 0] == list(range(n_kept))
    assert (first[second >= 0] >= 0).all()


@pytest.mark.parametrize("method", LAYOUTS)
def test_an_image_keeps_and_merges_the_same_tokens_alone_and_in_a_batch(method):
    model, images = tiny_vit(), tiny_images(16)
    with pruned(model, LAYOUTS[method], trace=True) as pruning:
        model(images)
        together = pruning.owners
        for index in (0, 7, 15):
            pruning.owners, pruning.image_ids = {}, torch.tensor([index])
            model(images[index : index + 1])
            assert pruning.owners.keys() == together.keys()
            for block, owners in pruning.owners.items():
                assert torch.equal(owners[0], together[block][index])


def test_random_drop_keeps_the_same_tokens_of_an_image_in_any_batch():
    model, images = tiny_vit(), tiny_images(16)
    with pruned(model, RandomDrop(after=(1,), keep_rate=(0.5,), seed=5), trace=True) as pruning:
        pruning.image_ids = torch.arange(50, 66)
        model(images)
        together = pruning.owners[1]
        pruning.owners, pruning.image_ids = {}, torch.tensor([57])
        model(images[7:8])
        assert torch.equal(pruning.owners[1][0], together[7])
        assert len({tuple(row) for row in together.tolist()}) > 1


def test_image_ids_of_another_number_are_refused():
    model = tiny_vit()
    with pruned(model, RandomDrop(after=(1,), keep_rate=(0.5,))) as pruning:
        pruning.image_ids = torch.arange(3)
        with pytest.raises(InvalidInput, match="must name 4 images"):
            model(tiny_images(4))


def test_a_model_pruned_for_good_keeps_its_weights_keys_copies_and_trains():
    model, images = tiny_vit(), tiny_images()
    keys = list(model.state_dict())
    assert prune(model, LAYOUTS["zero_tprune"]) is model
    pruned_once = model(images)
    assert list(model.state_dict()) == keys
    torch.testing.assert_close(copy.deepcopy(model)(images), pruned_once)
    saved = io.BytesIO()
    torch.save(model, saved)
    saved.seek(0)
    torch.testing.assert_close(torch.load(saved, weights_only=False)(images), pruned_once)
    model.train()(images).sum().backward()
    assert model.blocks[3].mlp.fc1.weight.grad.abs().sum() > 0


def test_a_copy_of_a_pruned_model_has_weights_of_its_own():
    model, images = prune(tiny_vit(), LAYOUTS["random_drop"]), tiny_images()
    before = model(images)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    torch.testing.assert_close(model(images), before)
    assert twin(images).abs().sum() == 0


@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_a_layout_file_prunes_as_its_layout_does(tmp_path, ending):
    path, images = tmp_path / f"layout.{ending}", tiny_images()
    write_layout(layout_document(LAYOUTS["zero_tprune"]), path)
    torch.testing.assert_close(prune(tiny_vit(), path)(images), prune(tiny_vit(), LAYOUTS["zero_tprune"])(images))


def test_a_pruned_model_is_not_pruned_again():
    model = prune(tiny_vit(), LAYOUTS["random_drop"])
    with pytest.raises(InvalidInput, match="is pruned already"), pruned(model, LAYOUTS["zero_tprune"]):
        pass


def test_layers_the_model_does_not_have_are_refused_and_nothing_is_changed():
    model = tiny_vit()
    blocks = list(model.blocks)
    with pytest.raises(InvalidInput, match="has only 4 blocks"):
        prune(model, RandomDrop(after=(2, 9), keep_rate=(0.5, 0.5)))
    assert all(one is two for one, two in zip(model.blocks, blocks, strict=True))


def test_pruning_after_the_last_block_is_allowed_with_a_warning():
    model = tiny_vit()
    with pytest.warns(UserWarning, match="saves nothing but the final norm"):
        prune(model, RandomDrop(after=(4,), keep_rate=(0.5,)))
    assert model(tiny_images()).shape == (4, 5)


def test_an_attention_mask_is_refused():
    model = prune(tiny_vit(), LAYOUTS["random_drop"])
    with pytest.raises(InvalidInput, match="no attention mask"):
        model(tiny_images(), attn_mask=torch.zeros(17, 17))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet10t", "ResNet"),
        ("pit_ti_224", "PoolingVisionTransformer"),
        ("swin_tiny_patch4_window7_224", "SwinTransformer"),
        ("eva02_tiny_patch14_224", "Eva"),
        ("vit_small_r26_s32_224", "its stem is a HybridEmbed"),
        ("vit_base_patch16_siglip_224", "it pools with 'map'"),
    ],
)
def test_other_architectures_are_refused_by_name_with_what_is_supported(name, reason):
    model = timm.create_model(name, pretrained=False, num_classes=2)
    with pytest.raises(UnsupportedModel, match="supported is a timm VisionTransformer") as error:
        read_architecture(model)
    assert name in str(error.value)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"attn_layer": "diff"}, "its attention is DiffAttention"),
        ({"scale_attn_norm": True}, "it normalises inside its attention"),
        ({"scale_mlp_norm": True}, "its MLP normalises"),
        ({"norm_layer": "rmsnorm"}, "it normalises with RmsNorm"),
        ({"global_pool": "max"}, "it pools with 'max'"),
    ],
)
def test_details_that_the_closed_form_does_not_count_are_refused(arguments, reason):
    with pytest.raises(UnsupportedModel, match=reason):
        read_architecture(tiny_vit(**arguments))
