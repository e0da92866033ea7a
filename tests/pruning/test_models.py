from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from pruning.models import load_model, model_names, read_model, weights_digest
from spaces import InvalidInput, UnsupportedModel

NAME = "vit_tiny_patch16_224"
SMALL = {"num_classes": 3, "depth": 2}


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(5)
    return timm.create_model(NAME, **SMALL).state_dict()


def saved(path: Path, weights: dict) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(weights, path)
    else:
        torch.save(weights, path)
    return path


def load(path, **changes):
    return load_model(NAME, checkpoint=path, arguments=SMALL, **changes)


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.pth"])
def test_a_checkpoint_is_loaded_into_the_model(tmp_path, weights, file):
    loaded = load(saved(tmp_path / file, weights))
    assert all(torch.equal(weights[key], tensor) for key, tensor in loaded.model.state_dict().items())
    assert not loaded.model.training
    assert loaded.architecture.n_classes == 3


@pytest.mark.parametrize("wrapping", ["model", "state_dict"])
def test_weights_are_found_inside_a_training_checkpoint(tmp_path, weights, wrapping):
    path = saved(tmp_path / "old.pth", {wrapping: weights, "args": argparse.Namespace(lr=0.1), "epoch": 3})
    assert load(path).weights_digest == load(saved(tmp_path / "plain.pth", weights)).weights_digest


def test_equal_weights_have_equal_digests_and_others_do_not(weights):
    model = timm.create_model(NAME, **SMALL)
    before = weights_digest(model)
    assert before == weights_digest(model)
    with torch.no_grad():
        model.cls_token.add_(1e-6)
    assert weights_digest(model) != before


def test_missing_left_over_and_misshapen_keys_are_listed(tmp_path, weights):
    changed = dict(weights)
    del changed["blocks.0.norm1.weight"]
    changed["extra.weight"] = torch.zeros(1)
    changed["blocks.1.mlp.fc1.weight"] = torch.zeros(2, 2)
    with pytest.raises(InvalidInput) as error:
        load(saved(tmp_path / "bad.safetensors", changed))
    message = str(error.value)
    assert "1 missing: blocks.0.norm1.weight" in message
    assert "1 left over: extra.weight" in message
    assert "blocks.1.mlp.fc1.weight ((2, 2), not (768, 192))" in message
    assert "\n" not in message


def test_a_classifier_of_another_size_names_the_option(tmp_path, weights):
    path = saved(tmp_path / "three.safetensors", weights)
    with pytest.raises(InvalidInput, match="set --num-classes to the checkpoint's"):
        load_model(NAME, checkpoint=path, arguments={"depth": 2})


def test_a_checkpoint_for_another_image_size_is_refused(tmp_path, weights):
    path = saved(tmp_path / "224.safetensors", weights)
    with pytest.raises(InvalidInput, match="is for another image size"):
        load_model(NAME, checkpoint=path, arguments=SMALL | {"img_size": 96})


class Malicious:
    def __reduce__(self):
        return os.system, ("touch /tmp/prunefront-was-here",)


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path, weights):
    marker = Path("/tmp/prunefront-was-here")
    marker.unlink(missing_ok=True)
    path = saved(tmp_path / "evil.pth", {"model": weights, "payload": Malicious()})
    with pytest.raises(InvalidInput, match="holds pickled objects other than tensors"):
        load(path)
    assert not marker.exists()


@pytest.mark.parametrize("file", ["noise.pth", "noise.safetensors"])
def test_a_damaged_file_is_named(tmp_path, file):
    path = tmp_path / file
    path.write_bytes(os.urandom(200))
    with pytest.raises(InvalidInput, match=r"is no readable \.safetensors or \.pth file") as error:
        load(path)
    assert file in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_without_weights_is_refused(tmp_path):
    torch.save([1, 2, 3], tmp_path / "list.pth")
    with pytest.raises(InvalidInput, match=r"list\.pth"):
        load(tmp_path / "list.pth")


def test_a_missing_checkpoint_is_named():
    with pytest.raises(InvalidInput, match=r"there is no checkpoint file nowhere\.pth"):
        load("nowhere.pth")


def test_a_model_without_weights_is_refused_with_both_remedies():
    with pytest.raises(InvalidInput, match=r"--checkpoint FILE.*--pretrained"):
        load_model(NAME)


