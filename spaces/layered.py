"""Layouts that prune at a few chosen blocks, and what their settings look like in a space."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from spaces.architecture import Architecture
from spaces.base import PruningConfig
from spaces.cost import StageCost
from spaces.domains import FloatRange, IntRange
from spaces.errors import InvalidInput

__all__ = [
    "FloatSetting",
    "IntSetting",
    "LayeredConfig",
    "OneFloatSetting",
    "Places",
    "PlacesSetting",
    "PrunesAfter",
    "PrunesInside",
    "floor_stages",
    "last_place",
    "per_layer",
]


def _whole_range_as_float(setting: Any) -> Any:
    if isinstance(setting, dict) and setting.get("kind") == "int":
        return {**setting, "kind": "float"}
    if isinstance(setting, IntRange):
        return FloatRange(low=setting.low, high=setting.high, log=setting.log)
    return setting


def _increasing(places: tuple[int, ...]) -> tuple[int, ...]:
    if any(earlier >= later for earlier, later in pairwise(places)):
        raise ValueError(f"pruning layers must be strictly increasing, got {list(places)}")
    return places


T = TypeVar("T")
Places = Annotated[tuple[Annotated[int, Field(ge=1)], ...], AfterValidator(_increasing)]
KeepRate = Annotated[float, Field(gt=0, le=1)]
PlacesSetting = IntRange | tuple[int, ...] | None
IntSetting = IntRange | int | tuple[int, ...]
OneFloatSetting = Annotated[FloatRange | float, BeforeValidator(_whole_range_as_float)]
FloatSetting = Annotated[FloatRange | float | tuple[float, ...], BeforeValidator(_whole_range_as_float)]


def per_layer(setting: T | tuple[T, ...], index: int) -> T:
    """Give layer ``index`` its own value of a setting that all layers may share.

    >>> per_layer(10, 2), per_layer((10, 5, 0), 2)
    (10, 0)
    """
    return setting[index] if isinstance(setting, tuple) else setting


class LayeredConfig(PruningConfig):
    """A layout with pruning layers at a few blocks."""

    places_name: ClassVar[str]

    @property
    def places(self) -> tuple[int, ...]:
        """The numbers, from 1, of the blocks with a pruning layer."""
        places: tuple[int, ...] = getattr(self, self.places_name)
        return places

    @model_validator(mode="after")
    def _one_value_a_layer(self) -> LayeredConfig:
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != len(self.places):
                raise ValueError(
                    f"{name} must give one value for each of the {len(self.places)} pruning layers, got {list(value)}"
                )
        return self

    def check_layers(self, architecture: Architecture) -> None:
        """Refuse to prune at a block which the model does not have.

        Raises:
            InvalidInput: naming the layer and the model's depth.
        """
        if self.places and self.places[-1] > architecture.depth:
            most = last_place(self.places_name, architecture)
            raise InvalidInput(
                f"the layout prunes {self.places_name} block {self.places[-1]}, but {architecture.name} has only "
                f"{architecture.depth} blocks: use layers from 1 to {most}"
            )


class KeepsRates(LayeredConfig):
    """A layout whose layers keep a share of the patches that enter them.

    Attributes:
        keep_rate: that share, for each pruning layer; above 0, at most 1.
        min_tokens: patch tokens that always remain.
    """

    keep_rate: tuple[KeepRate, ...]
    min_tokens: Annotated[int, Field(ge=1)] = 1


class PrunesAfter(KeepsRates):
    """A layout with pruning layers behind blocks.

    Attributes:
        after: blocks executed before each pruning layer, increasing, from 1 to the model's depth.
    """

    after: Places

    places_name: ClassVar[str] = "after"


class PrunesInside(KeepsRates):
    """A layout with pruning layers between the attention and the MLP of blocks.

    Attributes:
        inside: the numbers of the blocks, from 1, increasing, up to the model's depth.
    """

    inside: Places

    places_name: ClassVar[str] = "inside"


def floor_stages(config: PrunesAfter, architecture: Architecture) -> list[StageCost]:
    """Work out token counts where each layer keeps floor(rate * patches), and choosing them costs nothing.

    Raises:
        InvalidInput: a layer lies beyond the model's depth.
    """
    config.check_layers(architecture)
    stages: list[StageCost] = []
    n_patch = architecture.n_patch
    for after, rate in zip(config.after, config.keep_rate, strict=True):
        # Floating-point artefacts included: int(100 * 0.29) is 28 in the reference codes too.
        n_out = min(max(int(n_patch * rate), config.min_tokens), n_patch)
        stages.append(StageCost(block=after, n_in=n_patch, n_out=n_out))
        n_patch = n_out
    return stages


def last_place(places_name: str, architecture: Architecture) -> int:
    """Give the last block at which pruning is worth while: behind the last one it saves the final norm alone."""
    return architecture.depth - 1 if places_name == "after" else architecture.depth
