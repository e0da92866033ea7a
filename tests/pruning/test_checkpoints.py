"""Files in the layouts of other projects: loaded, they compute what the model they come from computes."""

from __future__ import annotations

import argparse
import re
import types

import pytest
import torch
import torchvision
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch.nn import functional

from pruning import pruned
from pruning.models import load_model
from spaces import InvalidInput, ZeroTPrune
from tests.pruning.backbones.test_lvvit import by_hand
from tests.tiny import tiny_images, tiny_lvvit, tiny_tnt, tiny_vit

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 3, "mlp_ratio": 2, "num_classes": 5}
TNT = {k: v for k, v in VIT.items() if k != "num_heads"} | {
    "inner_dim": 6,
    "num_heads_inner": 2,
    "num_heads_outer": 3,
}
NAME = "vit_tiny_patch16_224"


def load(tmp_path, document, name=NAME, arguments=VIT, **changes):
    path = tmp_path / "foreign.pth"
    torch.save(document, path)
    return load_model(name, checkpoint=path, arguments=arguments, **changes)


def torchvision_vit(**changes):
    torch.manual_seed(0)
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 4, "num_heads": 3, "hidden_dim": 24, "mlp_dim": 48}
    model = torchvision.models.VisionTransformer(**sizes, num_classes=5, **changes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def with_old_mlp_names(weights):
    new = {"0": "linear_1", "3": "linear_2"}
    return {re.sub(r"\.mlp\.([03])\.", lambda m: f".mlp.{new[m[1]]}.", key): value for key, value in weights.items()}


@pytest.mark.parametrize("renamed", [dict, with_old_mlp_names], ids=["torchvision now", "first torchvision"])
def test_torchvisions_layout_of_swag_computes_what_torchvision_does(tmp_path, renamed):
    source, images = torchvision_vit(), tiny_images()
    loaded = load(tmp_path, renamed(source.state_dict()))
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(images), source(images), atol=1e-5, rtol=1e-5)
    assert (loaded.preprocessing.mean, loaded.preprocessing.std) == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)


def test_what_is_said_of_the_preprocessing_stands_over_what_the_layout_says(tmp_path):
    loaded = load(tmp_path, torchvision_vit().state_dict(), preprocessing={"mean": (0.1, 0.2, 0.3)})
    assert loaded.preprocessing.mean == (0.1, 0.2, 0.3)
    assert loaded.preprocessing.std == IMAGENET_DEFAULT_STD


def test_every_key_of_the_real_torchvision_vit_has_a_place(tmp_path):
    with torch.device("meta"):
        weights = torchvision.models.vit_b_16(image_size=384).state_dict()
    weights = {key: torch.empty(tensor.shape) for key, tensor in weights.items()}
    load(tmp_path, weights, "vit_base_patch16_384", {})


def test_a_hidden_layer_before_the_classifier_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"has a hidden layer before its classifier \(heads.pre_logits.weight\)"):
        load(tmp_path, torchvision_vit(representation_size=9).state_dict())


def test_torchvisions_weights_for_another_image_size_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"another image size: its pos_embed is \(1, 17, 24\), the model's \(1, 65"):
        load(tmp_path, torchvision_vit().state_dict(), arguments=VIT | {"img_size": 64})


def test_weights_for_another_patch_size_are_refused(tmp_path):
    weights = tiny_vit().state_dict()
    with pytest.raises(InvalidInput, match=r"another patch size: its patch_embed.proj.weight is \(24, 3, 8, 8\)"):
        load(tmp_path, weights, arguments=VIT | {"img_size": 64, "patch_size": 16})


def mae_by_hand(model, images):
    """Classify as MAE's fine-tuning does: blocks, mean over the patches, norm, linear."""
    x = model.patch_embed(images)
    x = torch.cat([model.cls_token.expand(len(x), -1, -1), x], dim=1) + model.pos_embed
    for block in model.blocks:
        x = block(x)
    x = functional.layer_norm(x[:, 1:].mean(dim=1), (24,), model.fc_norm.weight, model.fc_norm.bias, eps=1e-6)
    return model.head(x)


def test_a_file_of_mae_fine_tuning_builds_the_model_with_mean_pooling(tmp_path):
    source, images = tiny_vit(global_pool="avg"), tiny_images()
    assert "fc_norm.weight" in source.state_dict()
    loaded = load(tmp_path, {"model": source.state_dict()})
    assert loaded.architecture.pool == "mean"
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(images), mae_by_hand(source, images), atol=1e-5, rtol=1e-5)


def test_a_file_of_mean_pooling_does_not_fit_a_class_token_that_is_asked_for(tmp_path):
    with pytest.raises(InvalidInput, match=r"2 missing: norm.weight, norm.bias; 2 left over: fc_norm.weight"):
        load(tmp_path, tiny_vit(global_pool="avg").state_dict(), arguments=VIT | {"global_pool": "token"})


def test_an_old_file_of_deit_with_its_arguments_beside_the_weights_is_loaded(tmp_path):
    source, images, before = tiny_vit(), tiny_images(), set(torch.serialization.get_safe_globals())
    document = {"model": source.state_dict(), "args": argparse.Namespace(lr=1e-3, model="deit"), "epoch": 299}
    loaded = load(tmp_path, document)
    with torch.inference_mode():
        assert torch.equal(loaded.model(images), source(images))
    assert set(torch.serialization.get_safe_globals()) == before  # torch gives them in any order