@pytest.mark.parametrize(
    ("name", "nearest"), [("deit_smal_patch16_224", "deit_small_patch16_224"), ("shapes_vit", "shapes_vit_small")]
)
def test_an_unknown_name_gives_the_nearest(name, nearest):
    with pytest.raises(InvalidInput, match=f"there is no model '{name}'; the nearest names are .*{nearest}"):
        load_model(name, random_weights=True)


def test_an_unknown_tag_gives_those_there_are():
    with pytest.raises(InvalidInput, match=r"no weights tagged .mine.; there are .*fb_in1k"):
        load_model("deit_small_patch16_224.mine", random_weights=True)


def test_an_unsupported_architecture_is_refused_by_name():
    with pytest.raises(UnsupportedModel, match="resnet10t"):
        load_model("resnet10t", random_weights=True)


def test_wrong_constructor_arguments_are_one_line():
    with pytest.raises(InvalidInput, match="cannot create vit_tiny_patch16_224") as error:
        load_model(NAME, random_weights=True, arguments={"embed_dim": 10})
    assert "\n" not in str(error.value)


def test_a_local_folder_is_loaded_with_its_weights(tmp_path, weights):
    config = {"architecture": NAME, "model_args": SMALL, "num_classes": 3, "pretrained_cfg": {"num_classes": 3}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    saved(tmp_path / "model.safetensors", weights)
    loaded = load_model(f"local-dir:{tmp_path}")
    assert torch.equal(loaded.model.cls_token, weights["cls_token"])


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"must be a folder with config\.json"):
        load_model(f"local-dir:{tmp_path}")


def test_preprocessing_is_timms_at_the_models_size():
    loaded = load_model("deit_small_patch16_224", random_weights=True, arguments={"img_size": 96})
    assert loaded.preprocessing.input_size == (3, 96, 96)
    assert (loaded.preprocessing.interpolation, loaded.preprocessing.crop_pct) == ("bicubic", 0.9)


def test_preprocessing_can_be_set_and_is_checked():
    changed = load_model(NAME, random_weights=True, preprocessing={"mean": (0.1, 0.2, 0.3), "crop_pct": 1.0})
    assert changed.preprocessing.mean == (0.1, 0.2, 0.3)
    with pytest.raises(InvalidInput, match="interpolation"):
        load_model(NAME, random_weights=True, preprocessing={"interpolation": "sharp"})


@pytest.mark.parametrize("argument", [{"num_classes": 7}, {"img_size": 64}])
def test_a_models_own_weights_are_not_altered_to_fit(argument):
    with pytest.raises(InvalidInput, match=r"the weights of shapes_vit_small are for .*leave --"):
        load_model("shapes_vit_small", arguments=argument)
    load_model("shapes_vit_small", arguments={"num_classes": 10, "img_size": 96})


def test_a_folder_of_another_librarys_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["ViTForImageClassification"]}')
    with pytest.raises(InvalidInput, match=r"config\.json is not timm's"):
        load_model(f"local-dir:{tmp_path}")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("tnt_*", {"tnt_b_patch16_224": "TNT", "tnt_s_legacy_patch16_224": "TNT", "tnt_s_patch16_224": "TNT"}),
        ("lvvit_?", {"lvvit_m": "LV-ViT", "lvvit_s": "LV-ViT"}),
        ("shapes_*", {"shapes_seg_small": "segmenter", "shapes_vit_small": "ViT"}),
        ("deit3_small_patch16_384", {"deit3_small_patch16_384": "ViT"}),
        (
            "vit_[bls]*_patch14_reg4_dinov2",
            dict.fromkeys(
                ["vit_base_patch14_reg4_dinov2", "vit_large_patch14_reg4_dinov2", "vit_small_patch14_reg4_dinov2"],
                "ViT",
            ),
        ),
    ],
)
def test_models_that_can_be_pruned_are_found_by_pattern(pattern, found):
    assert {name: read_model(name)[0] for name in model_names(pattern)} == found


def test_a_model_that_cannot_be_pruned_is_read_as_such_and_an_unknown_pattern_names_the_nearest():
    assert "resnet18" in model_names("resnet1*")
    with pytest.raises(UnsupportedModel, match="resnet18"):
        read_model("resnet18")
    with pytest.raises(InvalidInput, match="no model is named like 'deit_tny\\*'; the nearest names are deit_tiny"):
        model_names("deit_tny*")


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "tnt_s_patch16_224", "lvvit_s"])
def test_a_listed_model_is_loaded_under_its_name(name):
    assert model_names(name) == [name]
    assert load_model(name, random_weights=True, arguments={"depth": 1}).architecture.name == name
