"""The space of DToP's layouts: which heads grade, how sure is sure, and what stays as context."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from spaces.architecture import Architecture
from spaces.base import PruningConfig, SearchSpace
from spaces.domains import Choice, FloatRange, IntRange, Parameter, ParameterValue, bounds, value_in
from spaces.dtop import DToP, Merge, Rule
from spaces.errors import BudgetUnsatisfiable
from spaces.layered import FloatSetting, OneFloatSetting

__all__ = ["DToPSpace"]

_GRADES_OR_NOT = Choice(values=(True, False))
_OPENING_DEPTHS = (5 / 6, 1 / 2, 1 / 6)  # of the range of doubts, on its log scale; with much, layouts are cheap


class DToPSpace(SearchSpace):
    """The layouts of DToP that a search may try.

    Heads that learned well are nearly sure of most tokens, so that what a layout costs is decided by the last digits of
    its ``p0``. Drawn is therefore the doubt that is allowed, 1 - p0, evenly on a log scale: from 0.9 to 0.99 is as far
    as from 0.99 to 0.999. No draw can be brought onto a budget, since only the images tell what it costs; one that
    certainly costs too much has more heads grade.

    The preset ``paper`` varies where tokens are graded, one ``p0`` for all heads, and ``k``; ``full`` varies every
    setting, with a ``p0`` for each head.

    Attributes:
        after: the heads that grade; by default any of those that can, or none.
        p0: see ``DToP``; a range ends below 1, where a head that grades would finish nothing.
        p0_by_head: whether each head has a ``p0`` of its own.
        k: see ``DToP``.
        rule: see ``DToP``.
        ratio: see ``DToP``.
        merge: see ``DToP``.
    """

    method: Literal["dtop"] = "dtop"
    after: tuple[int, ...] | None = None
    p0: FloatSetting = FloatRange(low=0.6, high=0.999)
    p0_by_head: Choice | bool = False
    k: IntRange | int = IntRange(low=0, high=20)
    rule: Choice | Rule = "topk"
    ratio: OneFloatSetting = 0.35
    merge: Choice | Merge = "official"

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "full": {
            "p0_by_head": True,
            "rule": Choice(values=("topk", "remove", "average", "fixed_ratio")),
            "ratio": FloatRange(low=0.1, high=0.8),
            "merge": Choice(values=("official", "exit_stage")),
        },
    }
    any_place: ClassVar[str] = "any heads"
    aims_at_budgets: ClassVar[bool] = False
    drawn_as: ClassVar[Mapping[str, str]] = {"doubt": "p0"}

    @model_validator(mode="after")
    def _within_limits(self) -> DToPSpace:
        for name, least, most in (("p0", 0, 1), ("ratio", 0, 1), ("k", 0, float("inf"))):
            setting = getattr(self, name)
            for each in setting if isinstance(setting, tuple) else (setting,):
                low, high = bounds(each)
                if not (least <= low <= high <= most) or (name == "p0" and low == 0):
                    raise ValueError(f"{name} must be from {least} to {most}, got {setting}")
        if isinstance(self.p0, FloatRange) and self.p0.high == 1:
            raise ValueError(
                f"p0 must be a range below 1, at which a head finishes nothing, got {self.p0}: end it at 0.999, or "
                f"leave the head out of after"
            )
        if isinstance(self.p0, tuple) and (self.after is None or len(self.after) != len(self.p0)):
            raise ValueError(f"a list p0 needs the heads that it is for in after, got p0 {list(self.p0)}")
        return self

    def parameters(self, architecture: Architecture) -> tuple[Parameter, ...]:
        """List the settings that are not fixed; each head that can grade is asked for its own."""
        heads = self._heads(architecture)
        named: list[tuple[str, Any]] = [(f"after_{after}", _GRADES_OR_NOT) for after in heads if self.after is None]
        named += [("p0_by_head", self.p0_by_head)]
        if self.p0_by_head is not True:
            named += [("doubt", self._doubt())]
        if self.p0_by_head is not False:
            named += [(f"doubt_{after}", self._doubt()) for after in heads]
        named += [(name, getattr(self, name)) for name in ("k", "rule", "ratio", "merge")]
        domains = IntRange | FloatRange | Choice
        return tuple(Parameter(name, domain) for name, domain in named if isinstance(domain, domains))

    def build(self, values: Mapping[str, ParameterValue], architecture: Architecture) -> DToP:
        """Turn one draw into a layout."""
        heads = self._heads(architecture)
        after = tuple(head for head in heads if self.after is not None or values[f"after_{head}"])
        p0 = self.p0
        if isinstance(p0, FloatRange):
            has_own = value_in(self.p0_by_head, values.get("p0_by_head"))
            p0 = tuple(1 - float(values[f"doubt_{head}" if has_own else "doubt"]) for head in after)
        drawn = {name: value_in(getattr(self, name), values.get(name)) for name in ("k", "rule", "ratio", "merge")}
        return DToP.parse({"after": after, "p0": p0, **drawn})

    def drawn_gflops(self, values: Mapping[str, ParameterValue], architecture: Architecture) -> float:
        """Give the least that a draw can cost: a draw misses a budget if it certainly does."""
        return self.build(values, architecture).least_cost(architecture).gflops

    def fit(self, values: Mapping[str, ParameterValue], architecture: Architecture, target_gflops: float) -> DToP:
        """Build the layout as it is drawn, unless it certainly costs too much: then earlier heads grade as well.

        Where that does not help either, the cheapest settings take over. What a layout costs is known only once it was
        measured.

        Raises:
            BudgetUnsatisfiable: certainly nothing in the space costs as little.
        """
        for layout in self._ever_cheaper(values, architecture):
            if layout.least_cost(architecture).gflops <= target_gflops:
                return layout
        raise BudgetUnsatisfiable(
            f"no layout of this space costs as little as {target_gflops:.4g} GFLOPs on {architecture.name}"
        )

    def _ever_cheaper(self, values: Mapping[str, ParameterValue], architecture: Architecture) -> Iterator[DToP]:
        yield self.build(values, architecture)
        grading = dict(values)
        for head in self._heads(architecture) if self.after is None else ():
            grading[f"after_{head}"] = True
            yield self.build(grading, architecture)
        cheapest, _ = self.extremes(architecture)
        yield self.build(self.values_of(cheapest, values, architecture), architecture)

    def values_of(
        self, config: PruningConfig, drawn: Mapping[str, ParameterValue], architecture: Architecture
    ) -> dict[str, ParameterValue]:
        """Give the draw with the layout's heads and settings; what it doubts stays as it was drawn."""
        if not isinstance(config, DToP):
            raise TypeError(f"{type(config).__name__} is no layout of {type(self).__name__}")
        settled = {f"after_{head}": head in config.after for head in self._heads(architecture)}
        settled |= {name: getattr(config, name) for name in ("k", "rule", "ratio", "merge")}
        return {name: settled.get(name, value) for name, value in drawn.items()}

    def extremes(self, architecture: Architecture) -> tuple[DToP, DToP]:
        """Give the layout that can cost the least, and the one that can cost the most."""
        layouts = [self.build(draw, architecture) for draw in self._corners(architecture)]
        return (
            min(layouts, key=lambda layout: layout.least_cost(architecture).macs),
            max(layouts, key=lambda layout: layout.cost(architecture).macs),
        )

    def openings(self, architecture: Architecture) -> tuple[dict[str, ParameterValue], ...]:
        """Give every head alone, then all together, with much, some and little doubt allowed."""
        heads, doubt = self._heads(architecture), self._doubt()
        if doubt is None or self.after is not None:
            return ()
        names = [each.name for each in self.parameters(architecture) if each.name.startswith("doubt")]
        allowed = [doubt.low * (doubt.high / doubt.low) ** depth for depth in _OPENING_DEPTHS]
        grading = [{head} for head in heads] + [set(heads)] * (len(heads) > 1)
        begun: list[dict[str, ParameterValue]] = []
        for each, chosen in itertools.product(allowed, grading):
            begun.append({f"after_{head}": head in chosen for head in heads})
            begun[-1].update(dict.fromkeys(names, each))
        return tuple(begun)

    def _doubt(self) -> FloatRange | None:
        """Say how unsure of a token a head that finishes it may be; ``None`` where ``p0`` is not drawn."""
        if not isinstance(self.p0, FloatRange):
            return None
        return FloatRange(low=round(1 - self.p0.high, 12), high=round(1 - self.p0.low, 12), log=True)

    def _heads(self, architecture: Architecture) -> tuple[int, ...]:
        """Give the heads that may grade, refusing a model that lacks them."""
        early = tuple(head.after for head in architecture.heads[:-1])
        after = early if self.after is None else self.after
        DToP(after=after).require_heads(architecture)
        return after

    def _corners(self, architecture: Architecture) -> Iterator[dict[str, ParameterValue]]:
        """Go through all ends of numbers, and all choices."""
        ends: dict[str, tuple[ParameterValue, ...]] = {}
        for each in self.parameters(architecture):
            domain = each.domain
            ends[each.name] = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
            if each.name.startswith("doubt") and isinstance(domain, FloatRange):
                ends[each.name] = (domain.low,)  # decides neither the least nor the most that may stay
        for corner in itertools.product(*ends.values()):
            yield dict(zip(ends, corner, strict=True))
