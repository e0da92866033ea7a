from __future__ import annotations

import pytest
import torch
from timm.layers import Attention
from torch import nn

from pruning.attention import attend

VARIANTS = {
    "plain": {},
    "qkv bias": {"qkv_bias": True},
    "query and key norm": {"qk_norm": True, "norm_layer": nn.LayerNorm},
    "norm before projection": {"scale_norm": True, "norm_layer": nn.LayerNorm},
    "gated": {"gated": True},
    "wide heads": {"attn_head_dim": 10},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("fused", [True, False])
def test_the_open_forward_is_the_modules_own(variant, fused):
    attention = Attention(24, num_heads=3, **VARIANTS[variant]).eval()
    attention.fused_attn = fused
    x = torch.randn(2, 17, 24)
    out, maps = attend(attention, x)
    torch.testing.assert_close(out, attention(x))
    assert maps.weights.shape == (2, 3, 17, 17)
    torch.testing.assert_close(maps.weights.sum(-1), torch.ones(2, 3, 17))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("biased", [True, False])
def test_without_its_matrix_attention_gives_the_same(variant, biased):
    attention = Attention(24, num_heads=3, **VARIANTS[variant]).eval()
    x = torch.randn(2, 17, 24)
    bias = torch.randn(2, 1, 1, 17) if biased else None
    out, maps = attend(attention, x, bias)
    fused, projections = attend(attention, x, bias, with_weights=False)
    torch.testing.assert_close(fused, out)
    assert projections.weights.shape == (2, 3, 0, 17)
    assert all(torch.equal(getattr(projections, n), getattr(maps, n)) for n in ("query", "key", "value"))


def test_the_maps_are_those_that_made_the_output():
    attention = Attention(24, num_heads=3).eval()
    x = torch.randn(2, 17, 24)
    out, maps = attend(attention, x)
    again = (maps.query @ maps.key.transpose(-2, -1) * attention.scale).softmax(-1)
    torch.testing.assert_close(maps.weights, again)
    mixed = (maps.weights @ maps.value).transpose(1, 2).reshape(2, 17, 24)
    torch.testing.assert_close(out, attention.proj(mixed))
