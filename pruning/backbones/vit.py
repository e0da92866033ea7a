"""timm's VisionTransformer: ViT, DeiT and distilled DeiT, of any size.

What is read here is what the closed form counts; anything else that a model may do with its tokens is
refused by name, since a cost that is silently wrong would break every budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from timm.layers import Attention, Mlp, PatchEmbed
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from pruning.attention import AttentionMaps, attend, look, mix, rows_of
from pruning.backbones.block import StagedBlock
from pruning.backbones.family import Family
from pruning.stage import BlockTrace, PruningStage
from pruning.tokens import all_tokens
from spaces import Architecture, InvalidInput

__all__ = ["FAMILY", "PrunedBlock", "block_problems", "describe", "encoder_problems"]


def _is_mine(model: nn.Module) -> bool:
    """Say whether the model belongs to this family, whatever its details."""
    return type(model) in (VisionTransformer, VisionTransformerDistilled)


def describe(model: Any, name: str) -> Architecture:
    """Read the dimensions of a model that keeps timm's names, whatever its details."""
    distilled = isinstance(model, VisionTransformerDistilled)
    patch_embed, block = model.patch_embed, model.blocks[0]
    linear_heads = [head for head in (model.head, getattr(model, "head_dist", None)) if isinstance(head, nn.Linear)]
    return Architecture(
        name=name,
        image_size=patch_embed.img_size,
        patch_size=patch_embed.patch_size,
        in_channels=patch_embed.proj.in_channels,
        depth=len(model.blocks),
        dim=model.embed_dim,
        n_heads=block.attn.num_heads,
        attention_dim=block.attn.attn_dim,
        mlp_dim=block.mlp.fc1.out_features,
        n_prefix=model.num_prefix_tokens,
        has_class_token=model.cls_token is not None,
        pool="token" if distilled or model.global_pool == "token" else "mean",
        norms_query_key=isinstance(block.attn.q_norm, nn.LayerNorm),
        norms_embedding=isinstance(model.norm_pre, nn.LayerNorm),
        norms_final_tokens=isinstance(model.norm, nn.LayerNorm),
        norms_pooled=isinstance(model.fc_norm, nn.LayerNorm),
        n_classifiers=len(linear_heads),
        n_classes=linear_heads[0].out_features if linear_heads else 0,
    )


def _problems(model: Any) -> Iterator[str]:
    if model.global_pool not in ("token", "avg"):
        yield f"it pools with {model.global_pool!r}"
    yield from encoder_problems(model)


def encoder_problems(model: Any) -> Iterator[str]:
    """Name what the closed form does not count in a ViT, whatever follows its last block."""
    blocks = list(model.blocks)
    if strange := {type(block) for block in blocks} - {Block, PrunedBlock}:
        yield f"its blocks are {_names(strange)}, not timm's Block"
        return
    if type(model.patch_embed) is not PatchEmbed:
        yield f"its stem is a {type(model.patch_embed).__name__}, not timm's PatchEmbed"
    if not isinstance(model.patch_drop, nn.Identity):
        yield "it drops patches at random while training"
    yield from block_problems(blocks)


def block_problems(blocks: Sequence[Any]) -> Iterator[str]:
    """Name what the closed form does not count in timm's blocks."""
    if strange := {type(block.attn) for block in blocks} - {Attention}:
        yield f"its attention is {_names(strange)}, not timm's Attention"
        return
    if strange := {type(block.mlp) for block in blocks} - {Mlp}:
        yield f"its MLP is {_names(strange)}, not timm's Mlp"
        return
    norms = {type(norm) for b in blocks for norm in (b.norm1, b.norm2, b.attn.q_norm, b.attn.k_norm)}
    if strange := {norm for norm in norms if not issubclass(norm, nn.LayerNorm | nn.Identity)}:
        yield f"it normalises with {_names(strange)}, not LayerNorm"
    if len({(b.attn.num_heads, b.attn.attn_dim, b.mlp.fc1.out_features) for b in blocks}) > 1:
        yield "its blocks differ in width"
    if any(block.attn.gate is not None for block in blocks):
        yield "its attention is gated"
    if not all(isinstance(block.attn.norm, nn.Identity) for block in blocks):
        yield "it normalises inside its attention"
    if not all(isinstance(block.mlp.norm, nn.Identity) for block in blocks):
        yield "its MLP normalises"


