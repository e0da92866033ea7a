"""What the pruned blocks of all families share."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Self

import torch

from pruning.reduction import Keep, Reduction
from pruning.stage import BlockTrace, Pruned, PruningStage

__all__ = ["StagedBlock"]


class StagedBlock:
    """A block with a pruning layer behind or inside it, or one that only follows what layers before it did.

    It shares the block's submodules and hooks, so it follows every move and every change of weights, and the
    model's state dict keeps its keys. A family derives its own from this and from its block, in that order.

    Attributes:
        number: of the block, from 1.
        stage: what decides what becomes of the tokens; ``None`` for nothing.
        pruning: knows each batch's way through the blocks.
    """

    number: int
    stage: PruningStage | None
    pruning: Pruned

    @classmethod
    def around(cls, block: Any, number: int, stage: PruningStage | None, pruning: Pruned) -> Self:
        """Put a pruning layer to a block, which is not changed."""
        pruned = cls.__new__(cls)
        pruned.__dict__.update(block.__dict__)
        pruned.number, pruned.stage, pruned.pruning = number, stage, pruning
        return pruned

    def decide_in_attention(self, stage: PruningStage, trace: BlockTrace) -> Keep:
        """Ask a pruning layer within the attention which patches stay, and take it down."""
        reduction = self.decide(stage, trace)
        if not isinstance(reduction, Keep):
            raise RuntimeError(f"within an attention patches stay or go, but the layer gave {reduction!r}")
        return reduction

    def decide(self, stage: PruningStage, trace: BlockTrace) -> Reduction | None:
        """Ask the pruning layer what becomes of the patches, and take it down; ``None`` where it only looks."""
        with _no_autocast(trace.x.device.type):
            reduction = stage(replace(trace, maps=trace.maps and trace.maps.at_least_float32()))
            if reduction is not None:
                trace.passage.go_through(reduction, counts_sizes=stage.counts_sizes)
                self.pruning.note(stage, reduction)
            return reduction


def _no_autocast(device: str) -> AbstractContextManager[None]:
    """Leave autocast, in which the scores of many tokens would be equal."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
