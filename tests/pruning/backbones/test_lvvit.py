"""LV-ViT against its forward pass written out from its weights."""

from __future__ import annotations

import pytest
import timm
import torch
from torch.nn import functional

from pruning import pruned, read_architecture
from pruning.lvvit import LVViT
from spaces import RandomDrop, UnsupportedModel
from tests.tiny import tiny_images, tiny_lvvit


def stem_by_hand(weights, images, patch):
    x = images
    for n, stride, padding in ((1, 2, 3), (2, 1, 1), (3, 1, 1)):
        x = functional.conv2d(x, weights[f"patch_embed.conv{n}.weight"], stride=stride, padding=padding)
        mean, variance, scale, shift = (
            weights[f"patch_embed.bn{n}.{name}"][:, None, None]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        x = ((x - mean) / (variance + 1e-5).sqrt() * scale + shift).clamp(min=0)
    x = functional.conv2d(x, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=patch // 2)
    return x.flatten(2).transpose(1, 2)


def by_hand(weights, images, *, depth, n_heads, patch=8, divisor=2.0):
    """Run LV-ViT as the authors publish it, from a state dict in their names."""

    def linear(x, name):
        return functional.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def norm(x, name):
        return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-5)

    def attention(x, name):
        query, key, value = linear(x, f"{name}.qkv").chunk(3, dim=-1)
        heads = [part.chunk(n_heads, dim=-1) for part in (query, key, value)]
        mixed = [(q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v for q, k, v in zip(*heads, strict=True)]
        return linear(torch.cat(mixed, dim=-1), f"{name}.proj")

    x = stem_by_hand(weights, images, patch)
    x = torch.cat([weights["cls_token"].expand(len(x), -1, -1), x], dim=1) + weights["pos_embed"]
    for n in range(depth):
        x = x + attention(norm(x, f"blocks.{n}.norm1"), f"blocks.{n}.attn") / divisor
        hidden = functional.gelu(linear(norm(x, f"blocks.{n}.norm2"), f"blocks.{n}.mlp.fc1"))
        x = x + linear(hidden, f"blocks.{n}.mlp.fc2") / divisor
    x = norm(x, "norm")
    return linear(x[:, 0], "head") + 0.5 * linear(x[:, 1:], "aux_head").max(dim=1).values


def test_it_computes_what_the_authors_publish():
    model, images = tiny_lvvit(), tiny_images()
    with torch.inference_mode():
        expected = by_hand(model.state_dict(), images, depth=4, n_heads=3)
        torch.testing.assert_close(model(images), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "millions", "expected"),
    [
        ("lvvit_s", 26.15, {"depth": 16, "dim": 384, "n_heads": 6, "mlp_dim": 1152}),
        ("lvvit_m", 55.83, {"depth": 20, "dim": 512, "n_heads": 8, "mlp_dim": 1536}),
    ],
)
def test_sizes_are_the_published_ones(name, millions, expected):
    with torch.device("meta"):
        model = timm.create_model(name)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    architecture = read_architecture(model)
    assert {key: getattr(architecture, key) for key in expected} == expected
    assert architecture.classifies_patches
    assert [each.output_size for each in architecture.stem] == [(112, 112)] * 3 + [(14, 14)]


def test_the_second_classifier_reads_only_the_patches_that_are_left():
    model, images, read = tiny_lvvit(), tiny_images(), []
    model.aux_head.register_forward_pre_hook(lambda _, x: read.append(x[0].shape[1]))
    with pruned(model, RandomDrop(after=(2,), keep_rate=(0.5,))):
        model(images)
    model(images)
    assert read == [8, 16]


def test_without_classes_it_gives_its_features():
    model = tiny_lvvit()
    features = model.forward_head(model.forward_features(tiny_images()), pre_logits=True)
    model.reset_classifier(0)
    torch.testing.assert_close(model(tiny_images()), features)
    model.reset_classifier(7)
    assert model(tiny_images()).shape == (4, 7)


def test_another_pooling_is_refused():
    with pytest.raises(UnsupportedModel, match=r"LVViT cannot be pruned: it pools with 'avg'; supported is an LV-ViT"):
        read_architecture(tiny_lvvit(global_pool="avg"))


def test_a_subclass_is_not_taken_for_it():
    class Other(LVViT):
        pass

    with pytest.raises(UnsupportedModel, match="Other"):
        read_architecture(Other(img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=3))
