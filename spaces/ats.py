"""Adaptive token sampling (ATS): its layout, its bounds and costs, and its space.

Source: Fayyaz et al. 2022, "Adaptive Token Sampling For Efficient Vision Transformers", arXiv:2111.15667, and its code.
How many tokens stay depends on the image, and so does what it costs; see docs/methods/ats.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from spaces.architecture import Architecture
from spaces.cost import Cost, StageCost, cost_of
from spaces.domains import Choice, FloatRange, IntRange, ParameterValue, bounds
from spaces.errors import BudgetUnsatisfiable, InvalidInput
from spaces.layer_draw import LayerDraw
from spaces.layered import FloatSetting, LayeredConfig, OneFloatSetting, Places, PlacesSetting, per_layer
from spaces.layered_guesses import Slots
from spaces.layered_space import LayeredSpace

__all__ = ["Ats", "AtsSpace", "guessed_kept"]

_LEAST_K = 8  # as in the authors' code

Array = npt.NDArray[np.float64]
Count = Annotated[int, Field(ge=_LEAST_K)]
Ratio = Annotated[float, Field(gt=0, le=1)]
Score = Literal["cls_vnorm", "cls"]


class Ats(LayeredConfig):
    """An ATS layout.

    A layer looks for K - 1 patches, and several searches may end at the same: fewer patches stay the more the class
    token's attention rests on a few. So the image decides how many stay, from 1 to K - 1, and a layer drops some even
    where K is the number of tokens: only a layout without layers changes nothing.

    Attributes:
        in_attention: the numbers of the blocks in whose attention patches are dropped, from 1, increasing.
        k: the K of every layer, or of each: from 8 to the tokens that enter the model's first block.
        k_ratio: the same as a share of those tokens, rounded down, and at least 8.
        score: what a patch is chosen by: the class token's attention times the length of the patch's value over all
            heads (``cls_vnorm``), or that attention alone (``cls``).
    """

    summary: ClassVar[str] = "samples tokens by the class token's attention, as many as the image needs"
    paper: ClassVar[str] = "2111.15667"
    cost_is_measured: ClassVar[bool] = True
    places_name: ClassVar[str] = "in_attention"

    method: Literal["ats"] = "ats"
    in_attention: Places
    k: tuple[Count, ...] | Count | None = None
    k_ratio: tuple[Ratio, ...] | Ratio | None = None
    score: Score = "cls_vnorm"

    @model_validator(mode="after")
    def _a_number_or_a_ratio(self) -> Self:
        if (self.k is None) == (self.k_ratio is None):
            raise ValueError(f"give either k or k_ratio, got k={self.k} and k_ratio={self.k_ratio}")
        return self

    def sample_sizes(self, architecture: Architecture) -> tuple[int, ...]:
        """Give the K of each layer.

        Raises:
            InvalidInput: one is larger than the model's number of tokens, or a layer lies beyond its depth.
            UnsupportedModel: the model has no class token.
        """
        self.check_layers(architecture)
        architecture.require_class_token(self.method)
        n_token = architecture.n_prefix + architecture.n_patch
        sizes = []
        for layer in range(len(self.in_attention)):
            if self.k is not None:
                size = per_layer(self.k, layer)
            else:
                size = min(max(int(per_layer(self.k_ratio or 1.0, layer) * n_token), _LEAST_K), n_token)
            if size > n_token:
                raise InvalidInput(f"k must be at most the {n_token} tokens of {architecture.name}, got {size}")
            sizes.append(size)
        return tuple(sizes)

    def stages(self, architecture: Architecture) -> list[StageCost]:
        """Work out the most that can stay in every layer; the attention is there, so sampling costs nothing.

        Raises:
            InvalidInput: see ``sample_sizes``.
            UnsupportedModel: the model has no class token.
        """
        return self._stages(architecture, lambda _, n_levels, n_patch: min(n_levels, n_patch))

    def least_cost(self, architecture: Architecture) -> Cost:
        """Count an image of which each layer keeps a single patch."""
        return cost_of(architecture, self._stages(architecture, lambda *_: 1))

    def guessed_cost(self, architecture: Architecture, spread: float) -> Cost:
        """Count an image whose scores are spread so evenly, see ``AtsSpace``."""

        def kept(_: int, n_levels: int, n_patch: int) -> int:
            return guessed_kept(n_levels, n_patch, spread)

        return cost_of(architecture, self._stages(architecture, kept))

    def cost_of_image(self, architecture: Architecture, n_kept: Sequence[int]) -> Cost:
        """Count what one image costs, of which each layer kept so many patches."""
        return cost_of(architecture, self._stages(architecture, lambda layer, *_: n_kept[layer]))

    def effect(self, architecture: Architecture) -> dict[str, Any]:
        """Describe the layers with their K, and what patches are chosen by."""
        layers = [list(layer) for layer in zip(self.in_attention, self.sample_sizes(architecture), strict=True)]
        return {"method": self.method, "layers": layers} | ({"score": self.score} if layers else {})

    def _stages(self, architecture: Architecture, kept: Callable[[int, int, int], int]) -> list[StageCost]:
        """Follow the patches through all layers.

        Args:
            architecture: of the model.
            kept: says, of a layer, its levels and the patches that enter it, how many stay.
        """
        stages = []
        n_patch = architecture.n_patch
        for layer, (block, size) in enumerate(zip(self.in_attention, self.sample_sizes(architecture), strict=True)):
            n_out = kept(layer, size - 1, n_patch)
            stages.append(StageCost(block=block, n_in=n_patch, n_out=n_out, where="in_attention"))
            n_patch = n_out
        return stages


def guessed_kept(n_levels: int, n_patch: int, spread: float) -> int:
    """Guess how many of ``n_patch`` patches stay where ``n_levels`` levels are compared with the sums of their scores.

    A level falls on a patch as often as its score is a share of all. With scores like draws from an exponential
    distribution, L levels fall on L (1 - exp(-n / L)) of n patches; ``spread`` counts levels so many times, but no more
    patches stay than there are levels.

    >>> [guessed_kept(196, 196, spread) for spread in (0.4, 1.0, 2.5)]
    [72, 124, 162]
    """
    reach = spread * n_levels
    return min(max(1, round(reach * -math.expm1(-n_patch / reach))), n_levels, n_patch)


class AtsSpace(LayeredSpace):
    """The layouts of ATS that a search may try.

    What a layout costs is known only when it was measured, so no draw can be repaired exactly onto a budget. A draw
    brings with it a guess, ``spread``, of how evenly the scores of images are spread, and so of how many patches stay
    (see ``guessed_kept``); it is repaired, by its K, as if that were so. With a higher one it prunes more, and is
    within the budget more surely. The sampler learns, as of any other parameter, which guess leads to layouts that are
    within the budget and good.

    The preset ``paper`` varies where the layers lie, their K and the guess; ``full`` has fewer layers too, and varies
    what patches are chosen by.

    Attributes:
        in_attention: the blocks in whose attention layers may lie; by default any. A list fixes them.
        k_ratio: see ``Ats``.
        score: see ``Ats``.
        spread: the guess, above 0.
    """

    method: Literal["ats"] = "ats"
    n_layers: IntRange | int = IntRange(low=3, high=9)
    k_ratio: FloatSetting = FloatRange(low=0.05, high=1.0)
    in_attention: PlacesSetting = None
    score: Choice | Score = "cls_vnorm"
    spread: OneFloatSetting = FloatRange(low=0.25, high=4.0, log=True)

    places_name: ClassVar[str] = "in_attention"
    rate_name: ClassVar[str] = "k_ratio"
    layout_settings: ClassVar[tuple[str, ...]] = ("score", "spread")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "full": {"n_layers": IntRange(low=1, high=9), "score": Choice(values=("cls_vnorm", "cls"))},
    }

    @model_validator(mode="after")
    def _spread_is_positive(self) -> Self:
        if bounds(self.spread)[0] <= 0:
            raise ValueError(f"spread must be above 0, got {self.spread}")
        return self

    def narrowed(self, architecture: Architecture) -> Self:
        """Refuse, besides, a model without a class token."""
        architecture.require_class_token(self.method)
        return super().narrowed(architecture)

    def layout(self, draw: LayerDraw, places: tuple[int, ...]) -> Ats:
        """Make the layout of the draw's first ``n_layers`` slots."""
        k_ratio = draw.rates[: draw.n_layers]
        return Ats.parse({"in_attention": places, "k_ratio": k_ratio, "score": draw.settings["score"]})

    def fit(
        self, values: Mapping[str, ParameterValue], architecture: Architecture, target_gflops: float
    ) -> LayeredConfig:
        """Bring a draw onto the budget, as far as its guess goes.

        Where by that guess nothing in the space costs as little, the cheapest layout takes over.

        Raises:
            BudgetUnsatisfiable: certainly nothing in the space costs as little.
        """
        try:
            return super().fit(values, architecture, target_gflops)
        except BudgetUnsatisfiable:
            cheapest, _ = self.extremes(architecture)
            if cheapest.least_cost(architecture).gflops > target_gflops:
                raise
            return cheapest

    def kept(self, n_in: Array, slots: Slots, slot: int, architecture: Architecture) -> Array:
        """Guess how many patches the layers in one slot of all draws keep, see ``guessed_kept``."""
        n_token = architecture.n_prefix + architecture.n_patch
        n_levels = np.clip(slots.rates[:, slot] * n_token, _LEAST_K, n_token) - 1
        reach = slots.settings["spread"][:, 0] * n_levels
        kept: Array = np.clip(reach * -np.expm1(-n_in / reach), 1.0, n_levels)
        return kept

    def _gflops(self, layout: LayeredConfig, draw: LayerDraw, architecture: Architecture) -> float:
        return cast(Ats, layout).guessed_cost(architecture, draw.settings["spread"]).gflops