def test_no_other_pickled_object_is_loaded(tmp_path):
    with pytest.raises(InvalidInput, match="holds pickled objects other than tensors"):
        load(tmp_path, {"model": tiny_vit().state_dict(), "args": types.SimpleNamespace(lr=1e-3)})


def test_the_layer_scales_of_deit_iii_find_their_names(tmp_path):
    source, images = tiny_vit(init_values=1e-1, no_embed_class=True), tiny_images()
    theirs = {re.sub(r"ls(\d)\.gamma", r"gamma_\1", key): value for key, value in source.state_dict().items()}
    assert "blocks.0.gamma_1" in theirs
    loaded = load(tmp_path, {"model": theirs}, arguments=VIT | {"init_values": 1e-6, "no_embed_class": True})
    with torch.inference_mode():
        assert torch.equal(loaded.model(images), source(images))


@pytest.mark.parametrize("wrapping", ["{}", "state_dict", "module."])
def test_lvvits_published_layout_is_loaded_as_it_is(tmp_path, wrapping):
    source, images = tiny_lvvit(), tiny_images()
    weights = source.state_dict()
    document = {
        "{}": weights,
        "state_dict": {"state_dict": weights},
        "module.": {f"module.{key}": value for key, value in weights.items()},
    }[wrapping]
    loaded = load(tmp_path, document, "lvvit_s")
    with torch.inference_mode():
        expected = by_hand(weights, images, depth=4, n_heads=3)
        torch.testing.assert_close(loaded.model(images), expected, atol=1e-4, rtol=1e-5)
        with pruned(loaded.model, ZeroTPrune(after=(1,), keep_rate=(0.5,))):
            assert loaded.model(images).shape == expected.shape


LVVIT_KEYS = """
    cls_token pos_embed norm.weight norm.bias head.weight head.bias aux_head.weight aux_head.bias
    patch_embed.proj.weight patch_embed.proj.bias
"""
LVVIT_STEM_KEYS = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
LVVIT_BLOCK_KEYS = """
    norm1.weight norm1.bias attn.qkv.weight attn.proj.weight attn.proj.bias
    norm2.weight norm2.bias mlp.fc1.weight mlp.fc1.bias mlp.fc2.weight mlp.fc2.bias
"""


def test_lvvits_keys_are_those_of_the_authors_repository():
    expected = set(LVVIT_KEYS.split())
    expected |= {f"patch_embed.conv{n}.weight" for n in (1, 2, 3)}
    expected |= {f"patch_embed.bn{n}.{key}" for n in (1, 2, 3) for key in LVVIT_STEM_KEYS}
    expected |= {f"blocks.{n}.{key}" for n in range(4) for key in LVVIT_BLOCK_KEYS.split()}
    assert set(tiny_lvvit().state_dict()) == expected


def test_an_lvvit_without_its_second_classifier_is_named(tmp_path):
    weights = {key: value for key, value in tiny_lvvit().state_dict().items() if not key.startswith("aux_head")}
    with pytest.raises(InvalidInput, match=r"does not fit LVViT: 2 missing: aux_head.weight, aux_head.bias$"):
        load(tmp_path, weights, "lvvit_s")


def in_the_authors_names(weights):
    """Turn timm's names of a TNT into those of its authors' release."""
    names = {
        "patch_pos": "outer_pos",
        "pixel_pos": "inner_pos",
        "pixel_embed": "patch_embed",
        "norm1_proj": "proj_norm1",
        "norm2_proj": "proj_norm2",
        "norm_in": "inner_norm1",
        "attn_in": "inner_attn",
        "norm_mlp_in": "inner_norm2",
        "mlp_in": "inner_mlp",
        "norm_out": "outer_norm1",
        "attn_out": "outer_attn",
        "norm_mlp": "outer_norm2",
        "mlp": "outer_mlp",
    }
    renamed = {}
    for key, value in weights.items():
        theirs = ".".join(names.get(part, part) for part in key.split("."))
        renamed[theirs] = value.flatten(2).mT if key == "pixel_pos" else value
    return renamed


@pytest.mark.parametrize("renamed", [dict, in_the_authors_names], ids=["timm", "authors"])
def test_a_tnt_is_loaded_from_either_layout(tmp_path, renamed):
    source, images = tiny_tnt(), tiny_images()
    loaded = load(tmp_path, renamed(source.state_dict()), "tnt_s_patch16_224", TNT)
    with torch.inference_mode():
        assert torch.equal(loaded.model(images), source(images))


@pytest.mark.parametrize("renamed", [dict, in_the_authors_names], ids=["timm", "authors"])
def test_a_tnt_for_another_image_size_is_refused(tmp_path, renamed):
    with pytest.raises(InvalidInput, match=r"another image size: its (patch|outer)_pos is \(1, 17, 24\)"):
        load(tmp_path, renamed(tiny_tnt().state_dict()), "tnt_s_patch16_224", TNT | {"img_size": 64})


def test_keys_without_a_place_and_places_without_a_key_are_listed(tmp_path):
    weights = dict(torchvision_vit().state_dict())
    del weights["encoder.ln.bias"]
    weights["encoder.layers.encoder_layer_1.gate.weight"] = torch.zeros(1)
    with pytest.raises(InvalidInput, match=r"1 missing: norm.bias; 1 left over: blocks.1.gate.weight$"):
        load(tmp_path, weights)
