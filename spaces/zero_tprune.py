"""Zero-TPrune: its layout, its integer token counts and overhead, and its space.

Source: Wang, Dedhia and Jha, "Zero-TPrune", CVPR 2024, arXiv:2305.17328. What the paper leaves open is
decided in docs/methods/zero_tprune.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from spaces.architecture import Architecture
from spaces.cost import StageCost
from spaces.domains import Choice, FloatRange, IntRange, bounds
from spaces.errors import UnsupportedModel
from spaces.layer_draw import LayerDraw
from spaces.layered import FloatSetting, IntSetting, PrunesAfter, per_layer
from spaces.layered_space import SpaceAfter

__all__ = ["ZeroTPrune", "ZeroTPruneSpace", "ZeroTPruneStage"]

Feature = Literal["key", "query", "value", "x_pre", "x"]
Partition = Literal["sequential_u", "sequential_i", "alternate", "random", "none"]
Similarity = Literal[
    "cosine", "dot", "minkowski1", "minkowski2", "minkowski3", "minkowski4", "minkowski5", "minkowski_inf"
]
Iterations = Annotated[int, Field(ge=1, le=1000)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class ZeroTPruneStage(StageCost):
    """One pruning layer in integers.

    Attributes:
        n_similar: patch tokens that the S stage removes.
        n_important: patch tokens that the I stage keeps of those it sees; all of them where it is idle.
        iterations: votes of the I stage's page rank; 0 where it is not run.
    """

    n_similar: int = 0
    n_important: int = 0
    iterations: int = 0


class ZeroTPrune(PrunesAfter):
    """A Zero-TPrune layout. The defaults are the paper's, for classification.

    Attributes:
        iterations: votes of the weighted page rank (WPR) in each layer's I stage. ``None``: 30 in the first
            quarter of the blocks, 1 in the last, 5 between.
        s: patch tokens that each layer's S stage removes for being similar to another; 0 leaves the I' and S
            stages out.
        feature: what the S stage compares, over all heads: a projection of the block's attention, or the
            tokens before (``x_pre``) or after (``x``) the block.
        partition: which half of the ranked tokens may go: the less important (``sequential_u``), the more
            important, every second, a random half, or all.
        similarity: how two features are compared; Minkowski distances are negated.
        cls_init: weight of the prefix tokens in the first vote: sqrt(N) times a patch's, or the same
            (``uniform``: Zero-TPrune-uni).
        head_agg: over heads: root of the sum of squares (``eir``), mean or maximum.
        vhf: leave out heads whose scores vary less than ``v_min`` or more than ``v_max``.
        vhf_scale: scale on which that variance is taken: patch scores with mean 1, with sum 1, or as they are.
        order: I' stage, S stage, I stage; or I stage, S stage.
        rounding: patch tokens kept: floor(rate * patches), or round(rate * all tokens) less the prefix.
        k_base: what the rate is taken of: the patches that enter, with S's removals on top, or those left by S.
        temperature: sharpens (below 1) or flattens the attention that votes.
        seed: of the ``random`` partition.
    """

    method: Literal["zero_tprune"] = "zero_tprune"
    iterations: tuple[Iterations, ...] | Iterations | None = None
    s: tuple[Count, ...] | Count = 10
    feature: Feature = "key"
    partition: Partition = "sequential_u"
    similarity: Similarity = "cosine"
    cls_init: Literal["sqrt_n", "uniform"] = "sqrt_n"
    head_agg: Literal["eir", "mean", "max"] = "eir"
    vhf: bool = True
    v_min: Positive = 0.01
    v_max: Positive = 0.7
    vhf_scale: Literal["mean1", "sum1", "none"] = "mean1"
    order: Literal["I'-S-I", "I-S"] = "I'-S-I"
    rounding: Literal["floor_patch", "round_total"] = "floor_patch"
    k_base: Literal["n_in", "after_s"] = "n_in"
    temperature: Positive = 1.0
    seed: int = 0

    summary: ClassVar[str] = "drops what few tokens attend to (page rank over attention) and what is like another token"
    paper: ClassVar[str] = "2305.17328"

    @model_validator(mode="after")
    def _thresholds_ordered(self) -> ZeroTPrune:
        if not self.v_min < self.v_max:
            raise ValueError(f"v_min < v_max must hold, got v_min={self.v_min}, v_max={self.v_max}")
        return self

    def stages(self, architecture: Architecture) -> list[ZeroTPruneStage]:
        """Work out the integer token counts and the overhead of every pruning layer.

        Raises:
            InvalidInput: a layer lies beyond the model's depth.
            UnsupportedModel: the first vote favours a class token, and the model has none.
        """
        self.check_layers(architecture)
        if self.cls_init == "sqrt_n" and not architecture.has_class_token:
            raise UnsupportedModel(
                f"{architecture.name} has no class token, which cls_init=sqrt_n needs: use cls_init=uniform "
                f"(Zero-TPrune-uni)"
            )
        stages = []
        n_patch = architecture.n_patch
        for index in range(len(self.after)):
            stage = self._stage(index, n_patch, architecture)
            stages.append(stage)
            n_patch = stage.n_out
        return stages

    def effect(self, architecture: Architecture) -> dict[str, Any]:
        """Describe what the model will do: layers that remove tokens, and the settings that decide which."""
        active = [stage for stage in self.stages(architecture) if stage.n_out < stage.n_in]
        effect: dict[str, Any] = {
            "method": self.method,
            "layers": [[stage.block, stage.n_in, stage.n_out, stage.n_similar, stage.iterations] for stage in active],
        }
        if not active:
            return effect
        names = ["cls_init"] if architecture.n_prefix else []
        names += ["head_agg", "temperature"]
        names += ["v_min", "v_max", "vhf_scale"] if self.vhf else []
        if any(stage.n_similar for stage in active):
            names += ["feature", "partition", "similarity", "order"]
            names += ["seed"] if self.partition == "random" else []
        return effect | {name: getattr(self, name) for name in names}

    def _stage(self, index: int, n_in: int, architecture: Architecture) -> ZeroTPruneStage:
        after, s = self.after[index], per_layer(self.s, index)
        importance_first = self.order == "I-S"
        base = n_in - min(s, n_in) if self.k_base == "after_s" else n_in
        n_kept = self._kept(base, self.keep_rate[index], architecture.n_prefix)
        if self.k_base == "after_s":
            n_kept += min(s, n_in)  # n_kept counts S's tokens as if they still had to leave

        if importance_first:
            n_important = self._at_least_one(n_kept, most=n_in)
            n_similar = self._removable(s, n_important)
            n_out = n_important - n_similar
            n_voters, n_compared = n_in, n_important
        else:
            n_similar = self._removable(s, n_in)
            n_out = n_important = self._at_least_one(n_kept - s, most=n_in - n_similar)
            n_voters, n_compared = n_in - n_similar, n_in

        # Without an I stage nothing is ranked by it, but in order I-S its ranking still guides the S stage.
        ranks = n_important < n_voters or (importance_first and n_similar > 0)
        iterations = self._iterations(index, after, architecture.depth) if ranks else 0
        votes = iterations * (architecture.n_prefix + n_voters) ** 2
        if n_similar and not importance_first:
            votes += (architecture.n_prefix + n_in) ** 2  # the I' stage's single vote
        overhead = architecture.n_heads * votes
        if n_similar:
            overhead += self._comparison_macs(n_compared, architecture)
        return ZeroTPruneStage(
            block=after,
            n_in=n_in,
            n_out=n_out,
            overhead_macs=overhead,
            n_similar=n_similar,
            n_important=n_important,
            iterations=iterations,
        )

    def _kept(self, n_patch: int, rate: float, n_prefix: int) -> int:
        # Floating-point artefacts included: int(100 * 0.29) is 28 in the authors' code too.
        if self.rounding == "round_total":
            return round(rate * (n_patch + n_prefix)) - n_prefix
        return int(n_patch * rate)

    def _at_least_one(self, n_kept: int, *, most: int) -> int:
        return min(max(n_kept, self.min_tokens), most)

    def _removable(self, s: int, n_patch: int) -> int:
        n_candidates = n_patch if self.partition == "none" else n_patch // 2
        return max(0, min(s, n_candidates, n_patch - self.min_tokens))

    def _iterations(self, index: int, after: int, depth: int) -> int:
        if self.iterations is not None:
            return per_layer(self.iterations, index)
        if after < depth / 4:
            return 30
        return 1 if after >= 3 * depth / 4 else 5

    def _comparison_macs(self, n_patch: int, architecture: Architecture) -> int:
        if self.similarity.startswith("minkowski"):
            return 0  # a distance is no matrix product, and fvcore counts none
        dim = architecture.dim if self.feature in ("x", "x_pre") else architecture.attention_dim
        if self.partition == "none":
            return n_patch * n_patch * dim
        return (n_patch // 2) * (n_patch - n_patch // 2) * dim


class ZeroTPruneSpace(SpaceAfter):
    """The layouts of Zero-TPrune that a search may try.

    The preset ``paper`` varies what the paper's Monte-Carlo simulation varies: number and positions of the
    layers, keep rates, iterations, and the tokens of each S stage. ``full`` varies every setting.
    """

    method: Literal["zero_tprune"] = "zero_tprune"
    iterations: IntSetting | None = IntRange(low=1, high=50, log=True)
    s: IntSetting = IntRange(low=0, high=30)
    feature: Choice | Feature = "key"
    partition: Choice | Partition = "sequential_u"
    similarity: Choice | Similarity = "cosine"
    cls_init: Choice | Literal["sqrt_n", "uniform"] = "sqrt_n"
    head_agg: Choice | Literal["eir", "mean", "max"] = "eir"
    vhf: Choice | bool = True
    v_min: FloatSetting = 0.01
    v_max: FloatSetting = 0.7
    vhf_scale: Choice | Literal["mean1", "sum1", "none"] = "mean1"
    order: Choice | Literal["I'-S-I", "I-S"] = "I'-S-I"
    rounding: Choice | Literal["floor_patch", "round_total"] = "floor_patch"
    k_base: Choice | Literal["n_in", "after_s"] = "n_in"
    temperature: FloatSetting = 1.0
    seed: int = 0

    layer_settings: ClassVar[tuple[str, ...]] = ("iterations", "s")
    count_settings: ClassVar[tuple[str, ...]] = ("s",)
    layout_settings: ClassVar[tuple[str, ...]] = (
        "feature",
        "partition",
        "similarity",
        "cls_init",
        "head_agg",
        "vhf",
        "v_min",
        "v_max",
        "vhf_scale",
        "order",
        "rounding",
        "k_base",
        "temperature",
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "full": {
            "n_layers": IntRange(low=1, high=8),
            "feature": Choice(values=("key", "query", "value", "x_pre", "x")),
            "partition": Choice(values=("sequential_u", "sequential_i", "alternate", "random", "none")),
            "similarity": Choice(
                values=("cosine", "dot", *(f"minkowski{p}" for p in (1, 2, 3, 4, 5, "_inf"))),
            ),
            "cls_init": Choice(values=("sqrt_n", "uniform")),
            "head_agg": Choice(values=("eir", "mean", "max")),
            "vhf": Choice(values=(True, False)),
            "v_min": FloatRange(low=1e-3, high=0.299, log=True),
            "v_max": FloatRange(low=0.3, high=20.0, log=True),
            "order": Choice(values=("I'-S-I", "I-S")),
            "rounding": Choice(values=("floor_patch", "round_total")),
            "k_base": Choice(values=("n_in", "after_s")),
        },
    }

    def narrowed(self, architecture: Architecture) -> Self:
        """Leave out, besides, the class token's weight where the model has no class token."""
        space = super().narrowed(architecture)
        if architecture.has_class_token or self.cls_init == "uniform":
            return space
        if isinstance(self.cls_init, Choice) and "uniform" in self.cls_init.values:
            return space.model_copy(update={"cls_init": "uniform"})
        raise UnsupportedModel(
            f"{architecture.name} has no class token, which cls_init=sqrt_n needs: set cls_init=uniform "
            f"(Zero-TPrune-uni)"
        )

    @model_validator(mode="after")
    def _thresholds_apart(self) -> ZeroTPruneSpace:
        _, most = bounds(self.v_min if not isinstance(self.v_min, tuple) else max(self.v_min))
        least, _ = bounds(self.v_max if not isinstance(self.v_max, tuple) else min(self.v_max))
        if not most < least:
            raise ValueError(f"v_min must stay below v_max wherever both may lie, got up to {most} and from {least}")
        return self

    def layout(self, draw: LayerDraw, places: tuple[int, ...]) -> ZeroTPrune:
        """Make the layout of the draw's first ``n_layers`` slots."""
        n = draw.n_layers
        settings = dict(draw.settings)
        iterations = settings.pop("iterations")
        return ZeroTPrune.parse(
            settings
            | {
                "after": places,
                "keep_rate": draw.rates[:n],
                "iterations": None if iterations[0] is None else iterations[:n],
                "s": settings["s"][:n],
                "seed": self.seed,
                "min_tokens": self.min_tokens,
            }
        )
