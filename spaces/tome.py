"""ToMe: its layout, its schedule in integers, its token counts and overhead.

Source: Bolya et al. 2023, "Token merging: your ViT but faster", arXiv:2210.09461, and its code.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from spaces.architecture import Architecture
from spaces.base import PruningConfig
from spaces.cost import StageCost
from spaces.errors import InvalidInput

__all__ = ["MetricFeature", "ToMe"]

Count = Annotated[int, Field(ge=0)]
MetricFeature = Literal["key", "query", "x"]


class ToMe(PruningConfig):
    """A layout that merges patches which are alike, a few inside each block.

    In no block more than half of the patches are merged, whatever ``r`` says.

    Attributes:
        r: patches that each block from ``start_block`` on merges into others. A list says it for each block from
            the first; blocks beyond its end merge none.
        inflection: from -1 to 1, bends a whole number ``r``: from r * (1 - inflection) in the first merging block
            along a line to r * (1 + inflection) in the last, each rounded down.
        start_block: the first block that merges, from 1.
        prop_attn: let blocks behind a merge attend to a token as often as it stands for patches (proportional
            attention, which ToMe leaves out for MAE models).
        metric_feature: what is compared: keys or queries, averaged over heads, or the tokens behind the attention.
    """

    summary: ClassVar[str] = "merges the most alike tokens of each block, two sets matched with each other"
    paper: ClassVar[str] = "2210.09461"

    method: Literal["tome"] = "tome"
    r: tuple[Count, ...] | Count
    inflection: Annotated[float, Field(ge=-1, le=1)] = 0.0
    start_block: Annotated[int, Field(ge=1)] = 1
    prop_attn: bool = True
    metric_feature: MetricFeature = "key"

    @model_validator(mode="after")
    def _says_it_once(self) -> ToMe:
        if isinstance(self.r, tuple) and (self.inflection, self.start_block) != (0, 1):
            raise ValueError(
                f"a list r says what each block merges, so inflection and start_block must be left out, got "
                f"inflection={self.inflection}, start_block={self.start_block}"
            )
        return self

    def schedule(self, depth: int) -> tuple[int, ...]:
        """Say how many patches each of ``depth`` blocks is to merge, before the limit of half of them.

        >>> ToMe(r=8, inflection=-1).schedule(5)
        (16, 12, 8, 4, 0)
        >>> ToMe(r=8, start_block=3).schedule(5)
        (0, 0, 8, 8, 8)

        Raises:
            InvalidInput: the layout merges in blocks that there are not.
        """
        last = len(self.r) if isinstance(self.r, tuple) else self.start_block
        if last > depth:
            raise InvalidInput(f"the layout merges in block {last}, but there are only {depth} blocks")
        if isinstance(self.r, tuple):
            return self.r + (0,) * (depth - last)
        n_merging = depth - last + 1
        if n_merging == 1:
            return (0,) * (last - 1) + (self.r,)  # no line through one point
        first = int(self.r * (1 - self.inflection))
        step = 2 * (self.r - first) / (n_merging - 1)
        return (0,) * (last - 1) + tuple(int(first + step * index) for index in range(n_merging))

    def stages(self, architecture: Architecture) -> list[StageCost]:
        """Work out the integer token counts of the blocks that merge, and what comparing costs.

        Raises:
            InvalidInput: the layout merges in blocks that the model does not have.
        """
        stages = []
        n_patch = architecture.n_patch
        for block, r in enumerate(self.schedule(architecture.depth), start=1):
            if n_merged := min(r, n_patch // 2):
                overhead = self._comparison_macs(n_patch, architecture)
                stages.append(StageCost(block, n_patch, n_patch - n_merged, overhead, "inside"))
                n_patch -= n_merged
        return stages

    def effect(self, architecture: Architecture) -> dict[str, Any]:
        """Describe the blocks that merge, and the settings that decide what."""
        layers = [[stage.block, stage.n_in, stage.n_out] for stage in self.stages(architecture)]
        effect: dict[str, Any] = {"method": self.method, "layers": layers}
        if layers:
            effect["metric_feature"] = self.metric_feature
        if any(block < architecture.depth for block, _, _ in layers):  # no block attends to what the last one merged
            effect["prop_attn"] = self.prop_attn
        return effect

    def _comparison_macs(self, n_patch: int, architecture: Architecture) -> int:
        n_token = architecture.n_prefix + n_patch
        head_dim = architecture.attention_dim // architecture.n_heads
        dim = architecture.dim if self.metric_feature == "x" else head_dim
        return (n_token - n_token // 2) * (n_token // 2) * dim
