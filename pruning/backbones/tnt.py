"""timm's Transformer in Transformer (TNT): a patch token is a sentence, made of words.

Sentences are pruned by the outer attention; a sentence's words go wherever it goes. The words of a sentence never
meet those of another, so the inner transformers run on the sentences that are left.

Source: Han et al. 2021, "Transformer in Transformer", arXiv:2103.00112, Equations 6 to 11.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from timm.layers import Mlp
from timm.models.tnt import TNT, Attention, Block, PixelEmbed
from torch import Tensor, nn
from torch.nn import functional

from pruning.attention import AttentionMaps, rows_of
from pruning.backbones.block import StagedBlock
from pruning.backbones.family import Family
from pruning.backbones.stems import describe_convolution
from pruning.reduction import Reduction
from pruning.stage import BlockTrace, PruningStage
from pruning.tokens import all_tokens
from spaces import Architecture, Convolution, Words

__all__ = ["FAMILY", "PrunedBlock"]


def _is_mine(model: nn.Module) -> bool:
    """Say whether the model belongs to this family, whatever its details."""
    return type(model) is TNT


def _describe(model: Any, name: str) -> Architecture:
    stem, block = model.pixel_embed, model.blocks[0]
    has_classifier = isinstance(model.head, nn.Linear)
    return Architecture(
        name=name,
        image_size=stem.img_size,
        patch_size=stem.patch_size,
        in_channels=stem.proj.in_channels,
        depth=len(model.blocks),
        dim=model.embed_dim,
        n_heads=block.attn_out.num_heads,
        attention_dim=block.attn_out.hidden_dim,
        mlp_dim=block.mlp.fc1.out_features,
        n_prefix=model.num_prefix_tokens,
        pool="token" if model.global_pool == "token" else "mean",
        n_classifiers=int(has_classifier),
        n_classes=model.head.out_features if has_classifier else 0,
        stem=(_pixel_convolution(stem),),
        words=Words(
            n_word=math.prod(stem.new_patch_size),
            dim=stem.in_dim,
            mlp_dim=block.mlp_in.fc1.out_features,
            norms_projection=block.norm2_proj is not None,
        ),
    )


def _pixel_convolution(stem: Any) -> Convolution:
    """Describe the convolution that makes the words: over each patch, or in the legacy variant over the image."""
    if stem.legacy:
        return describe_convolution(stem.proj, stem.img_size)
    return describe_convolution(stem.proj, stem.patch_size, repeats=stem.grid_size)


def _problems(model: Any) -> Iterator[str]:
    blocks = list(model.blocks)
    if strange := {type(block) for block in blocks} - {Block, PrunedBlock}:
        yield f"its blocks are {_names(strange)}, not timm's TNT block"
        return
    if type(model.pixel_embed) is not PixelEmbed:
        yield f"its stem is a {type(model.pixel_embed).__name__}, not timm's PixelEmbed"
    if model.global_pool not in ("token", "avg"):
        yield f"it pools with {model.global_pool!r}"
    yield from _block_problems(model, blocks)


def _block_problems(model: Any, blocks: Sequence[Any]) -> Iterator[str]:
    if strange := {type(mlp) for block in blocks for mlp in (block.mlp, block.mlp_in)} - {Mlp}:
        yield f"its MLP is {_names(strange)}, not timm's Mlp"
        return
    if strange := {type(attention) for block in blocks for attention in (block.attn_in, block.attn_out)} - {Attention}:
        yield f"its attention is {_names(strange)}, not that of timm's TNT"
        return
    norms = {type(norm) for block in blocks for norm in (block.norm_in, block.norm1_proj, block.norm_out)}
    norms |= {type(model.norm), type(model.norm1_proj), type(model.norm2_proj)}
    if strange := {norm for norm in norms if not issubclass(norm, nn.LayerNorm)}:
        yield f"it normalises with {_names(strange)}, not LayerNorm"
    if len({(b.attn_out.num_heads, b.mlp.fc1.out_features, b.mlp_in.fc1.out_features, b.legacy) for b in blocks}) > 1:
        yield "its blocks differ in width"


def _names(kinds: set[type]) -> str:
    return ", ".join(sorted(kind.__name__ for kind in kinds))


def _embed(model: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Turn (batch, channel, height, width) into what enters the first block.

    Returns:
        Words, (batch * n_patch, n_word, word_dim), and tokens, (batch, 1 + n_patch, dim).
    """
    batch = images.shape[0]
    words = model.pixel_embed(images, model.pixel_pos)
    sentences = model.norm2_proj(model.proj(model.norm1_proj(words.reshape(batch, model.num_patches, -1))))
    tokens = torch.cat([model.cls_token.expand(batch, -1, -1), sentences], dim=1)
    return words, model.pos_drop(tokens + model.patch_pos)


def _run_blocks(model: Any, tokens: tuple[Tensor, Tensor], first: int, last: int) -> tuple[Tensor, Tensor]:
    """Run words and tokens through the blocks from ``first`` up to, not with, ``last``, counted from 0."""
    for block in list(model.blocks)[first:last]:
        tokens = block(*tokens)
    return tokens


def _classify(model: Any, tokens: tuple[Tensor, Tensor]) -> Tensor:
    """Turn what leaves the last block into (batch, n_classes) logits."""
    logits: Tensor = model.forward_head(model.norm(tokens[1]))
    return logits


