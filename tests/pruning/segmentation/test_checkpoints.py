"""Published layouts load with every key accounted for."""

from __future__ import annotations

import pytest
import torch

from pruning.checkpoints import load_weights, read_checkpoint
from pruning.segmentation.packing import PackedTokens
from spaces import InvalidInput
from tests.tiny import tiny_images
from tests.tiny_segmenter import tiny_segmenter


def mmsegmentation_encoder(encoder) -> dict[str, torch.Tensor]:
    """Write an encoder's weights as mmsegmentation has them."""
    theirs = modules("backbone.patch_embed.projection", encoder.patch_embed.proj)
    for number, block in enumerate(encoder.blocks):
        layer = f"backbone.layers.{number}"
        theirs |= modules(f"{layer}.ln1", block.norm1) | modules(f"{layer}.ln2", block.norm2)
        theirs |= {f"{layer}.attn.attn.in_proj_{part}": tensor for part, tensor in parts(block.attn.qkv)}
        theirs |= modules(f"{layer}.attn.attn.out_proj", block.attn.proj)
        theirs |= modules(f"{layer}.ffn.layers.0.0", block.mlp.fc1) | modules(f"{layer}.ffn.layers.1", block.mlp.fc2)
    return theirs | modules("backbone.ln1", encoder.norm) | positions(encoder)


def timm_encoder(encoder) -> dict[str, torch.Tensor]:
    """Write an encoder's weights under timm's names."""
    return {f"backbone.{key}": tensor for key, tensor in encoder.state_dict().items()} | positions(encoder)


def positions(encoder) -> dict[str, torch.Tensor]:
    """Published files have a class token and its position whether the model has one or not."""
    if encoder.cls_token is not None:
        return {"backbone.cls_token": encoder.cls_token, "backbone.pos_embed": encoder.pos_embed}
    of_class_token = torch.randn(1, 1, encoder.embed_dim)
    return {
        "backbone.cls_token": torch.randn(1, 1, encoder.embed_dim),
        "backbone.pos_embed": torch.cat([of_class_token, encoder.pos_embed], dim=1),
    }


def setr_head(name, head) -> dict[str, torch.Tensor]:
    """Write a naive head's weights as mmsegmentation has them: linear layers are 1x1 convolutions there."""
    return {
        **modules(f"{name}.norm", head.norm),
        f"{name}.up_convs.0.0.conv.weight": head.reduce.weight[..., None, None],
        **modules(f"{name}.up_convs.0.0.bn", head.batch_norm),
        f"{name}.conv_seg.weight": head.classify.weight[..., None, None],
        f"{name}.conv_seg.bias": head.classify.bias,
    }


def dtop_head(name, head) -> dict[str, torch.Tensor]:
    """Write an attention-to-mask head's weights as DToP's repository has them, with the buffer of its loss."""
    theirs = modules(f"{name}.input_proj", head.project) | modules(f"{name}.proj_norm", head.norm)
    theirs |= {f"{name}.q.weight": head.queries, f"{name}.loss_decode.criterion.empty_weight": torch.ones(2)}
    theirs |= modules(f"{name}.class_embed", head.shows_class)
    for number, layer in enumerate(head.layers):
        own, cross, place = layer.self_attention, layer.cross_attention, f"{name}.decoder.layers.{number}"
        for part in ("weight", "bias"):
            thirds = [getattr(linear, part) for linear in (own.query, own.key, own.value)]
            theirs[f"{place}.self_attn.in_proj_{part}"] = torch.cat(thirds)
        theirs |= modules(f"{place}.self_attn.out_proj", own.project)
        for letter, linear in (("q", cross.query), ("k", cross.key), ("v", cross.value), ("proj", cross.project)):
            theirs |= modules(f"{place}.multihead_attn.{letter}", linear)
        theirs |= modules(f"{place}.linear1", layer.fc1) | modules(f"{place}.linear2", layer.fc2)
        for norm in ("norm1", "norm2", "norm3"):
            theirs |= modules(f"{place}.{norm}", getattr(layer, norm))
    return theirs


def modules(name, module) -> dict[str, torch.Tensor]:
    return {f"{name}.{part}": tensor for part, tensor in parts(module)}


def parts(module):
    return module.state_dict().items()


def as_published(model, write_encoder) -> dict[str, torch.Tensor]:
    """Write a model's weights as the published files have them."""
    theirs = write_encoder(model.encoder)
    write_head = setr_head if model.head_kind == "fcn" else dtop_head
    for name, head in zip(("auxiliary_head.0", "auxiliary_head.1", "decode_head"), model.heads.values(), strict=True):
        theirs |= write_head(name, head)
    return {key: tensor.detach().clone() for key, tensor in theirs.items()}


@pytest.fixture(params=["fcn", "atm"])
def kind(request) -> dict[str, object]:
    return {"head": request.param} | ({"class_token": True, "final_norm": True} if request.param == "fcn" else {})


@pytest.mark.parametrize("write_encoder", [mmsegmentation_encoder, timm_encoder])
def test_a_published_layout_gives_the_same_model(kind, write_encoder, tmp_path):
    theirs, ours = tiny_segmenter(seed=1, **kind), tiny_segmenter(seed=2, **kind)
    torch.save({"state_dict": as_published(theirs, write_encoder)}, tmp_path / "published.pth")
    load_weights(ours, read_checkpoint(tmp_path / "published.pth"))
    images = tiny_images(2, 64)
    assert torch.equal(ours(images), theirs(images))
    for after in (2, 4):
        tokens = theirs.run_blocks(PackedTokens.of(theirs.embed(images)), 0, after)
        assert torch.equal(ours.read(after, tokens), theirs.read(after, tokens))


def test_a_key_too_many_and_one_too_few_are_both_named(kind, tmp_path):
    weights = as_published(tiny_segmenter(**kind), mmsegmentation_encoder)
    del weights["backbone.layers.3.ln2.bias"]
    weights["auxiliary_head.2.conv_seg.weight"] = torch.ones(2)
    torch.save(weights, tmp_path / "wrong.pth")
    with pytest.raises(
        InvalidInput, match=r"1 missing: encoder\.blocks\.3\.norm2\.bias; 1 left over: auxiliary_head\.2\."
    ):
        load_weights(tiny_segmenter(**kind), read_checkpoint(tmp_path / "wrong.pth"))


def test_our_own_layout_loads_as_it_is(kind, tmp_path):
    model, other = tiny_segmenter(seed=1, **kind), tiny_segmenter(seed=2, **kind)
    torch.save(model.state_dict(), tmp_path / "own.pth")
    load_weights(other, read_checkpoint(tmp_path / "own.pth"))
    assert torch.equal(other(tiny_images(1, 64)), model(tiny_images(1, 64)))
