"""An attention forward that also yields what pruning looks at: the attention matrix and its projections."""

from __future__ import annotations

from dataclasses import dataclass

from timm.layers import Attention
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from pruning.tokens import gather_tokens

__all__ = ["AttentionMaps", "attend", "look", "mix", "rows_of"]


@dataclass(frozen=True)
class AttentionMaps:
    """What one block's attention computed on the way.

    Attributes:
        weights: (batch, head, n_token, n_token), softmax over the last axis: each row, a query, sums to 1. No row
            at all, (batch, head, 0, n_token), where only the projections were asked for.
        query: (batch, head, n_token, head_dim), after the model's query norm if it has one.
        key: likewise.
        value: (batch, head, n_token, head_dim).
    """

    weights: Tensor
    query: Tensor
    key: Tensor
    value: Tensor

    def at_least_float32(self) -> AttentionMaps:
        """Give the same in float32 where the block computed in half of that."""
        maps = (self.weights, self.query, self.key, self.value)
        return AttentionMaps(*(each.float() if each.element_size() < 4 else each for each in maps))


def attend(
    attention: Attention, x: Tensor, key_bias: Tensor | None = None, *, with_weights: bool = True
) -> tuple[Tensor, AttentionMaps]:
    """Run a timm attention module with its matrix in the open, where fused attention would hide it.

    Args:
        attention: the module; its norms, gate, dropouts and projection are all applied.
        x: (batch, n_token, dim), already normalised by the block.
        key_bias: (batch, 1, 1, n_token), added to the logits.
        with_weights: whether the matrix is wanted; without it a module that fuses its attention goes on doing so.

    Returns:
        The module's output, equal to its own forward up to rounding, and what it computed on the way.
    """
    if with_weights or not attention.fused_attn:
        maps = look(attention, x, key_bias)
        return mix(attention, maps.weights, maps.value, x), maps
    query, key, value = _projections(attention, x)
    dropout = attention.attn_drop.p if attention.training else 0.0
    mixed = scaled_dot_product_attention(query, key, value, key_bias, dropout, scale=attention.scale)
    weights = query.new_empty(x.shape[0], attention.num_heads, 0, x.shape[1])
    return _projected(attention, mixed, x), AttentionMaps(weights, query, key, value)


def look(attention: Attention, x: Tensor, key_bias: Tensor | None = None) -> AttentionMaps:
    """Run the first half of a timm attention module: up to its matrix, see ``attend``."""
    query, key, value = _projections(attention, x)
    logits = (query * attention.scale) @ key.transpose(-2, -1)
    if key_bias is not None:
        logits += key_bias  # in place: another matrix of this size would cost as much as the product
    return AttentionMaps(logits.softmax(dim=-1), query, key, value)


def mix(attention: Attention, weights: Tensor, value: Tensor, x: Tensor) -> Tensor:
    """Run the second half of a timm attention module, for all queries or for some.

    Args:
        attention: the module.
        weights: (batch, head, n_query, n_token).
        value: (batch, head, n_token, head_dim).
        x: (batch, n_query, dim), of the same queries, normalised by the block.

    Returns:
        (batch, n_query, dim).
    """
    return _projected(attention, attention.attn_drop(weights) @ value, x)


def rows_of(weights: Tensor, positions: Tensor) -> Tensor:
    """Take the rows of some queries, each image's own.

    Args:
        weights: (batch, head, n_token, n_token).
        positions: (batch, n_query), among all tokens.

    Returns:
        (batch, head, n_query, n_token).
    """
    batch, n_head, _, n_token = weights.shape
    rows = gather_tokens(weights.flatten(0, 1), positions.repeat_interleave(n_head, dim=0))
    return rows.view(batch, n_head, -1, n_token)


def _projections(attention: Attention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Give query, key and value: (batch, head, n_token, head_dim) each."""
    batch, n_token, _ = x.shape
    packed = attention.qkv(x).reshape(batch, n_token, 3, attention.num_heads, attention.head_dim)
    query, key, value = packed.permute(2, 0, 3, 1, 4).unbind(0)
    return attention.q_norm(query), attention.k_norm(key), value


def _projected(attention: Attention, mixed: Tensor, x: Tensor) -> Tensor:
    out = attention.norm(mixed.transpose(1, 2).reshape(*x.shape[:2], attention.attn_dim))
    if attention.gate is not None:
        out = out * attention.gate(x).sigmoid()
    projected: Tensor = attention.proj_drop(attention.proj(out))
    return projected
