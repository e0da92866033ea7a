"""Random drop: the baseline that removes patch tokens without looking at them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from spaces.architecture import Architecture
from spaces.cost import StageCost
from spaces.layer_draw import LayerDraw
from spaces.layered import PrunesAfter, floor_stages
from spaces.layered_space import SpaceAfter

__all__ = ["RandomDrop", "RandomDropSpace"]


class RandomDrop(PrunesAfter):
    """A layout that keeps floor(rate * patches) tokens, drawn uniformly for each image.

    The draw depends on ``seed``, the image and the layer alone, never on the batch the image comes in.

    Source: the random baseline of Wang et al. 2024, arXiv:2305.17328, Table 1.
    """

    method: Literal["random_drop"] = "random_drop"
    seed: int = 0

    summary: ClassVar[str] = "drops tokens at random: the baseline of every other method"
    paper: ClassVar[str] = "2305.17328"

    def stages(self, architecture: Architecture) -> list[StageCost]:
        """Work out the integer token counts of every pruning layer; choosing at random costs nothing."""
        return floor_stages(self, architecture)

    def effect(self, architecture: Architecture) -> dict[str, Any]:
        """Describe the layers that remove tokens, and the seed that chooses them."""
        layers = [[s.block, s.n_in, s.n_out] for s in self.stages(architecture) if s.n_out < s.n_in]
        return {"method": self.method, "layers": layers} | ({"seed": self.seed} if layers else {})


class RandomDropSpace(SpaceAfter):
    """The layouts of random drop that a search may try."""

    method: Literal["random_drop"] = "random_drop"
    seed: int = 0

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}, "full": {"n_layers": {"low": 1, "high": 8}}}

    def layout(self, draw: LayerDraw, places: tuple[int, ...]) -> RandomDrop:
        """Make the layout of the draw's first ``n_layers`` slots."""
        keep_rate = draw.rates[: draw.n_layers]
        return RandomDrop.parse(
            {"after": places, "keep_rate": keep_rate, "seed": self.seed, "min_tokens": self.min_tokens}
        )
