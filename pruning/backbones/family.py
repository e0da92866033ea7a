"""What a family of models offers to whoever prunes and measures them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pruning.backbones.block import StagedBlock
from spaces import Architecture

__all__ = ["Family", "Tokens"]

Tokens = Tensor | tuple[Tensor, ...]
"""What goes from block to block: (batch, n_token, dim), or several tensors where a token has more to it."""


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        name: of the family.
        description: what of it is supported, with its article.
        modules: of timm, or ours, that register its models.
        is_mine: says whether a model belongs to it, whatever its details.
        problems: names what a model does with its tokens that the closed form does not count.
        describe: reads a model without problems, and calls it by the second argument.
        embed: turns (batch, channel, height, width) into what enters the first block.
        run_blocks: runs it through the blocks from the third argument up to, not with, the fourth, counted from 0.
        classify: turns what leaves the last block into (batch, n_classes) logits; of a segmenter (batch, n_classes,
            height, width) scores.
        pruned_block: ``StagedBlock.around`` of the family's own.
    """

    name: str
    description: str
    modules: tuple[str, ...]
    is_mine: Callable[[nn.Module], bool]
    problems: Callable[[Any], Iterable[str]]
    describe: Callable[[Any, str], Architecture]
    embed: Callable[[Any, Tensor], Tokens]
    run_blocks: Callable[[Any, Any, int, int], Tokens]
    classify: Callable[[Any, Any], Tensor]
    pruned_block: Callable[..., StagedBlock]
