"""Attention within each image of a row of tokens."""

from __future__ import annotations

import pytest
import torch
from timm.layers import Attention

from pruning.segmentation.packing import PackedTokens, attend_jagged, attend_one_by_one, run_block
from tests.tiny import tiny_vit

LENGTHS = (5, 1, 0, 9, 5)


@pytest.fixture
def packed() -> PackedTokens:
    generator = torch.Generator().manual_seed(3)
    return PackedTokens(torch.randn(sum(LENGTHS), 24, generator=generator), LENGTHS)


@pytest.mark.parametrize("kind", ["plain", "query and key norm", "layer scale"])
def test_a_packed_block_gives_each_image_what_it_gives_it_alone(kind, packed):
    arguments = {"plain": {}, "query and key norm": {"qk_norm": True}, "layer scale": {"init_values": 0.5}}
    block = tiny_vit(**arguments[kind]).blocks[1]
    alone = torch.cat([block(image[None])[0] for image in packed.split()])
    torch.testing.assert_close(run_block(block, packed).values, alone, rtol=1e-5, atol=1e-5)


def test_images_of_equal_length_are_run_as_a_batch():
    block, tokens = tiny_vit().blocks[0], torch.randn(3, 7, 24)
    assert torch.equal(run_block(block, PackedTokens.of(tokens)).rectangle(), block(tokens))


@pytest.mark.parametrize(
    ("attend", "device"),
    [
        (attend_one_by_one, "cpu"),
        pytest.param(
            attend_jagged,
            "cuda",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="torch has no jagged attention on a CPU"),
        ),
    ],
)
def test_each_image_attends_to_itself_alone(attend, device, packed):
    attention = Attention(24, num_heads=3, qkv_bias=True).eval().to(device)
    query, key, value = attention.qkv(packed.values.to(device)).detach().unflatten(1, (3, 3, 8)).unbind(1)
    mixed = attend(query, key, value, LENGTHS, attention.scale)
    start = 0
    for length in LENGTHS:
        own = slice(start, start + length)
        logits = torch.einsum("qhd,khd->hqk", query[own], key[own]) * attention.scale
        expected = torch.einsum("hqk,khd->qhd", logits.softmax(-1), value[own])
        torch.testing.assert_close(mixed[own], expected, rtol=1e-5, atol=1e-5)
        start += length
