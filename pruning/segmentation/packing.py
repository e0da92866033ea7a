"""Tokens of several images in one row, each image with as many as it has: no padding is computed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

__all__ = ["PackedTokens", "attend_jagged", "attend_one_by_one", "run_block"]


@dataclass(frozen=True)
class PackedTokens:
    """Tokens of a batch.

    Attributes:
        values: (n_token of all images, dim), image after image.
        lengths: of each image.
    """

    values: Tensor
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, tokens: Tensor) -> PackedTokens:
        """Pack (batch, n_token, dim)."""
        batch, n_token, _ = tokens.shape
        return cls(tokens.flatten(0, 1), (n_token,) * batch)

    @property
    def is_rectangular(self) -> bool:
        """Whether all images have as many tokens."""
        return len(set(self.lengths)) == 1

    def rectangle(self) -> Tensor:
        """Give (batch, n_token, dim) of a batch whose images have as many tokens each."""
        return self.values.view(len(self.lengths), self.lengths[0], self.values.shape[1])

    def split(self) -> Sequence[Tensor]:
        """Give each image's (n_token, dim)."""
        return torch.split(self.values, list(self.lengths))

    def with_values(self, values: Tensor) -> PackedTokens:
        """Give other values, (n_token of all images, anything), for the same tokens."""
        return PackedTokens(values, self.lengths)


def run_block(block: Any, tokens: PackedTokens) -> PackedTokens:
    """Run a timm block, attention within each image.

    Norms, projections and the MLP see all tokens as one matrix; only the attention goes image by image, or by the
    device's attention over variable lengths.
    """
    if len(tokens.values) == 0:
        return tokens  # no attention expects none at all
    if tokens.is_rectangular:
        return tokens.with_values(block(tokens.rectangle()).flatten(0, 1))
    mixed = _attention(block.attn, block.norm1(tokens.values), tokens.lengths)
    x = tokens.values + block.drop_path1(block.ls1(mixed))
    return tokens.with_values(x + block.drop_path2(block.ls2(block.mlp(block.norm2(x)))))


def _attention(attention: Any, x: Tensor, lengths: Sequence[int]) -> Tensor:
    """Run a timm attention module on (n_token of all images, dim)."""
    packed = attention.qkv(x).unflatten(1, (3, attention.num_heads, attention.head_dim))
    query, key, value = packed.unbind(1)  # each (n_token, head, head_dim)
    query, key = attention.q_norm(query), attention.k_norm(key)
    attend = attend_jagged if x.is_cuda else attend_one_by_one
    mixed = attend(query, key, value, lengths, attention.scale)
    out: Tensor = attention.proj_drop(attention.proj(mixed.flatten(1)))
    return out


def attend_one_by_one(query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], scale: float) -> Tensor:
    """Attend within each image, one after the other.

    On a CPU an image's attention keeps a core busy, so that nothing is gained by taking several at once.

    Args:
        query: (n_token of all images, head, head_dim).
        key: likewise.
        value: likewise.
        lengths: tokens of each image.
        scale: of the logits.

    Returns:
        Of the shape of ``query``.
    """
    by_image = (torch.split(each.transpose(0, 1)[None], list(lengths), dim=2) for each in (query, key, value))
    mixed = [
        scaled_dot_product_attention(own_query, own_key, own_value, scale=scale)[0].transpose(0, 1)
        for own_query, own_key, own_value in zip(*by_image, strict=True)
        if own_query.shape[2]
    ]
    return torch.cat(mixed)


def attend_jagged(query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], scale: float) -> Tensor:
    """Attend within each image at once, by torch's attention over variable lengths; see ``attend_one_by_one``."""
    lengths = [length for length in lengths if length]  # an empty image has no row, and no kernel expects it
    if not lengths:
        return query
    least, most = min(lengths), max(lengths)
    offsets = torch.tensor([0, *itertools.accumulate(lengths)], device=query.device)
    own_query, own_key, own_value = (
        torch.nested.nested_tensor_from_jagged(each, offsets, min_seqlen=least, max_seqlen=most).transpose(1, 2)
        for each in (query, key, value)
    )
    mixed: Tensor = scaled_dot_product_attention(own_query, own_key, own_value, scale=scale).transpose(1, 2).values()
    return mixed
