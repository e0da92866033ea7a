"""Closed-form cost of a layout, block by block, without a model and without running anything.

One multiply-add counts as one, as the papers and fvcore count GFLOPs; a LayerNorm counts five for each
element, a batch norm two, a bilinear upsampling four. Softmax, activations, biases, residual sums, gathers and
top-k count nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from spaces.architecture import Architecture, Convolution, Words

__all__ = [
    "BATCH_NORM_COST",
    "LAYER_NORM_COST",
    "UPSAMPLING_COST",
    "BlockCost",
    "Cost",
    "StageCost",
    "Where",
    "cost_of",
    "dense_cost",
    "model_macs_of_many",
    "upsampling_macs",
]

LAYER_NORM_COST = 5  # per element; fvcore's convention
BATCH_NORM_COST = 2  # likewise, in evaluation
UPSAMPLING_COST = 4  # likewise, bilinear, for each element of the result

Where = Literal["after", "inside", "in_attention"]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BlockCost:
    """One transformer block: its number from 1, all tokens that enter it, its multiply-adds."""

    number: int
    n_token: int
    macs: int


@dataclass(frozen=True)
class StageCost:
    """One pruning layer as the cost sees it.

    Attributes:
        block: the number, from 1, of the block whose tokens it reduces.
        n_in: patch tokens that enter.
        n_out: patch tokens that leave.
        overhead_macs: multiply-adds of deciding which tokens leave.
        where: ``after`` the block, ``inside`` it (between its attention and its MLP), or ``in_attention``: between
            the softmax and the product with the values, so that only what stays is computed from there on.
    """

    block: int
    n_in: int
    n_out: int
    overhead_macs: int = 0
    where: Where = "after"


@dataclass(frozen=True)
class Cost:
    """Multiply-adds of one image, split into the model's own and the method's overhead.

    Attributes:
        stem_macs: of all that comes before the blocks.
        tokens_per_block: all tokens, prefix included, that enter each block.
        macs_per_block: of each block.
        tail_macs: of all that comes after the blocks.
        stages: the pruning layers.
    """

    stem_macs: int
    tokens_per_block: tuple[int, ...]
    macs_per_block: tuple[int, ...]
    tail_macs: int
    stages: tuple[StageCost, ...] = ()

    @property
    def blocks(self) -> tuple[BlockCost, ...]:
        """The blocks one by one."""
        counted = zip(self.tokens_per_block, self.macs_per_block, strict=True)
        return tuple(BlockCost(number, n_token, macs) for number, (n_token, macs) in enumerate(counted, start=1))

    @property
    def model_macs(self) -> int:
        """What the model itself computes on the tokens it is left with."""
        return self.stem_macs + sum(self.macs_per_block) + self.tail_macs

    @property
    def overhead_macs(self) -> int:
        """What choosing the tokens costs."""
        return sum(stage.overhead_macs for stage in self.stages)

    @property
    def macs(self) -> int:
        """All multiply-adds. Budgets act on this number."""
        return self.model_macs + self.overhead_macs

    @property
    def gflops(self) -> float:
        """``macs`` in billions."""
        return self.macs / 1e9


@lru_cache(maxsize=64)
def dense_cost(architecture: Architecture) -> Cost:
    """Count the model as it is, with nothing pruned.

    >>> deit_small = Architecture(name="deit_small_patch16_224", image_size=(224, 224), patch_size=(16, 16),
    ...     depth=12, dim=384, n_heads=6, attention_dim=384, mlp_dim=1536)
    >>> dense_cost(deit_small).macs
    4608338304
    """
    return cost_of(architecture, ())


def cost_of(architecture: Architecture, stages: Sequence[StageCost]) -> Cost:
    """Count a model whose token count changes between blocks.

    Args:
        architecture: the model.
        stages: pruning layers in the order in which they run; each starts with what the last one left.

    Source: the formulas of fvcore 0.1.5 for linear, convolution, matmul, einsum and layer norm.
    """
    rates = _rates(architecture)
    by_block = {stage.block: stage for stage in stages}
    n_prefix, n_patch = architecture.n_prefix, architecture.n_patch
    tokens_per_block, macs_per_block = [], []
    for number in range(1, architecture.depth + 1):
        n_token = n_mixed = n_in_mlp = n_prefix + n_patch
        n_entering = n_patch
        if stage := by_block.get(number):
            n_patch = stage.n_out
            n_in_mlp = n_token if stage.where == "after" else n_prefix + n_patch
            n_mixed = n_in_mlp if stage.where == "in_attention" else n_token
        tokens_per_block.append(n_token)
        macs_per_block.append(rates.block(n_entering, n_token, n_mixed, n_in_mlp))
    return Cost(
        stem_macs=rates.stem,
        tokens_per_block=tuple(tokens_per_block),
        macs_per_block=tuple(macs_per_block),
        tail_macs=_tail_macs(architecture, n_prefix + n_patch),
        stages=tuple(stages),
    )


def model_macs_of_many(architecture: Architecture, left: Array, where: Where) -> Array:
    """Count what the model itself computes under many layouts at once, without what choosing their tokens costs.

    Args:
        architecture: of the model.
        left: (n, depth), patch tokens behind each block; they need not be whole.
        where: see ``StageCost``; of all layers.

    Returns:
        (n,), for whole tokens ``Cost.model_macs`` to the integer.
    """
    rates, n_prefix = _rates(architecture), architecture.n_prefix
    entering = np.concatenate((np.full((len(left), 1), architecture.n_patch), left[:, :-1]), axis=1)
    n_token = n_prefix + entering
    n_in_mlp = n_token if where == "after" else n_prefix + left
    n_mixed = n_in_mlp if where == "in_attention" else n_token
    blocks = rates.block(entering, n_token, n_mixed, n_in_mlp)
    tail = _tail_macs(architecture, n_prefix)
    of_patch = _tail_macs(architecture, n_prefix + 1) - tail  # it grows evenly
    macs: Array = rates.stem + blocks.sum(axis=1) + tail + left[:, -1] * of_patch
    return macs


def upsampling_macs(architecture: Architecture) -> int:
    """Count what bringing a segmenter's scores to the size of its input costs.

    It is no part of ``Cost``: whether published averages include it is not known, and no layout changes it.
    """
    height, width = architecture.image_size
    return UPSAMPLING_COST * architecture.n_classes * height * width


@dataclass(frozen=True)
class _Rates:
    """Multiply-adds of an architecture's parts, which a search needs for thousands of layouts.

    Attributes:
        stem: of all that comes before the blocks.
        patch: of a block, for each patch that enters it: its words, in a TNT.
        token: for each token that enters it: query, key and value, and the first norm.
        mixed: for each token that gets a mixture of values: its projection.
        pair: for each score, and for each value that is mixed in.
        in_mlp: for each token that enters the MLP, the second norm included.
    """

    stem: int
    patch: int
    token: int
    mixed: int
    pair: int
    in_mlp: int

    def block(self, n_patch: Any, n_token: Any, n_mixed: Any, n_in_mlp: Any) -> Any:
        """Count a block, or as many as the arrays have, by how many there are of what the rates are for."""
        macs = n_patch * self.patch + n_token * self.token + n_mixed * self.mixed + n_in_mlp * self.in_mlp
        return macs + (n_token + n_mixed) * n_token * self.pair


@lru_cache(maxsize=64)
def _rates(architecture: Architecture) -> _Rates:
    dim, attention_dim = architecture.dim, architecture.attention_dim
    token = 3 * dim * attention_dim + LAYER_NORM_COST * dim
    if architecture.norms_query_key:
        token += 2 * LAYER_NORM_COST * attention_dim
    return _Rates(
        stem=_stem_macs(architecture),
        patch=_word_macs(architecture),
        token=token,
        mixed=dim * attention_dim,
        pair=attention_dim,
        in_mlp=2 * dim * architecture.mlp_dim + LAYER_NORM_COST * dim,
    )


def _word_macs(architecture: Architecture) -> int:
    """Count the inner transformer of one TNT block for one patch, and what its words add to their sentence."""
    words = architecture.words
    if words is None:
        return 0
    projections = 4 * words.n_word * words.dim**2
    products = 2 * words.n_word**2 * words.dim
    mlp = 2 * words.n_word * words.dim * words.mlp_dim
    norms = 2 * LAYER_NORM_COST * words.n_word * words.dim
    added = _sentence_macs(words, architecture.dim, normalised=words.norms_projection)
    return projections + products + mlp + norms + added


def _sentence_macs(words: Words, dim: int, *, normalised: bool) -> int:
    """Count the projection of one sentence's words into its token."""
    macs = (LAYER_NORM_COST + dim) * words.n_word * words.dim
    return macs + LAYER_NORM_COST * dim if normalised else macs


