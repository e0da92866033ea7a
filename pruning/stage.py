"""What every pruning layer is to the model that holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from pruning.attention import AttentionMaps
from pruning.passage import Passage
from pruning.reduction import Reduction
from spaces.cost import Where

__all__ = ["BlockTrace", "Pruned", "PruningStage"]


@dataclass(frozen=True)
class BlockTrace:
    """One block's work on one batch, as a pruning layer at it sees it.

    Attributes:
        x_pre: (batch, n_token, dim), what entered the block.
        x: (batch, n_token, dim), what is reduced: what left the block or, inside it, what left its attention; within
            the attention, what entered the block.
        maps: what of its attention the stage asked for; ``None`` for nothing.
        passage: what is remembered of the batch since it entered the first block that is not as in the dense model.
    """

    x_pre: Tensor
    x: Tensor
    maps: AttentionMaps | None
    passage: Passage


class PruningStage(Protocol):
    """Decides, at one block, what becomes of the patch tokens.

    Attributes:
        block: the block's number, from 1.
        where: ``after`` the block, ``inside`` it, between attention and MLP, or ``in_attention``, before its matrix
            is multiplied with the values: there tokens may stay or go, but not be merged.
        counts_sizes: whether later blocks attend to a token by the patches that it stands for, and not at all to what
            stands for none.
    """

    block: int
    where: Where
    counts_sizes: bool

    @property
    def needs_attention(self) -> bool | Literal["projections"]:
        """Whether its block must show its attention matrix, which rules out fused attention, or projections alone."""

    def __call__(self, trace: BlockTrace) -> Reduction | None:
        """Give what becomes of the patches that entered; ``None`` where the stage only looks."""


class Pruned(Protocol):
    """What the blocks of a pruned model have in common."""

    def passage(self, number: int, x: Tensor) -> Passage:
        """Give the way of the batch of (batch, n_token, dim) tokens that enters block ``number``."""

    def note(self, stage: PruningStage, reduction: Reduction) -> None:
        """Take down what a pruning layer did."""
