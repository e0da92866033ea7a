"""Ranking by average attention: its layout, its integer token counts, and its space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from spaces.architecture import Architecture
from spaces.cost import StageCost
from spaces.domains import Choice, IntRange
from spaces.layer_draw import LayerDraw
from spaces.layered import PrunesAfter, floor_stages
from spaces.layered_space import SpaceAfter

__all__ = ["AttentionRank", "AttentionRankSpace"]


class AttentionRank(PrunesAfter):
    """A layout that keeps floor(rate * patches) tokens, those that receive most attention.

    Attributes:
        score: attention received on average over heads and queries, in the block before the layer (``mean``), or
            its sum over all blocks executed so far (``accumulated``).

    Source: the two rankings that Wang et al. 2024, arXiv:2305.17328, section H.2 and Table 13, compare theirs with,
    there with an S stage before them, here without.
    """

    summary: ClassVar[str] = "ranks tokens by the attention they receive, in one block or in all so far"
    paper: ClassVar[str] = "2305.17328"

    method: Literal["attention_rank"] = "attention_rank"
    score: Literal["mean", "accumulated"] = "mean"

    def stages(self, architecture: Architecture) -> list[StageCost]:
        """Work out the integer token counts of every pruning layer; the attention is there, so ranking costs nothing.

        Raises:
            InvalidInput: a layer lies beyond the model's depth.
        """
        return floor_stages(self, architecture)

    def effect(self, architecture: Architecture) -> dict[str, Any]:
        """Describe the layers that remove tokens, and the score where it makes a difference."""
        layers = [[s.block, s.n_in, s.n_out] for s in self.stages(architecture) if s.n_out < s.n_in]
        # After the first block nothing has been added up yet.
        differs = any(block > 1 for block, _, _ in layers)
        return {"method": self.method, "layers": layers} | ({"score": self.score} if differs else {})


class AttentionRankSpace(SpaceAfter):
    """The layouts of ranking by average attention that a search may try; ``full`` has up to 8 layers."""

    method: Literal["attention_rank"] = "attention_rank"
    score: Choice | Literal["mean", "accumulated"] = Choice(values=("mean", "accumulated"))

    layout_settings: ClassVar[tuple[str, ...]] = ("score",)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "full": {"n_layers": IntRange(low=1, high=8)},
    }

    def layout(self, draw: LayerDraw, places: tuple[int, ...]) -> AttentionRank:
        """Make the layout of the draw's first ``n_layers`` slots."""
        layers = {"after": places, "keep_rate": draw.rates[: draw.n_layers], "min_tokens": self.min_tokens}
        return AttentionRank.parse({**draw.settings, **layers})