def _stem_macs(architecture: Architecture) -> int:
    macs = sum(_convolution_macs(each) for each in architecture.convolutions)
    if architecture.words is not None:
        macs += architecture.n_patch * _sentence_macs(architecture.words, architecture.dim, normalised=True)
    if architecture.norms_embedding:
        macs += LAYER_NORM_COST * (architecture.n_prefix + architecture.n_patch) * architecture.dim
    return macs


def _convolution_macs(convolution: Convolution) -> int:
    kernel = convolution.in_channels * math.prod(convolution.kernel_size)
    each = kernel + BATCH_NORM_COST if convolution.normalised else kernel
    return math.prod(convolution.output_size) * convolution.out_channels * each


def _tail_macs(architecture: Architecture, n_token: int) -> int:
    macs = architecture.n_classifiers * architecture.dim * architecture.n_classes
    if architecture.classifies_patches:
        macs += (n_token - architecture.n_prefix) * architecture.dim * architecture.n_classes
    if architecture.heads:
        macs += architecture.heads[-1].macs(
            n_token - architecture.n_prefix, dim=architecture.dim, n_classes=architecture.n_classes
        )
    if architecture.norms_final_tokens:
        macs += LAYER_NORM_COST * n_token * architecture.dim
    if architecture.norms_pooled:
        macs += LAYER_NORM_COST * architecture.dim
    return macs
