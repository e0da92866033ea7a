"""The space of ToMe's layouts: a schedule from a few numbers, brought onto a budget by how much it merges."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from spaces.architecture import Architecture
from spaces.base import SearchSpace
from spaces.domains import Choice, FloatRange, IntRange, Parameter, ParameterValue, bounds, value_in
from spaces.errors import BudgetUnsatisfiable, InvalidInput
from spaces.layered import OneFloatSetting
from spaces.repair import smallest_power_that_fits
from spaces.tome import MetricFeature, ToMe

__all__ = ["ToMeSpace", "spread_schedule"]

_N_BENDS = 10  # steps in which a schedule is bent towards the input


def spread_schedule(r: float, inflection: float, n_blocks: int) -> tuple[int, ...]:
    """Spread ``r * n_blocks`` merges over blocks along a line from r * (1 - inflection) to r * (1 + inflection).

    Sums are rounded down, not terms: no fraction is lost, and a little more ``r`` is one more merge in one block.
    A whole ``r`` without inflection is ToMe's constant schedule.

    >>> spread_schedule(1.5, 0.0, 4), spread_schedule(8.0, -1.0, 5)
    ((1, 2, 1, 2), (16, 12, 8, 4, 0))
    """
    bend = inflection / max(1, n_blocks - 1)
    sums = [math.floor(r * (n + bend * n * (n - n_blocks))) for n in range(n_blocks + 1)]
    return tuple(after - before for before, after in itertools.pairwise(sums))


@dataclass(frozen=True)
class MergeDraw:
    """One draw: what each block merges on average, how the schedule bends, where it begins, and how it merges."""

    r: float
    inflection: float
    start_block: int
    prop_attn: bool
    metric_feature: str


class ToMeSpace(SearchSpace):
    """The layouts of ToMe that a search may try.

    The preset ``paper`` varies how much is merged and how the schedule bends; ``full`` varies every setting.

    Attributes:
        r: merges in a block on average; by default from 0 to as many as merge all patches by the last block.
        inflection: how the schedule bends, from -1 (most in the first block) to 1 (most in the last).
        start_block: the first block that merges.
        prop_attn: see ``ToMe``.
        metric_feature: see ``ToMe``.
    """

    method: Literal["tome"] = "tome"
    r: OneFloatSetting | None = None
    inflection: OneFloatSetting = FloatRange(low=-1.0, high=1.0)
    start_block: IntRange | int = 1
    prop_attn: Choice | bool = True
    metric_feature: Choice | MetricFeature = "key"

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "full": {
            "start_block": IntRange(low=1, high=6),
            "prop_attn": Choice(values=(True, False)),
            "metric_feature": Choice(values=("key", "query", "x")),
        },
    }

    @model_validator(mode="after")
    def _within_limits(self) -> ToMeSpace:
        limits = {"r": (0, math.inf), "inflection": (-1, 1), "start_block": (1, math.inf)}
        for name, (least, most) in limits.items():
            setting = getattr(self, name)
            if setting is not None and not least <= bounds(setting)[0] <= bounds(setting)[1] <= most:
                raise ValueError(f"{name} must be from {least} to {most}, got {setting}")
        return self

    def narrowed(self, architecture: Architecture) -> ToMeSpace:
        """Give the part of the space that this architecture allows, with a range for ``r``.

        Raises:
            InvalidInput: merging begins behind the last block.
        """
        depth = architecture.depth
        first, last = (int(end) for end in bounds(self.start_block))
        if first > depth:
            raise InvalidInput(
                f"the space begins to merge in block {first}, but {architecture.name} has only {depth} blocks: set "
                f"start_block to fit them"
            )
        changes: dict[str, Any] = {}
        if last > depth:
            changes["start_block"] = IntRange(low=first, high=depth) if first < depth else first
        if self.r is None:
            changes["r"] = FloatRange(low=0.0, high=architecture.n_patch / depth)
        return self.model_copy(update=changes)

    def parameters(self, architecture: Architecture) -> tuple[Parameter, ...]:
        """List the settings that are not fixed."""
        space = self.narrowed(architecture)
        named = [(name, getattr(space, name)) for name in MergeDraw.__dataclass_fields__]
        return tuple(
            Parameter(name, domain) for name, domain in named if isinstance(domain, IntRange | FloatRange | Choice)
        )

    def build(self, values: Mapping[str, ParameterValue], architecture: Architecture) -> ToMe:
        """Turn a draw into a layout that lists what each block merges."""
        return _layout(self.narrowed(architecture)._draw(values), architecture)

    def fit(self, values: Mapping[str, ParameterValue], architecture: Architecture, target_gflops: float) -> ToMe:
        """Bring a draw onto the budget, changing as little as is needed.

        ``r`` becomes the least with which the draw costs the target or just less. Only where even the largest costs
        too much does merging begin earlier; then the schedule bends towards the input; then the space's cheapest
        settings take over.

        Raises:
            BudgetUnsatisfiable: nothing in the space costs as little.
        """
        space = self.narrowed(architecture)
        _, most = bounds(space._r)
        for draw in space._ever_cheaper(space._draw(values), architecture):
            if _gflops(replace(draw, r=most), architecture) <= target_gflops:
                return space._matched(draw, architecture, target_gflops)
        raise BudgetUnsatisfiable(
            f"no layout of this space costs as little as {target_gflops:.4g} GFLOPs on {architecture.name}"
        )

    def extremes(self, architecture: Architecture) -> tuple[ToMe, ToMe]:
        """Give the cheapest and the dearest layout, found by changing one setting at a time."""
        space = self.narrowed(architecture)
        cheapest, dearest = (space._extreme_draw(architecture, dearest=end) for end in (False, True))
        return _layout(cheapest, architecture), _layout(dearest, architecture)

    @property
    def _r(self) -> FloatRange | float:
        if self.r is None:
            raise RuntimeError("the range of r depends on the architecture: narrow the space first")
        return self.r

    def _draw(self, values: Mapping[str, ParameterValue]) -> MergeDraw:
        names = MergeDraw.__dataclass_fields__
        return MergeDraw(**{name: value_in(getattr(self, name), values.get(name)) for name in names})

    def _ever_cheaper(self, draw: MergeDraw, architecture: Architecture) -> Iterator[MergeDraw]:
        for start_block in range(draw.start_block, int(bounds(self.start_block)[0]) - 1, -1):
            earlier = replace(draw, start_block=start_block)
            yield earlier
        bend = (bounds(self.inflection)[0] - draw.inflection) / _N_BENDS
        for step in range(1, _N_BENDS + 1):
            yield replace(earlier, inflection=max(-1.0, draw.inflection + step * bend))
        yield self._extreme_draw(architecture, dearest=False)

    def _matched(self, draw: MergeDraw, architecture: Architecture, target_gflops: float) -> ToMe:
        least, most = bounds(self._r)

        def merging(share: float) -> ToMe:
            return _layout(replace(draw, r=min(least + share * (most - least), most)), architecture)

        def fits(share: float) -> bool:
            return merging(share).cost(architecture).gflops <= target_gflops

        share = smallest_power_that_fits(fits)
        return merging(1.0 if share is None else share)

    def _extreme_draw(self, architecture: Architecture, *, dearest: bool) -> MergeDraw:
        """Find the cheapest or dearest draw: for each feature, one setting after the other until none changes it.

        Merging more or earlier costs less, but for what comparing costs: with wide features, where little is merged,
        more than it saves. So settings are gone through, not ends alone; from two merges a block on every block
        compares, and more merges only save.
        """

        def extreme(draws: Iterable[MergeDraw]) -> MergeDraw:
            return (max if dearest else min)(draws, key=lambda draw: _gflops(draw, architecture))

        (least, most), (low, high) = bounds(self._r), bounds(self.inflection)
        first, last = (int(end) for end in bounds(self.start_block))
        lengths = range(architecture.depth - last + 1, architecture.depth - first + 2)
        few = {n / length for length in lengths for n in range(1, 2 * length + 1)}
        features = self.metric_feature.values if isinstance(self.metric_feature, Choice) else (self.metric_feature,)
        settings: dict[str, tuple[Any, ...]] = {
            "r": (least, *(r for r in sorted(few) if least < r < most), most),
            "start_block": tuple(range(first, last + 1)),
            "inflection": (low, min(max(low, 0.0), high), high),
        }
        ends = (least, high, last) if dearest else (most, low, first)

        def descended(draw: MergeDraw) -> MergeDraw:
            before = None
            while draw != before:
                before = draw
                for name, values in settings.items():
                    draw = extreme([draw, *(replace(draw, **{name: value}) for value in values)])
            return draw

        return extreme(descended(MergeDraw(*ends, True, str(feature))) for feature in features)


def _layout(draw: MergeDraw, architecture: Architecture) -> ToMe:
    n_idle = draw.start_block - 1
    schedule = (0,) * n_idle + spread_schedule(draw.r, draw.inflection, architecture.depth - n_idle)
    return ToMe.parse({"r": schedule, "prop_attn": draw.prop_attn, "metric_feature": draw.metric_feature})


def _gflops(draw: MergeDraw, architecture: Architecture) -> float:
    return _layout(draw, architecture).cost(architecture).gflops
