"""Top-k by class attention (EViT): its layout, its integer token counts, and its space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from spaces.architecture import Architecture
from spaces.cost import StageCost
from spaces.domains import Choice, FloatRange, IntRange
from spaces.layer_draw import LayerDraw
from spaces.layered import FloatSetting, PrunesInside
from spaces.layered_space import SpaceInside

__all__ = ["CLSTopK", "CLSTopKSpace", "CLSTopKStage"]


@dataclass(frozen=True)
class CLSTopKStage(StageCost):
    """One pruning layer in integers.

    Attributes:
        n_kept: patch tokens that stay as they are. A fused token comes on top of them.
    """

    n_kept: int = 0


class CLSTopK(PrunesInside):
    """A layout that keeps ceil(rate * patches) tokens, those that the class token attends to most.

    A layer that keeps every patch does nothing and fuses nothing.

    Attributes:
        fuse: add one token, the sum of the dropped ones by the attention they received. It comes last, and later
            layers rank, keep or drop it as any patch.
        fuse_norm: let the weights of that sum be a mean's. EViT, whose models are trained with the fused token,
            leaves them as they are, which gives a model that never saw it a token much too short.
        head_reduce: over heads: mean or maximum.
        query: whose attention ranks: the class token's, or the mean over all prefix tokens.

    Source: Liang et al. 2022, "Not all patches are what you need: expediting vision transformers via token
    reorganizations" (EViT), arXiv:2202.07800, and its code, without the training. The distillation token is never
    ranked here; there it is ranked, and can be dropped, as a patch.
    """

    summary: ClassVar[str] = "keeps what the class token attends to, and may fuse the rest into one token (EViT)"
    paper: ClassVar[str] = "2202.07800"

    method: Literal["cls_topk"] = "cls_topk"
    fuse: bool = True
    fuse_norm: bool = True
    head_reduce: Literal["mean", "max"] = "mean"
    query: Literal["cls", "prefix"] = "cls"

    def stages(self, architecture: Architecture) -> list[CLSTopKStage]:
        """Work out the integer token counts of every pruning layer; the attention is there, so ranking costs nothing.

        Raises:
            InvalidInput: a layer lies beyond the model's depth.
            UnsupportedModel: the model has no class token.
        """
        self.check_layers(architecture)
        architecture.require_class_token(self.method)
        stages: list[CLSTopKStage] = []
        n_patch = architecture.n_patch
        for block, rate in zip(self.inside, self.keep_rate, strict=True):
            # Floating-point artefacts included, as in EViT's code.
            n_kept = min(max(math.ceil(rate * n_patch), self.min_tokens), n_patch)
            n_out = n_kept + int(self.fuse and n_kept < n_patch)
            stages.append(CLSTopKStage(block=block, n_in=n_patch, n_out=n_out, where="inside", n_kept=n_kept))
            n_patch = n_out
        return stages

    def effect(self, architecture: Architecture) -> dict[str, Any]:
        """Describe the layers that drop tokens, and the settings that decide which and what becomes of them."""
        active = [stage for stage in self.stages(architecture) if stage.n_kept < stage.n_in]
        effect: dict[str, Any] = {"method": self.method, "layers": [[s.block, s.n_in, s.n_kept] for s in active]}
        if not active:
            return effect
        names = ["fuse", "head_reduce"]
        names += ["fuse_norm"] if self.fuse else []
        names += ["query"] if architecture.n_prefix > 1 else []
        return effect | {name: getattr(self, name) for name in names}


class CLSTopKSpace(SpaceInside):
    """The layouts of top-k by class attention that a search may try.

    The preset ``paper`` has EViT's three layers and varies their positions (EViT: 4, 7 and 10), their keep rates
    (EViT: one for all) and fusing. ``full`` varies every setting.
    """

    method: Literal["cls_topk"] = "cls_topk"
    n_layers: IntRange | int = 3
    keep_rate: FloatSetting = FloatRange(low=0.2, high=1.0)
    fuse: Choice | bool = Choice(values=(True, False))
    fuse_norm: Choice | bool = True
    head_reduce: Choice | Literal["mean", "max"] = "mean"
    query: Choice | Literal["cls", "prefix"] = "cls"

    layout_settings: ClassVar[tuple[str, ...]] = ("fuse", "fuse_norm", "head_reduce", "query")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "full": {
            "n_layers": IntRange(low=1, high=8),
            "fuse_norm": Choice(values=(True, False)),
            "head_reduce": Choice(values=("mean", "max")),
            "query": Choice(values=("cls", "prefix")),
        },
    }

    def narrowed(self, architecture: Architecture) -> Self:
        """Refuse, besides, a model without a class token."""
        architecture.require_class_token(self.method)
        return super().narrowed(architecture)

    def layout(self, draw: LayerDraw, places: tuple[int, ...]) -> CLSTopK:
        """Make the layout of the draw's first ``n_layers`` slots."""
        layers = {"inside": places, "keep_rate": draw.rates[: draw.n_layers], "min_tokens": self.min_tokens}
        return CLSTopK.parse({**draw.settings, **layers})
