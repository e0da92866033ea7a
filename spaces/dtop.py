"""DToP: tokens whose class an early head is sure of are finished there. Its layout, and what an image costs.

Source: Tang et al. 2023, "Dynamic Token Pruning in Plain Vision Transformers for Semantic Segmentation",
arXiv:2308.01045, and its code for what the paper leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from spaces.architecture import Architecture
from spaces.base import PruningConfig
from spaces.cost import Cost, StageCost, cost_of
from spaces.errors import InvalidInput, UnsupportedModel
from spaces.layered import Places, per_layer

__all__ = ["DToP", "Merge", "Rule"]

Confidence = Annotated[float, Field(gt=0, le=1)]
Rule = Literal["topk", "remove", "average", "fixed_ratio"]
Merge = Literal["official", "exit_stage"]


class DToP(PruningConfig):
    """A layout that grades tokens with early heads and finishes the easy ones.

    A token is easy where the head is surer of a class than ``p0``. It leaves, and its patch keeps what that head said.

    Attributes:
        after: blocks executed before each head that grades, increasing; never the last head, whose word is final.
        p0: how sure is sure, for all heads or for each; 1 lets nothing go.
        k: with rule ``topk``, how many of a class's easy tokens stay as context, the surest; all, if there are fewer.
        rule: what of the easy tokens stays: ``topk``; nothing (``remove``); their mean, one token for each class
            (``average``). ``fixed_ratio`` finishes a share of the tokens, the surest, whatever ``p0``.
        ratio: that share, with ``fixed_ratio``.
        merge: whose class probabilities weigh a finished token's masks, with heads that have any (atm): the last
            head's (``official``, as the code does it) or its own head's (``exit_stage``).
    """

    summary: ClassVar[str] = "finishes tokens whose class an early head is sure of, and keeps a few of each as context"
    paper: ClassVar[str] = "2308.01045"
    cost_is_measured: ClassVar[bool] = True
    predicts_every_patch: ClassVar[bool] = True

    method: Literal["dtop"] = "dtop"
    after: Places
    p0: tuple[Confidence, ...] | Confidence = 0.95
    k: Annotated[int, Field(ge=0)] = 5
    rule: Rule = "topk"
    ratio: Annotated[float, Field(ge=0, le=1)] = 0.35
    merge: Merge = "official"

    @model_validator(mode="after")
    def _one_value_a_head(self) -> DToP:
        if isinstance(self.p0, tuple) and len(self.p0) != len(self.after):
            raise ValueError(
                f"p0 must give one value for each of the {len(self.after)} heads that grade, got {list(self.p0)}"
            )
        return self

    def require_heads(self, architecture: Architecture) -> None:
        """Refuse a model without heads, and grading where it has none.

        Raises:
            UnsupportedModel: it is no segmenter.
            InvalidInput: naming the head that is missing, and those that are there.
        """
        if not architecture.heads:
            raise UnsupportedModel(
                f"dtop cannot prune {architecture.name}: it grades tokens by the segmentation heads of early stages, "
                f"and this model has none"
            )
        *early, last = [head.after for head in architecture.heads]
        there = ", ".join(map(str, early)) or "none"
        for after in self.after:
            if after == last:
                raise InvalidInput(
                    f"the layout grades after block {after}, where the last head of {architecture.name} has the final "
                    f"word: the heads that can grade are after {there}"
                )
            if after not in early:
                raise InvalidInput(
                    f"the layout grades after block {after}, but {architecture.name} has no head there: the heads "
                    f"that can grade are after {there}"
                )

    def stages(self, architecture: Architecture) -> list[StageCost]:
        """Work out the most tokens that can stay at each head that grades, with the head's work as overhead.

        Raises:
            UnsupportedModel: the model has no heads.
            InvalidInput: it has none where the layout grades.
        """
        return self._stages(architecture, self._most_kept(architecture.n_patch))

    def least_cost(self, architecture: Architecture) -> Cost:
        """Count the least that an image can cost: every token is easy, and of one class."""
        kept = self._most_kept(architecture.n_patch)
        if self.rule != "fixed_ratio":
            kept = [min(self._least_left(), most) for most in kept]
        return self.cost_of_image(architecture, kept)

    def cost_of_image(self, architecture: Architecture, n_kept: Sequence[int]) -> Cost:
        """Count what one image costs, of which each head that grades kept so many tokens.

        Args:
            architecture: of the model.
            n_kept: for each place of ``after``, tokens that went on, prefix not counted, context included.
        """
        return cost_of(architecture, self._stages(architecture, n_kept))

    def effect(self, architecture: Architecture) -> dict[str, Any]:
        """Describe where is graded, and what decides who leaves and what it leaves behind."""
        self.require_heads(architecture)
        effect: dict[str, Any] = {"method": self.method, "after": list(self.after)}
        if not self.after:
            return effect
        rule = "remove" if self.rule == "topk" and self.k == 0 else self.rule
        effect["rule"] = rule
        if rule == "fixed_ratio":
            effect["kept"] = self._most_kept(architecture.n_patch)
        else:
            effect["p0"] = [per_layer(self.p0, index) for index in range(len(self.after))]
        if rule == "topk":
            effect["k"] = self.k
        if architecture.heads[0].kind == "atm":
            effect["merge"] = self.merge
        return effect

    def _stages(self, architecture: Architecture, n_kept: Sequence[int]) -> list[StageCost]:
        self.require_heads(architecture)
        heads = {head.after: head for head in architecture.heads}
        stages, n = [], architecture.n_patch
        for after, n_out in zip(self.after, n_kept, strict=True):
            work = heads[after].macs(n, dim=architecture.dim, n_classes=architecture.n_classes)
            stages.append(StageCost(block=after, n_in=n, n_out=n_out, overhead_macs=work))
            n = n_out
        return stages

    def _most_kept(self, n: int) -> list[int]:
        """Say how many tokens stay at most behind each head that grades, of ``n`` patches."""
        kept = []
        for _ in self.after:
            if self.rule == "fixed_ratio":
                n -= int(n * self.ratio)
            kept.append(n)
        return kept

    def _least_left(self) -> int:
        return {"topk": self.k, "remove": 0, "average": 1}[self.rule]
