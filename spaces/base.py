"""A layout (what is pruned where) and a space of layouts, for any method."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from spaces.architecture import Architecture
from spaces.cost import Cost, StageCost, cost_of
from spaces.domains import Parameter, ParameterValue
from spaces.errors import InvalidInput, UnsupportedModel, describe_problems
from spaces.profile import scaled, token_shares

__all__ = ["PruningConfig", "SearchSpace"]

Array = npt.NDArray[np.float64]


class PruningConfig(BaseModel, ABC):
    """A layout: one method and every setting it needs. Frozen, and the same for the same JSON.

    ``after`` counts executed blocks: 3 means between the third and the fourth block.

    Attributes:
        summary: which tokens the method takes away, in one line.
        paper: its arXiv number.
        cost_is_measured: whether the image decides how many tokens stay, so that what an image costs on average is
            known only once a layout was measured; before that, the least and the most that it can be.
        predicts_every_patch: whether each patch gets a prediction although its token may be gone, as segmentation
            needs it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: str

    summary: ClassVar[str]
    paper: ClassVar[str]
    cost_is_measured: ClassVar[bool] = False
    predicts_every_patch: ClassVar[bool] = False

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Build the layout from plain values.

        Raises:
            InvalidInput: naming everything that is wrong with ``values``.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise InvalidInput(f"not a {cls.__name__} layout: {describe_problems(error)}") from None

    @abstractmethod
    def stages(self, architecture: Architecture) -> Sequence[StageCost]:
        """Work out the integer token counts of every pruning layer, in the order in which they run.

        Where the image decides, they are the most that can stay.

        Raises:
            InvalidInput: the layout asks for layers or tokens that the model does not have.
        """

    @abstractmethod
    def effect(self, architecture: Architecture) -> dict[str, Any]:
        """Describe what the model will really do: integers where they decide, nothing that has no effect.

        Two layouts with equal effect are one candidate.
        """

    def require_task(self, architecture: Architecture) -> None:
        """Refuse a segmenter for a method that drops or merges tokens for good.

        Raises:
            UnsupportedModel: saying why, and which method does it.
        """
        if architecture.heads and not self.predicts_every_patch:
            raise UnsupportedModel(
                f"{self.method} cannot prune {architecture.name}: it takes tokens away for good, and a segmenter must "
                f"name the class of every patch, so that only dtop prunes it"
            )

    def cost(self, architecture: Architecture) -> Cost:
        """Count the multiply-adds of one image under this layout; the most that they can be.

        Raises:
            InvalidInput: the layout does not fit the model.
            UnsupportedModel: see ``require_task``.
        """
        self.require_task(architecture)
        return cost_of(architecture, self.stages(architecture))

    def least_cost(self, architecture: Architecture) -> Cost:
        """Count the least that an image can cost: less than ``cost`` only where the image decides."""
        return self.cost(architecture)

    def cost_of_image(self, architecture: Architecture, n_kept: Sequence[int]) -> Cost:
        """Count what one image costs, of which each pruning layer kept so many patches.

        Args:
            architecture: of the model.
            n_kept: one for each of ``stages``; ignored where the image does not decide.
        """
        return self.cost(architecture)

    def canonical_json(self) -> str:
        """Write the layout with sorted keys and no spaces: equal layouts, equal text."""
        return _canonical(self.model_dump(mode="json"))

    def digest(self, architecture: Architecture) -> str:
        """Name the layout by its effect on one architecture: 16 hexadecimal digits."""
        return hashlib.sha256(_canonical(self.effect(architecture)).encode()).hexdigest()[:16]


class SearchSpace(BaseModel, ABC):
    """The layouts of one method that a search may try: a domain, or a fixed value, for each setting.

    Attributes:
        presets: named settings.
        any_place: where it prunes if its places are searched, in words.
        aims_at_budgets: whether a draw can be brought onto a cost; if not, ``fit`` gives the draw as it is.
        drawn_as: the settings for which something else is drawn, by the name of that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: str
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    any_place: ClassVar[str] = "any block"
    aims_at_budgets: ClassVar[bool] = True
    drawn_as: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Build the space from plain values, as a file or a command line holds them.

        Raises:
            InvalidInput: naming everything that is wrong with ``values``.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise InvalidInput(f"not a space: {describe_problems(error)}") from None

    @abstractmethod
    def parameters(self, architecture: Architecture) -> tuple[Parameter, ...]:
        """List what a sampler draws: always the same parameters in the same order.

        A parameter that the others make inactive is drawn all the same; it never reaches the layout's effect.

        Raises:
            InvalidInput: the space asks for layers that the model does not have.
        """

    @abstractmethod
    def build(self, values: Mapping[str, ParameterValue], architecture: Architecture) -> PruningConfig:
        """Turn one draw of all ``parameters`` into a layout, whatever it costs."""

    def drawn_gflops(self, values: Mapping[str, ParameterValue], architecture: Architecture) -> float:
        """Say what a draw costs before it is brought onto a budget; a guess where only measuring tells."""
        return self.build(values, architecture).cost(architecture).gflops

    @abstractmethod
    def fit(
        self, values: Mapping[str, ParameterValue], architecture: Architecture, target_gflops: float
    ) -> PruningConfig:
        """Build the layout nearest to a draw that costs ``target_gflops``, from below, as far as can be known.

        Raises:
            BudgetUnsatisfiable: nothing in the space costs as little.
        """

    @abstractmethod
    def extremes(self, architecture: Architecture) -> tuple[PruningConfig, PruningConfig]:
        """Give the cheapest and the dearest layout of the space."""

    def values_of(
        self, config: PruningConfig, drawn: Mapping[str, ParameterValue], architecture: Architecture
    ) -> dict[str, ParameterValue]:
        """Give the draw that ``build`` would make a layout of, so far as a repair may have changed it.

        Args:
            config: a layout of this space.
            drawn: the draw that became it; what says nothing of the layout stays as it was drawn.
            architecture: of the model.
        """
        return dict(drawn)

    def profiles(
        self,
        draws: Sequence[Mapping[str, ParameterValue]],
        architecture: Architecture,
        targets: Sequence[float] | None = None,
    ) -> Array:
        """Describe what draws become by numbers that are near those of what does much the same, see ``spaces.profile``.

        Args:
            draws: of all ``parameters``.
            architecture: of the model.
            targets: what each is to cost, in GFLOPs; ``None`` for what they cost as they are drawn.

        Returns:
            (n_draw, n_number), a guess where that is quicker.

        Raises:
            BudgetUnsatisfiable: nothing in the space costs as little as a target.
        """
        if targets is None:
            layouts = [self.build(each, architecture) for each in draws]
        else:
            layouts = [self.fit(each, architecture, target) for each, target in zip(draws, targets, strict=True)]
        left = np.array([_left(layout.stages(architecture), architecture) for layout in layouts])
        settings = [scaled(each.domain, [draw[each.name] for draw in draws]) for each in self.parameters(architecture)]
        return np.concatenate((token_shares(left, architecture.n_patch), *settings), axis=1)

    def openings(self, architecture: Architecture) -> tuple[dict[str, ParameterValue], ...]:
        """Give what a search that learns begins with: parts of draws that differ much; chance decides the rest."""
        return ()


def _left(stages: Sequence[StageCost], architecture: Architecture) -> list[int]:
    """Give the patch tokens behind each block."""
    n_out = {stage.block: stage.n_out for stage in stages}
    left = [architecture.n_patch]
    for block in range(1, architecture.depth + 1):
        left.append(n_out.get(block, left[-1]))
    return left[1:]


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
