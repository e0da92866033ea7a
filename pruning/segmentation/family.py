"""Segmenters as a family of models: what the closed form must know of them."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from pruning.backbones import vit
from pruning.backbones.family import Family
from pruning.segmentation.heads import ATMHead, FCNHead
from pruning.segmentation.packing import PackedTokens
from pruning.segmentation.segmenter import Segmenter
from spaces import Architecture, DenseHead

__all__ = ["FAMILY"]


def _is_mine(model: nn.Module) -> bool:
    return type(model) is Segmenter


def _problems(model: Segmenter) -> Iterator[str]:
    yield from vit.encoder_problems(model.encoder)


def _describe(model: Segmenter, name: str) -> Architecture:
    heads = tuple(_described_head(int(after), head) for after, head in model.heads.items())
    of_encoder = vit.describe(model.encoder, name)
    return of_encoder.model_copy(update={"n_classes": model.num_classes, "heads": heads})


def _described_head(after: int, head: nn.Module) -> DenseHead:
    if isinstance(head, ATMHead):
        return DenseHead(after=after, kind="atm", channels=head.norm.normalized_shape[0], n_layers=len(head.layers))
    assert isinstance(head, FCNHead)
    return DenseHead(after=after, kind="fcn", channels=head.reduce.out_features)


def _embed(model: Segmenter, images: Tensor) -> Tensor:
    return model.embed(images)


def _run_blocks(model: Segmenter, tokens: Tensor, first: int, last: int) -> Tensor:
    return model.run_blocks(PackedTokens.of(tokens), first, last).rectangle()


def _classify(model: Segmenter, tokens: Tensor) -> Tensor:
    """Turn the tokens that leave the last block into (batch, class, height, width) scores."""
    return model.upsampled(model.read(model.after[-1], PackedTokens.of(tokens)))


FAMILY = Family(
    name="segmenter",
    description="a plain ViT that segments (SETR, SegViT; by dtop alone)",
    modules=("published",),
    is_mine=_is_mine,
    problems=_problems,
    describe=_describe,
    embed=_embed,
    run_blocks=_run_blocks,
    classify=_classify,
    pruned_block=vit.PrunedBlock.around,
)