def _names(kinds: set[type]) -> str:
    return ", ".join(sorted(kind.__name__ for kind in kinds))


def _embed(model: Any, images: Tensor) -> Tensor:
    """Turn (batch, channel, height, width) into the (batch, n_token, dim) that enter the first block."""
    tokens: Tensor = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
    return tokens


def _run_blocks(model: Any, tokens: Tensor, first: int, last: int) -> Tensor:
    """Run (batch, n_token, dim) through the blocks from ``first`` up to, not with, ``last``, counted from 0."""
    for block in list(model.blocks)[first:last]:
        tokens = block(tokens)
    return tokens


def _classify(model: Any, tokens: Tensor) -> Tensor:
    """Turn the tokens that leave the last block into (batch, n_classes) logits."""
    logits: Tensor = model.forward_head(model.norm(tokens))
    return logits


class PrunedBlock(StagedBlock, Block):  # type: ignore[misc]  # timm is untyped
    """A timm block with a pruning layer behind it, inside it or within its attention, or one that follows others."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Run the block on (batch, n_token, dim) and return only the tokens that stay."""
        if attn_mask is not None or is_causal:
            raise InvalidInput("a pruned block takes no attention mask: the tokens it would mask may be gone")
        stage, passage = self.stage, self.pruning.passage(self.number, x)
        normed = self.norm1(x)
        key_bias = passage.key_bias(normed)
        if stage is not None and stage.where == "in_attention":
            trace = BlockTrace(x, x, look(self.attn, normed, key_bias), passage)
            (x, mixed), maps = self._reduced_in_attention(stage, trace, normed), None
        elif stage is not None and stage.needs_attention:
            with_weights = stage.needs_attention != "projections"
            mixed, maps = attend(self.attn, normed, key_bias, with_weights=with_weights)
        else:
            mixed, maps = self.attn(normed, attn_mask=key_bias), None
        out: Tensor = x + self.drop_path1(self.ls1(mixed))
        if stage is not None and stage.where == "inside":
            out = self._reduced(stage, BlockTrace(x, out, maps, passage))
        out = out + self.drop_path2(self.ls2(self.mlp(self.norm2(out))))
        if stage is not None and stage.where == "after":
            return self._reduced(stage, BlockTrace(x, out, maps, passage))
        return out

    def _reduced_in_attention(self, stage: PruningStage, trace: BlockTrace, normed: Tensor) -> tuple[Tensor, Tensor]:
        """Go on with the rows of the tokens that stay: give these tokens, and what the attention makes of them."""
        keep, n_prefix = self.decide_in_attention(stage, trace), trace.passage.n_prefix
        maps = cast(AttentionMaps, trace.maps)
        weights = rows_of(maps.weights, all_tokens(keep.positions, n_prefix))
        mixed = mix(self.attn, weights, maps.value, keep.reduce(normed, n_prefix))
        return keep.reduce(trace.x, n_prefix), mixed

    def _reduced(self, stage: PruningStage, trace: BlockTrace) -> Tensor:
        reduction = self.decide(stage, trace)
        return trace.x if reduction is None else reduction.reduce(trace.x, trace.passage.n_prefix)


FAMILY = Family(
    name="ViT",
    description="a timm VisionTransformer with a class token or mean pooling (ViT, DeiT, distilled DeiT)",
    modules=("vision_transformer", "deit", "shapes_vit"),
    is_mine=_is_mine,
    problems=_problems,
    describe=describe,
    embed=_embed,
    run_blocks=_run_blocks,
    classify=_classify,
    pruned_block=PrunedBlock.around,
)
