"""Beyond Attentive Tokens: its layout, its integer token counts and overhead, and its space.

Source: Long, Zhao, Pi, Wang and Wang, "Beyond Attentive Tokens", CVPR 2023, arXiv:2211.11315. What the paper
leaves open is decided in docs/methods/bat.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from spaces.architecture import Architecture
from spaces.cost import StageCost
from spaces.domains import Choice, FloatRange, IntRange
from spaces.layer_draw import LayerDraw
from spaces.layered import FloatSetting, IntSetting, LayeredConfig, PrunesInside, per_layer
from spaces.layered_guesses import Slots
from spaces.layered_space import SpaceInside, share_above
from spaces.repair import smallest_power_that_fits

__all__ = ["Bat", "BatSpace", "BatStage"]

_DEFAULT_COUNT = 10  # clusters, and matched tokens, of a layer that says nothing about them
_WELL_SPENT = 0.995  # a repair that leaves more of the budget looks once more

Array = npt.NDArray[np.float64]
Count = Annotated[int, Field(ge=0)]
ClusterRatio = Annotated[float, Field(ge=0, le=1)]
MatchRatio = Annotated[float, Field(ge=0, le=0.5)]


@dataclass(frozen=True)
class BatStage(StageCost):
    """One pruning layer in integers.

    Attributes:
        n_attentive: patch tokens to which the class token attends most.
        n_matched: of these, the tokens that go into a similar one.
        n_clusters: tokens that the inattentive ones go into; none of them stays where it is 0.
    """

    n_attentive: int = 0
    n_matched: int = 0
    n_clusters: int = 0

    @property
    def n_inattentive(self) -> int:
        """Patch tokens that are not attentive."""
        return self.n_in - self.n_attentive

    @property
    def compares_inattentive(self) -> bool:
        """Whether distances decide their clusters: one cluster takes all, and as many as tokens take one each."""
        return 1 < self.n_clusters < self.n_inattentive


class Bat(PrunesInside):
    """A BAT layout. The defaults are those closest to the authors' published GFLOPs.

    The attentive tokens, ceil(rate * patches), stay, but some of them go into a similar one; the others go into
    clusters. ``keep_rate`` is the paper's rho. A layer that would leave as many tokens as enter does nothing, and
    so does one at rate 1. The paper prunes inside blocks 4, 7 and 10 of a DeiT, 4, 8 and 12 of LV-ViT-S.

    Attributes:
        c_num: clusters in each layer, at most the inattentive tokens; 0 drops these. ``None``: as ``c_ratio`` says,
            or else 10, at most half of the attentive tokens.
        c_ratio: clusters as a share of the inattentive tokens, rounded up.
        p: attentive tokens that go into another, at most half of them (or half of ``n_in - c_num``, where clusters
            are more than inattentive tokens). ``None``: as ``p_ratio`` says, or else 10, at most the inattentive ones.
        p_ratio: the same as a share of the attentive tokens, rounded down.
        knn: nearest tokens, itself among them, whose distances give a token's density ``knn``.
        density: over the nearest tokens, or over all, on the scale of the median distance (``gauss``).
        match: partners from every second rank (``bipartite``; several tokens may share one), or one after the other
            the most similar pair of tokens that are in none (``greedy``).
        merge_weight: what a token weighs in the one that it goes into: its class attention, or the same for all.
        merge_norm: whether the weights in a token sum to 1.
    """

    summary: ClassVar[str] = "merges what the class token overlooks into clusters, and alike attentive tokens"
    paper: ClassVar[str] = "2211.11315"

    method: Literal["bat"] = "bat"
    c_num: tuple[Count, ...] | Count | None = None
    c_ratio: tuple[ClusterRatio, ...] | ClusterRatio | None = None
    p: tuple[Count, ...] | Count | None = None
    p_ratio: tuple[MatchRatio, ...] | MatchRatio | None = None
    knn: Annotated[int, Field(ge=1)] = 5
    density: Literal["knn", "gauss"] = "knn"
    match: Literal["bipartite", "greedy"] = "bipartite"
    merge_weight: Literal["cls", "uniform"] = "cls"
    merge_norm: bool = True

    @model_validator(mode="after")
    def _a_number_or_a_ratio(self) -> Bat:
        for number, ratio in (("c_num", "c_ratio"), ("p", "p_ratio")):
            given = getattr(self, number), getattr(self, ratio)
            if None not in given:
                raise ValueError(f"{number} and {ratio} say the same: give one, got {given[0]} and {given[1]}")
        return self

    def stages(self, architecture: Architecture) -> list[BatStage]:
        """Work out the integer token counts and the overhead of every pruning layer.

        Raises:
            InvalidInput: a layer lies beyond the model's depth.
            UnsupportedModel: the model has no class token.
        """
        self.check_layers(architecture)
        architecture.require_class_token(self.method)
        stages = []
        n_patch = architecture.n_patch
        for index in range(len(self.inside)):
            stage = self._stage(index, n_patch, architecture.dim)
            stages.append(stage)
            n_patch = stage.n_out
        return stages

    def effect(self, architecture: Architecture) -> dict[str, Any]:
        """Describe what the model will do: layers that remove tokens, and the settings that decide which."""
        active = [stage for stage in self.stages(architecture) if stage.n_out < stage.n_in]
        comparing = [stage for stage in active if stage.compares_inattentive]
        effect: dict[str, Any] = {
            "method": self.method,
            "layers": [[s.block, s.n_in, s.n_attentive, s.n_matched, s.n_clusters] for s in active],
        }
        names = ["density"] if comparing else []
        if comparing and self.density == "knn":
            effect["knn"] = [min(self.knn, stage.n_inattentive) for stage in comparing]
        if any(stage.n_matched for stage in active):
            names.append("match")
        if any(stage.n_matched or stage.n_clusters for stage in active):
            names += ["merge_weight", "merge_norm"]
        return effect | {name: getattr(self, name) for name in names}

    def _stage(self, index: int, n_in: int, dim: int) -> BatStage:
        # Floating-point artefacts included, as in EViT's code: ceil(0.07 * 100) is 8.
        n_attentive = min(max(math.ceil(self.keep_rate[index] * n_in), self.min_tokens), n_in)
        n_inattentive = n_in - n_attentive
        n_asked = self._clusters_asked_for(index, n_attentive, n_inattentive)
        n_clusters = min(n_asked, n_inattentive)
        # Where inattentive tokens are fewer than clusters, a lower rate adds clusters: half of more and more attentive
        # tokens besides would make a higher rate the cheaper one.
        n_pairable = max(0, min(n_attentive, n_in - n_asked))
        n_matched = self._n_matched(index, n_pairable, n_inattentive) if n_inattentive else 0
        n_matched = min(n_matched, n_attentive + n_clusters - self.min_tokens)
        n_out = n_attentive - n_matched + n_clusters
        stage = BatStage(
            block=self.inside[index],
            n_in=n_in,
            n_out=n_out,
            where="inside",
            n_attentive=n_attentive,
            n_matched=n_matched,
            n_clusters=n_clusters,
        )
        return replace(stage, overhead_macs=self._comparisons(stage) * dim) if n_out < n_in else stage

    def _clusters_asked_for(self, index: int, n_attentive: int, n_inattentive: int) -> int:
        if self.c_num is not None:
            return per_layer(self.c_num, index)
        if self.c_ratio is not None:
            return math.ceil(per_layer(self.c_ratio, index) * n_inattentive)
        return min(_DEFAULT_COUNT, n_attentive // 2)

    def _n_matched(self, index: int, n_pairable: int, n_inattentive: int) -> int:
        if self.p is not None:
            return min(per_layer(self.p, index), n_pairable // 2)
        if self.p_ratio is not None:
            return int(per_layer(self.p_ratio, index) * n_pairable)
        return min(_DEFAULT_COUNT, n_inattentive, n_pairable // 2)

    def _comparisons(self, stage: BatStage) -> int:
        """Count the products of two tokens: distances between inattentive, similarities between attentive ones."""
        n = stage.n_inattentive**2 if stage.compares_inattentive else 0
        if not stage.n_matched:
            return n
        n_sources = stage.n_attentive // 2
        return n + (stage.n_attentive**2 if self.match == "greedy" else n_sources * (stage.n_attentive - n_sources))


class BatSpace(SpaceInside):
    """The layouts of BAT that a search may try.

    The preset ``paper`` has three layers, as the paper, and varies what it leaves open or tunes: where they lie, their
    keep rates, clusters and matched tokens. ``full`` varies every setting.
    """

    method: Literal["bat"] = "bat"
    n_layers: IntRange | int = 3
    keep_rate: FloatSetting = FloatRange(low=0.2, high=1.0)
    c_num: IntSetting | None = IntRange(low=1, high=40)
    p: IntSetting | None = IntRange(low=0, high=40)
    knn: IntRange | int = 5
    density: Choice | Literal["knn", "gauss"] = "knn"
    match: Choice | Literal["bipartite", "greedy"] = "bipartite"
    merge_weight: Choice | Literal["cls", "uniform"] = "cls"
    merge_norm: Choice | bool = True

    layer_settings: ClassVar[tuple[str, ...]] = ("c_num", "p")
    count_settings: ClassVar[tuple[str, ...]] = ("p",)
    rest_settings: ClassVar[tuple[str, ...]] = ("c_num",)
    layout_settings: ClassVar[tuple[str, ...]] = ("knn", "density", "match", "merge_weight", "merge_norm")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "full": {
            "n_layers": IntRange(low=1, high=8),
            "knn": IntRange(low=1, high=10),
            "density": Choice(values=("knn", "gauss")),
            "match": Choice(values=("bipartite", "greedy")),
            "merge_weight": Choice(values=("cls", "uniform")),
            "merge_norm": Choice(values=(True, False)),
        },
    }

    def narrowed(self, architecture: Architecture) -> Self:
        """Refuse, besides, a model without a class token."""
        architecture.require_class_token(self.method)
        return super().narrowed(architecture)

    def layout(self, draw: LayerDraw, places: tuple[int, ...]) -> Bat:
        """Make the layout of the draw's first ``n_layers`` slots."""
        n = draw.n_layers
        of_layers = {
            name: None if getattr(self, name) is None else draw.settings[name][:n] for name in self.layer_settings
        }
        values = {**draw.settings, **of_layers, "inside": places, "keep_rate": draw.rates[:n]}
        return Bat.parse(values | {"min_tokens": self.min_tokens})

    def kept(self, n_in: Array, slots: Slots, slot: int, architecture: Architecture) -> Array:
        """Guess how many tokens the layers in one slot of all draws leave, clusters included."""
        attentive = slots.rates[:, slot] * n_in
        of_layers = {name: slots.settings[name][:, slot] for name in self.layer_settings if name in slots.settings}
        asked = of_layers.get("c_num", _DEFAULT_COUNT)
        clusters = np.minimum(asked, n_in - attentive)
        matched = np.clip(np.minimum(attentive, n_in - asked) / 2, 0.0, of_layers.get("p", _DEFAULT_COUNT))
        return np.maximum(attentive + clusters - matched, 1.0)

    def _matched(self, draw: LayerDraw, architecture: Architecture, target_gflops: float) -> LayeredConfig | None:
        """Spend, besides, what is left over by a layer that matches all its ``p`` as soon as its rate is below 1."""
        layout = super()._matched(draw, architecture, target_gflops)
        p = self.p
        if (
            layout is None
            or not isinstance(p, IntRange)
            or layout.cost(architecture).gflops >= _WELL_SPENT * target_gflops
        ):
            return layout

        def with_matched(share: float) -> LayeredConfig:
            return layout.model_copy(update={"p": share_above(p, layout.model_dump()["p"], share)})

        def fits(share: float) -> bool:
            return with_matched(share).cost(architecture).gflops <= target_gflops

        share = smallest_power_that_fits(fits)
        return layout if share is None else with_matched(share)
