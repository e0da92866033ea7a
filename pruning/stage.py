"""What every pruning layer is to the model that holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from pruning.attention import AttentionMaps

__all__ = ["BlockTrace", "PruningStage"]


@dataclass(frozen=True)
class BlockTrace:
    """One block's work on one batch, as a pruning layer behind it sees it.

    Attributes:
        x_pre: (batch, n_token, dim), what entered the block.
        x: (batch, n_token, dim), what left it.
        maps: its attention; ``None`` unless the stage asked for it.
        image_ids: (batch,), int64, names each image for methods that draw at random.
    """

    x_pre: Tensor
    x: Tensor
    maps: AttentionMaps | None
    image_ids: Tensor


class PruningStage(Protocol):
    """Chooses, behind one block, the patch tokens that stay.

    Attributes:
        after: blocks executed before it.
        needs_attention: whether its block must show its attention matrix, which rules out fused attention.
    """

    after: int
    needs_attention: bool

    def __call__(self, trace: BlockTrace) -> Tensor:
        """Give the positions of the patches that stay: (batch, n_out), ascending, among the patches that entered."""