class PrunedBlock(StagedBlock, Block):  # type: ignore[misc]  # timm is untyped
    """A TNT block with a pruning layer behind it or at its outer attention, or one that follows others."""

    def forward(self, pixel_embed: Tensor, patch_embed: Tensor) -> tuple[Tensor, Tensor]:
        """Run the block and return only the tokens that stay, with their words.

        Args:
            pixel_embed: words, (batch * n_patch, n_word, word_dim).
            patch_embed: tokens, (batch, 1 + n_patch, dim).
        """
        stage, passage = self.stage, self.pruning.passage(self.number, patch_embed)
        words = pixel_embed + self.drop_path(self.attn_in(self.norm_in(pixel_embed)))
        words = words + self.drop_path(self.mlp_in(self.norm_mlp_in(words)))
        x = self._with_words(patch_embed, words)
        normed = self.norm_out(x)
        key_bias = passage.key_bias(normed)
        maps = None
        if stage is not None and stage.where == "in_attention":
            trace = BlockTrace(patch_embed, x, _look(self.attn_out, normed, key_bias), passage)
            words, x, mixed = self._reduced_in_attention(stage, words, trace)
        elif key_bias is not None or (stage is not None and stage.needs_attention):
            maps = _look(self.attn_out, normed, key_bias)
            mixed = _mix(self.attn_out, maps.weights, maps.value)
        else:
            mixed = self.attn_out(normed)
        out: Tensor = x + self.drop_path(mixed)
        if stage is not None and stage.where == "inside":
            words, out = self._reduced(stage, words, BlockTrace(patch_embed, out, maps, passage))
        out = out + self.drop_path(self.mlp(self.norm_mlp(out)))
        if stage is not None and stage.where == "after":
            words, out = self._reduced(stage, words, BlockTrace(patch_embed, out, maps, passage))
        return words, out

    def _with_words(self, tokens: Tensor, words: Tensor) -> Tensor:
        """Add to each sentence what its words say."""
        batch, n_token, _ = tokens.shape
        if self.norm2_proj is None:
            added = self.proj(self.norm1_proj(words).reshape(batch, n_token - 1, -1))
        else:
            added = self.norm2_proj(self.proj(self.norm1_proj(words.reshape(batch, n_token - 1, -1))))
        return torch.cat([tokens[:, :1], tokens[:, 1:] + added], dim=1)

    def _reduced(self, stage: PruningStage, words: Tensor, trace: BlockTrace) -> tuple[Tensor, Tensor]:
        reduction = self.decide(stage, trace)
        if reduction is None:
            return words, trace.x
        words = _words_following(reduction, words, trace.x.shape[0])
        return words, reduction.reduce(trace.x, trace.passage.n_prefix)

    def _reduced_in_attention(
        self, stage: PruningStage, words: Tensor, trace: BlockTrace
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Go on with the rows of the tokens that stay: give words, tokens, and what the attention makes of these."""
        keep, n_prefix = self.decide_in_attention(stage, trace), trace.passage.n_prefix
        maps = cast(AttentionMaps, trace.maps)
        mixed = _mix(self.attn_out, rows_of(maps.weights, all_tokens(keep.positions, n_prefix)), maps.value)
        return _words_following(keep, words, trace.x.shape[0]), keep.reduce(trace.x, n_prefix), mixed


def _words_following(reduction: Reduction, words: Tensor, batch: int) -> Tensor:
    """Let the words of sentences, (batch * n_patch, n_word, word_dim), become what these become."""
    # A sentence's words, side by side, are laid out like its token.
    side_by_side = words.reshape(batch, -1, words[0].numel())
    return reduction.reduce(side_by_side, n_prefix=0).reshape(-1, *words.shape[1:])


def _look(attention: Any, x: Tensor, key_bias: Tensor | None) -> AttentionMaps:
    """Run a TNT attention module up to its matrix; see ``pruning.attention.look``."""
    batch, n_token, _ = x.shape
    packed = attention.qk(x).reshape(batch, n_token, 2, attention.num_heads, attention.head_dim)
    query, key = packed.permute(2, 0, 3, 1, 4).unbind(0)
    value = attention.v(x).reshape(batch, n_token, attention.num_heads, -1).transpose(1, 2)
    logits = (query @ key.transpose(-2, -1)) * attention.scale
    weights = (logits if key_bias is None else logits + key_bias).softmax(dim=-1)
    return AttentionMaps(weights, query, key, value)


def _mix(attention: Any, weights: Tensor, value: Tensor) -> Tensor:
    """Run the rest of it, for the queries of (batch, head, n_query, n_token) weights; see ``pruning.attention.mix``."""
    # The module's own dropout writes into what it is given, and pruning looks at the weights.
    mixed = functional.dropout(weights, attention.attn_drop.p, attention.training) @ value
    out: Tensor = attention.proj_drop(attention.proj(mixed.transpose(1, 2).flatten(2)))
    return out


FAMILY = Family(
    name="TNT",
    description="a timm TNT",
    modules=("tnt",),
    is_mine=_is_mine,
    problems=_problems,
    describe=_describe,
    embed=_embed,
    run_blocks=_run_blocks,
    classify=_classify,
    pruned_block=PrunedBlock.around,
)
